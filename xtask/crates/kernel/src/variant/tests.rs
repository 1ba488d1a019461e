// SPDX-License-Identifier: MIT OR Apache-2.0
use std::collections::BTreeSet;

use super::*;
use crate::config;
use vmtest_base::error::Class;

fn kconfig_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../kconfig")
}

fn refused(text: &str, says: &str) {
    let error = parse(&kconfig_dir(), "x", text).expect_err(says);
    assert_eq!(error.class, Class::Usage);
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn every_variant_of_the_project_can_be_read() {
    let names = list(&kconfig_dir()).expect("kconfig/ is there");
    assert!(names.contains(&"default".to_owned()));
    for name in names {
        let variant = load(&kconfig_dir(), &name).expect("readable");
        config::read(&variant.fragments).expect("well-formed fragments");
    }
}

#[test]
fn default_holds_every_fragment_and_the_others_build_on_it() {
    let default = load(&kconfig_dir(), "default").expect("there");
    let listed: BTreeSet<&PathBuf> = default.fragments.iter().collect();
    for entry in fs::read_dir(kconfig_dir().join("fragments")).expect("there") {
        let path = entry.expect("readable").path();
        assert!(path.is_dir() || listed.contains(&path), "{} is in no default", path.display());
    }
    for name in list(&kconfig_dir()).expect("there") {
        let variant = load(&kconfig_dir(), &name).expect("readable");
        assert!(variant.fragments.starts_with(&default.fragments), "{name} begins as default does");
    }
}

#[test]
fn without_a_jit_nothing_asks_for_it() {
    let nojit = load(&kconfig_dir(), "nojit").expect("there");
    let text = config::read(&nojit.fragments).expect("well-formed").merged_text();
    assert!(text.contains("# CONFIG_BPF_JIT is not set\n"));
    assert!(text.contains("# CONFIG_BPF_JIT_ALWAYS_ON is not set\n"));
}

#[test]
fn with_the_interpreter_the_jit_is_there_and_off() {
    let interp = load(&kconfig_dir(), "interp").expect("there");
    let text = config::read(&interp.fragments).expect("well-formed").merged_text();
    assert!(text.contains("CONFIG_BPF_JIT=y\n"));
    assert!(text.contains("# CONFIG_BPF_JIT_ALWAYS_ON is not set\n"));
    assert_eq!(interp.sysctls, [("net.core.bpf_jit_enable".to_owned(), "0".to_owned())]);
}

/// The runner's source defines what it reads; a condition on any other name would never be met.
#[test]
fn every_condition_is_about_something_that_the_runner_reads() {
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../selftests/src/features.rs");
    let runner = fs::read_to_string(runner).expect("the runner's source");
    for name in list(&kconfig_dir()).expect("there") {
        for condition in load(&kconfig_dir(), &name).expect("readable").conditions {
            let word = condition.read.strip_prefix("cpu.").unwrap_or(&condition.read);
            assert!(runner.contains(&format!("\"{word}\"")), "{name}: nobody reads {}", condition.read);
        }
    }
}

#[test]
fn an_unknown_name_lists_what_there_is() {
    for name in ["nope", "../default", "Default", ""] {
        let error = load(&kconfig_dir(), name).expect_err(name);
        assert_eq!(error.class, Class::Usage);
        assert!(
            error.to_string().contains("debug, default, failnth, faults, harden, ibt, interp, nojit"),
            "{error}"
        );
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let good = "about = 'x'\nfragments = ['fragments/bpf.config']\n";
    assert_eq!(parse(&kconfig_dir(), "x", good).expect("good").compiler, Compiler::Gcc);
    let full = format!(
        "{good}compiler = 'clang'\ncmdline = ['a=b']\ncpu = 'max'\nmemory_mib = 512\nslowdown = 3\nsysctls = {{ 'kernel.x' = '1' }}"
    );
    let full = parse(&kconfig_dir(), "x", &full).expect("good");
    assert_eq!(full.sysctls, [("kernel.x".to_owned(), "1".to_owned())]);
    assert_eq!((full.slowdown, parse(&kconfig_dir(), "x", good).expect("good").slowdown), (3, 1));
    refused(&format!("{good}slowdown = 0"), "slowdown");
    refused(&format!("{good}slowdown = 33"), "slowdown");
    refused(&format!("{good}[[condition]]\nwhat = 'x'\nread = 'y'\nis = '('"), "makes no sense");
    refused(&format!("{good}[[condition]]\nwhat = 'x'\nread = 'y'\nis = '.*'"), "fits the empty text");
    refused(&format!("{good}[[condition]]\nwhat = ''\nread = 'y'\nis = 'z'"), "have to say something");
    refused(&format!("{good}colour = 'red'"), "unknown field `colour`");
    refused(&format!("{good}compiler = 'tcc'"), "tcc");
    refused(&format!("{good}cmdline = ['a b']"), "not one word");
    refused(&format!("{good}cmdline = ['a=\"b\"']"), "not one word");
    for word in ["quiet", "\"quiet\"", "a quiet", "sysctl/kernel/printk=1", "panic=0", "--"] {
        refused(&format!("{good}cmdline = ['{word}']"), "is reserved for the harness");
    }
    refused(&format!("{good}sysctls = {{ 'kernel/printk' = '1' }}"), "is reserved for the harness");
    // Otherwise the second word would become a kernel parameter.
    refused(&format!("{good}sysctls = {{ 'kernel.x' = '1 quiet' }}"), "not one word");
    for word in ["clean", "--eval=x", "O=a b", "=x", "a/b=c"] {
        refused(&format!("{good}make = ['{word}']"), "not NAME=value");
    }
    refused(&format!("{good}sysctls = {{ 'a b' = '1' }}"), "not a sysctl");
    refused("about = 'x'\nfragments = []", "is empty");
    refused("about = 'x'\nfragments = ['../x']", "not a path below kconfig/");
    refused("about = 'x'\nfragments = ['fragments/none.config']", "no such fragment");
}
