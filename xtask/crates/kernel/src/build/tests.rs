// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn make_lines_are_recognised() {
    assert_eq!(object_built("  CC      kernel/bpf/trampoline.o"), Some("kernel/bpf/trampoline.o"));
    assert_eq!(object_built("  GEN     arch/x86/include/generated/x.h"), None);
    assert_eq!(object_built("kernel/x.c:1:2: error: CC"), None);
}

#[test]
fn only_what_kconfig_reads_configures_again() {
    assert!(changes_config("kernel/trace/Kconfig"));
    assert!(changes_config("lib/Kconfig.debug"));
    assert!(changes_config("scripts/gcc-version.sh"));
    assert!(!changes_config("kernel/bpf/trampoline.c"));
}
