// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn subjects_give_version_and_place() {
    let tags = Tags::of("[PATCH bpf-next v9 03/11] bpf: x [sic]");
    assert_eq!((tags.version, tags.place, tags.subject.as_str()), (9, Some((3, 11)), "bpf: x [sic]"));
    assert_eq!(Tags::of("[RFC][PATCHv2 0/2] y").version, 2);
    assert!(Tags::of("[RFC][PATCHv2 0/2] y").is_cover());
    assert_eq!(
        Tags::of("[net-next,v3,1/2] y"),
        Tags { reply: false, patch: true, version: 3, place: Some((1, 2)), subject: "y".into() }
    );
    assert_eq!(Tags::of("kernel/x: no brackets").place, None);
    let robot = Tags::of("[linux-next:master 1234/5678] kernel/x.c:1: warning: y");
    assert!(!robot.patch && robot.place.is_none(), "{robot:?}");
    assert_eq!(Tags::of("[PATCH 1/0] z").place, None);
}

#[test]
fn replies_and_forwarded_mails_are_known_in_many_languages() {
    for before in [
        "Re: ",
        "RE: ",
        "re:",
        "Re : ",
        "Re[2]: ",
        "Re(3): ",
        "Re^2: ",
        "Re: Re: ",
        "AW: ",
        "Aw: ",
        "Antw: ",
        "SV: ",
        "Fwd: ",
        "FW: ",
        "WG: ",
        "Odp: ",
        "回复: ",
        "回复：",
        "答复: ",
        "转发: ",
        "RES: ",
        "VS: ",
        "Ynt: ",
        "[External] Re: ",
        "[EXT] AW: ",
        "Re: [External] ",
        "[External] [SPAM?] Re: Fwd: ",
        "Automatic reply: ",
        "Re: [bpf] Re: ",
        "Accepted: ",
    ] {
        let tags = Tags::of(&format!("{before}[PATCH bpf-next v2 1/2] bpf: x"));
        assert!(tags.reply, "{before}");
        assert_eq!((tags.place, tags.subject.as_str()), (Some((1, 2)), "bpf: x"), "{before}");
    }
    for whole in ["[syzbot ci] Re: bpf: remarks", "Re: bpf: x", "AW: bpf: x", "[bpf?] Re: x"] {
        assert!(Tags::of(whole).reply, "{whole}");
    }
}

#[test]
fn a_patch_is_not_taken_for_a_reply() {
    for whole in [
        "[PATCH] bpf: x",
        "[PATCH 1/2] re: x",
        "[PATCH] Re: what [PATCH] said",
        "[External] [PATCH v2 1/2] bpf: x",
        "[PATCH] [RFC] x",
        "bpf: x",
        "net: implement [RFC 5681]",
        "net: [RFC 5681] y",
        "bpf: x [PATCH v2]",
        "resolve_btfids: x",
        "svm: x",
        "fwctl: x",
    ] {
        assert!(!Tags::of(whole).reply, "{whole}");
    }
}
