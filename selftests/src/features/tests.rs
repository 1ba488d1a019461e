// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn a_flag_is_a_whole_word_of_the_line_of_flags() {
    let cpuinfo = "processor\t: 0\nmodel name\t: ibt\nflags\t\t: fpu ibtx ibt pse\nbugs\t\t: spectre_v2\n";
    assert_eq!(flag_of(cpuinfo, "ibt"), "yes");
    assert_eq!(flag_of(cpuinfo, "spectre_v2"), "no");
    assert_eq!(flag_of("processor\t: 0\n", "ibt"), "unknown");
}

#[test]
fn cookies_are_limited_where_btf_says_so() {
    let mut features = Features::default();
    assert_eq!(Profile::of(&features).cookie_limit, None);
    features.btf.values.insert(MAX_COOKIES.to_owned(), 4);
    assert_eq!(Profile::of(&features).cookie_limit, Some(4));
}

#[test]
fn rules_that_differ_go_by_members_of_structs() {
    let profile = |members: &[(&str, bool)]| {
        let mut features = Features::default();
        features.btf.members = members.iter().map(|&(name, has)| (name.to_owned(), has)).collect();
        Profile::of(&features)
    };
    let skips = |has| profile(&[("bpf_tramp_image.skips", has)]).in_flight;
    assert_eq!(skips(true), Some(InFlight::OfTheDetached));
    assert_eq!(skips(false), Some(InFlight::OfEveryProgram));
    let owner = |has| profile(&[("bpf_map_owner.call_session_cookie", has)]).compares_cookies_of_callees;
    assert_eq!((owner(true), owner(false)), (Some(true), Some(false)));
    let none = profile(&[]);
    assert_eq!((none.in_flight, none.compares_cookies_of_callees), (None, None));
    assert!(none.in_flight_rule().contains("unknown"));
}

#[test]
fn the_prototype_is_what_both_kfuncs_have() {
    let prototype = |cookie: usize, is_return: usize| {
        let mut features = Features::default();
        features.btf.funcs.insert(COOKIE.to_owned(), btf::Func { id: 1, proto: 3, params: cookie });
        features.btf.funcs.insert(IS_RETURN.to_owned(), btf::Func { id: 2, proto: 4, params: is_return });
        Profile::of(&features).kfunc_prototype
    };
    assert_eq!(prototype(0, 0), Some("(void)"));
    assert_eq!(prototype(1, 1), Some("(void *ctx)"));
    assert_eq!((prototype(0, 1), prototype(2, 2)), (None, None));
}
