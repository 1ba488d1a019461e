// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn params(cmdline: &str) -> Params {
    Params::parse(&format!("console=ttyS0 vmtest.nonce=n1 vmtest.port=ttyS1 {cmdline}")).expect("names a run")
}

#[test]
fn without_a_nonce_or_port_it_is_no_run() {
    assert_eq!(Params::parse("console=ttyS0 quiet"), None);
    assert_eq!(Params::parse("vmtest.nonce=n1"), None);
    assert_eq!(Params::parse("vmtest.port=ttyS1"), None);
}

#[test]
fn defaults_run_everything() {
    let p = params("");
    assert_eq!((p.nonce.as_str(), p.port.as_str()), ("n1", "ttyS1"));
    assert_eq!((p.tests.len(), p.effort, p.self_test, p.shell), (0, Effort::Normal, None, false));
    assert_eq!((p.repeat, p.until_fail, p.time), (1, false, None));
    assert_eq!((p.exec, p.bpftool, p.upstream, p.trouble), (None, None, None, None));
}

#[test]
fn every_key_is_read() {
    let p = params(
        "vmtest.test=basic/*,cookie/bits vmtest.effort=quick vmtest.selftest=blind vmtest.exec=ZWNobyBoaQ== \
         vmtest.repeat=7 vmtest.untilfail=1 vmtest.seconds=90 \
         vmtest.provoke=1 vmtest.icount=1 vmtest.bpftool=/obj/bpftool vmtest.upstream=/vm/u.json \
         vmtest.sysctl=net.core.bpf_jit_enable=0 \"vmtest.sysctl=kernel.core_pattern=a b\"",
    );
    assert_eq!(p.tests, ["basic/*", "cookie/bits"]);
    assert_eq!((p.effort, p.self_test), (Effort::Quick, Some(SelfTest::Blind)));
    assert_eq!((p.repeat, p.until_fail, p.time), (7, true, Some(Duration::from_secs(90))));
    assert!(p.icount && !params("").icount);
    assert!(p.provoke && !params("").provoke && !params("vmtest.provoke=yes").provoke);
    assert_eq!(p.exec.as_deref(), Some("echo hi"));
    assert_eq!(p.bpftool.as_deref(), Some("/obj/bpftool"));
    assert_eq!(p.upstream.as_deref(), Some("/vm/u.json"));
    assert_eq!(p.sysctls[0], ("net.core.bpf_jit_enable".into(), "0".into()));
    assert_eq!(p.sysctls[1], ("kernel.core_pattern".into(), "a b".into()));
}

#[test]
fn a_wish_not_understood_is_trouble_not_a_default() {
    for wrong in [
        "vmtest.effort=thorough",
        "vmtest.selftest=1",
        "vmtest.sysctl=kernel.panic",
        "vmtest.exec=%%%",
        "vmtest.repeat=often",
        "vmtest.repeat=0",
        "vmtest.seconds=-1",
    ] {
        assert!(params(wrong).trouble.is_some(), "{wrong}");
    }
}
