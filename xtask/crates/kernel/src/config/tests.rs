// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn requests(texts: &[&str]) -> Requests {
    let mut requests = Requests::default();
    for (at, text) in texts.iter().enumerate() {
        requests.add(&format!("f{at}"), text).expect("well-formed");
    }
    requests
}

/// Taken from a 7.3 configuration with the default fragments.
const DOTCONFIG: &str = "#\n# Automatically generated file; DO NOT EDIT.\n#\nCONFIG_CC_VERSION_TEXT=\"gcc (Debian \
                         14.2.0-19) 14.2.0\"\nCONFIG_BPF=y\nCONFIG_BPF_JIT=y\n# CONFIG_COREDUMP is not set\n\
                         CONFIG_PANIC_TIMEOUT=-1\nCONFIG_SYSCTL=y\nCONFIG_NR_CPUS=64\n";

#[test]
fn requests_go_on_top_of_a_whole_configuration() {
    let mut requests = requests(&["CONFIG_BPF=y\n"]);
    assert_eq!(requests.target(), "allnoconfig");
    let before = requests.key();
    let base = "# Linux\nCONFIG_BPF=n\nCONFIG_KVM=m\n# CONFIG_SMP is not set\nCONFIG_CMDLINE=\"quiet\"\n\
                # CONFIG_PRINTK is not set\nCONFIG_SYSTEM_TRUSTED_KEYS=\"certs/x.pem\"\nCONFIG_ODD=a b\n";
    let left_out = requests.put_on(".config", base).expect("a configuration");
    let expected = [
        "CONFIG_CMDLINE=\"quiet\"",
        "# CONFIG_PRINTK is not set",
        "CONFIG_SYSTEM_TRUSTED_KEYS=\"certs/x.pem\"",
    ];
    assert_eq!(left_out, expected);
    assert_eq!(requests.merged_text(), "CONFIG_KVM=m\n# CONFIG_SMP is not set\nCONFIG_BPF=y\n");
    assert_eq!(requests.target(), "alldefconfig");
    assert_ne!(requests.key(), before);
    let error = Requests::default().put_on("README", "text\n").expect_err("no configuration").to_string();
    assert!(error.contains("README is not a kernel configuration"), "{error}");
}

#[test]
fn a_dotconfig_is_read() {
    let config = vmtest_base::dotconfig::parse(DOTCONFIG);
    assert_eq!(config["BPF_JIT"], "y");
    assert_eq!(config["COREDUMP"], "n");
    assert_eq!(config["CC_VERSION_TEXT"], "\"gcc (Debian 14.2.0-19) 14.2.0\"");
    assert_eq!(config.len(), 7);
}

#[test]
fn later_fragments_override_and_the_text_is_merged() {
    let merged =
        requests(&["CONFIG_BPF_JIT=y\nCONFIG_A=\"x y\"\n", "CONFIG_BPF_JIT=n\n# CONFIG_B is not set\n"]);
    assert_eq!(
        merged.merged_text(),
        "CONFIG_A=\"x y\"\n# CONFIG_B is not set\n# CONFIG_BPF_JIT is not set\n"
    );
    assert_eq!(merged.by_option["BPF_JIT"].origin, "f1:1");
    let elsewhere = requests(&["# moved\n\nCONFIG_A=\"x y\"\nCONFIG_BPF_JIT=n\nCONFIG_B=n\n"]);
    assert_eq!(merged.key(), elsewhere.key());
    assert_ne!(merged.key(), requests(&["CONFIG_B=n"]).key());
}

#[test]
fn what_the_result_does_not_hold_is_lost() {
    let wanted = requests(&["CONFIG_BPF_JIT=n\nCONFIG_COREDUMP=n\nCONFIG_ABSENT=n\nCONFIG_NR_CPUS=8\n\
                             CONFIG_PANIC_TIMEOUT=-1\nCONFIG_BPF_EVENTS=y\n"]);
    let lost = lost(&wanted, &vmtest_base::dotconfig::parse(DOTCONFIG));
    let seen: Vec<_> =
        lost.iter().map(|one| (one.option.as_str(), one.wanted.as_str(), one.got.as_str())).collect();
    assert_eq!(seen, [("BPF_EVENTS", "y", "n"), ("BPF_JIT", "n", "y"), ("NR_CPUS", "8", "64")]);
    assert_eq!(lost[0].origin, "f0:6");
}

#[test]
fn of_an_either_block_one_line_is_enough() {
    let block = "# vmtest: either\nCONFIG_PROC_SYSCTL=y\nCONFIG_SYSCTL=y\n# vmtest: end\n";
    let config = vmtest_base::dotconfig::parse(DOTCONFIG);
    assert_eq!(lost(&requests(&[block]), &config), []);
    let none = block.replace("SYSCTL", "SYSCTX");
    assert_eq!(lost(&requests(&[&none]), &config).len(), 2);
    // A separate request after the block must hold by itself.
    assert_eq!(lost(&requests(&[block, "CONFIG_PROC_SYSCTL=y\n"]), &config).len(), 1);
}

#[test]
fn malformed_lines_are_named() {
    for (text, says) in [
        ("CONFIG_A=yes", "f:1: the value is neither"),
        ("\nCONFIG_A", "f:2: it has no `=`"),
        ("CONFIG_A=y # why", "f:1: the value"),
        ("CONFIG_A B=y", "f:1: not a valid option name"),
        ("A=y", "f:1: it does not request an option"),
        ("CONFIG_A=y\nCONFIG_A=n", "f:2: it contradicts line 1"),
        ("# vmtest: eihter", "f:1: no such directive"),
        ("# vmtest: either\nCONFIG_A=y", "f:1: `either` has no `end`"),
        ("# vmtest: end", "f:1: `end` without"),
    ] {
        let error = Requests::default().add("f", text).expect_err(text);
        assert_eq!(error.class, Class::Usage);
        assert!(error.what.contains(says), "{error}");
    }
}

#[test]
fn the_error_names_option_values_origin_and_cause() {
    let one = Lost {
        option: "BPF_EVENTS".into(),
        wanted: "y".into(),
        got: "n".into(),
        origin: "kconfig/fragments/tracing.config:18".into(),
        missing: vec!["BPF_EVENTS needs (A || B): both are n".into(), "A needs C: it is n".into()],
    };
    let error = lost_error(std::slice::from_ref(&one), "src:6.18.15");
    assert_eq!(error.class, Class::OptionLost);
    assert_eq!(
        error.summary(),
        "src:6.18.15: a requested option is lost: CONFIG_BPF_EVENTS=y became n (requested at \
         kconfig/fragments/tracing.config:18): BPF_EVENTS needs (A || B): both are n"
    );
    assert_eq!(error.detail, ["  A needs C: it is n"]);
    let two = lost_error(&[one.clone(), one], "k");
    assert_eq!(two.detail.len(), 6);
}

#[test]
fn origins_are_shown_from_the_project_on() {
    assert_eq!(shown(Path::new("/x/y/kconfig/fragments/a.config")), "kconfig/fragments/a.config");
    assert_eq!(shown(Path::new("a.config")), "a.config");
}
