// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn what_silences_a_kernel_or_lets_a_dead_one_go_on_is_refused_in_every_spelling() {
    for text in [
        "quiet",
        "\"quiet\"",
        "'quiet'",
        "\"loglevel=1\"",
        "lo\"glevel=1",
        "QUIET",
        "foo quiet",
        "foo\tquiet",
        "foo\u{a0}quiet",
        // Its second byte is a space for the kernel.
        "fooàquiet",
        "loglevel=1",
        "loglevel",
        "ignore_loglevel",
        "ignore-loglevel",
        "printk.console_no_auto_verbose",
        "printk.console-no-auto-verbose=1",
        "printk.ignore_loglevel=0",
        "printk.devkmsg=off",
        "printk.time=0",
        "console=",
        "console=null",
        "console=tty0",
        "console_msg_format=syslog",
        "console-msg-format=syslog",
        "earlyprintk=vga",
        "earlycon=uart,io,0x2f8",
        "panic=0",
        "panic=30",
        "panic",
        "panic_print=0",
        "panic-timeout=9",
        "panic_on_warn=0",
        "panic_on_oops=0",
        "panic-on-oops=0x0",
        "oops=",
        "oops=continue",
        "pause_on_oops=60",
        "reboot=w",
        "vmtest.selftest=turned",
        "vmtest.nonce=1",
        "vmtest.provoke",
        "vmtest.provoke=0",
        "vmtest.provoke=1 vmtest.nonce=1",
        "sysctl.kernel.printk=1",
        "sysctl/kernel/printk=1",
        "sysctl.kernel/printk=1",
        "sysctl.kernel..printk=1",
        "sysctl.kernel.panic_on_oops=0",
        "\"sysctl.kernel.printk=1 1 1 1\"",
        "sysctl.kernel.tainted=0",
        "bootconfig",
        "--",
        "\"--\"",
        "a -- b",
    ] {
        assert!(in_cmdline(text).is_some(), "{text:?}");
    }
}

#[test]
fn what_hides_nothing_is_free() {
    for text in [
        "",
        "nosmp",
        "debug",
        "initcall_debug",
        "nosoftlockup",
        "nowatchdog",
        "hung_task_panic=0",
        "softlockup_panic=1",
        "rcupdate.rcu_cpu_stall_suppress=1",
        "watchdog_thresh=3",
        "panic_on_warn=1",
        "panic_on_warn",
        "panic_on_taint=0x200,nousertaint",
        "rdinit=/nothing",
        "spectre_v2=retpoline",
        "retbleed=stuff",
        "quietly=1",
        "consoleblank=0",
        "log_buf_len=4M",
        "dyndbg=+p",
        "sysctl.net.core.bpf_jit_harden=2",
        "sysctl.kernel.panic_on_warn=1",
        "xsysctl.kernel.printk=1",
        "vmtest.provoke=1",
    ] {
        assert_eq!(in_cmdline(text), None, "{text:?}");
    }
}

#[test]
fn sysctls_are_paths_however_they_are_written() {
    for (name, value) in [
        ("kernel.printk", "1"),
        ("kernel/printk", "1"),
        ("/kernel/printk", "1"),
        ("kernel//printk", "1"),
        ("kernel.printk_ratelimit", "0"),
        ("kernel.printk_devkmsg", "off"),
        ("kernel.panic", "0"),
        ("kernel/panic", "60"),
        ("kernel.panic_on_oops", "0"),
        ("kernel.panic_on_oops", "00"),
        ("kernel.panic_on_oops", "-0"),
        ("kernel.panic_on_warn", "0x0"),
        ("kernel.panic_print", "0"),
        ("kernel.tainted", "512"),
        ("kernel.sysrq", "0"),
    ] {
        assert!(of_sysctl(name, value).is_some(), "{name}={value}");
    }
    for (name, value) in [
        ("kernel.panic_on_rcu_stall", "1"),
        ("kernel.panic_on_warn", "1"),
        ("kernel.hardlockup_panic", "1"),
        ("kernel.hung_task_timeout_secs", "5"),
        ("net.core.bpf_jit_enable", "0"),
        ("vm.panic_on_oom", "1"),
    ] {
        assert_eq!(of_sysctl(name, value), None, "{name}={value}");
    }
}

#[test]
fn a_configuration_brings_none_of_it_along() {
    for (option, value) in [
        ("PRINTK", "n"),
        ("BUG", "n"),
        ("SERIAL_8250_CONSOLE", "n"),
        ("CMDLINE", "\"nosmp quiet\""),
        ("CMDLINE", "\"panic=0\""),
        ("CMDLINE_OVERRIDE", "y"),
        ("BOOT_CONFIG_EMBED", "y"),
    ] {
        assert!(of_option(option, value).is_some(), "{option}={value}");
    }
    // `ignore_loglevel` overrides the console's log level.
    for (option, value) in [
        ("PRINTK", "y"),
        ("CMDLINE", "\"nosmp\""),
        ("CMDLINE_BOOL", "y"),
        ("CMDLINE_OVERRIDE", "n"),
        ("CONSOLE_LOGLEVEL_DEFAULT", "1"),
        ("PANIC_TIMEOUT", "-1"),
    ] {
        assert_eq!(of_option(option, value), None, "{option}={value}");
    }
}

#[test]
fn the_error_says_what_where_why_and_what_else() {
    let error = in_cmdline("\"quiet\"").expect("reserved").refused("--append `\"quiet\"`").to_string();
    for part in ["--append `\"quiet\"` cannot be used: `quiet` is", "evidence", "leave it out"] {
        assert!(error.contains(part), "{error}");
    }
}
