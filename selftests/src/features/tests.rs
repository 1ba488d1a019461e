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
fn versions_are_read_from_any_release() {
    let version =
        |release: &str| Profile::of(&Features { release: release.to_owned(), ..Features::default() }).version;
    assert_eq!(version("7.3.4"), (7, 3));
    assert_eq!(version("7.0.13+deb13-cloud-amd64"), (7, 0));
    assert_eq!(version("6.18-rc1"), (6, 18));
    assert_eq!(version("7.10-rc1"), (7, 10));
    assert_eq!(version(""), (0, 0));
}

#[test]
fn cookies_are_limited_where_btf_says_so() {
    let mut features = Features { release: "6.18.15".to_owned(), ..Features::default() };
    assert_eq!(Profile::of(&features).cookie_limit, None);
    features.btf.values.insert(MAX_COOKIES.to_owned(), 4);
    assert_eq!(Profile::of(&features).cookie_limit, Some(4));
}

#[test]
fn a_callee_with_a_cookie_is_a_known_bug_of_some_releases_only() {
    let known = |release: &str| {
        Profile::of(&Features { release: release.to_owned(), ..Features::default() }).accepts_cookie_callee()
    };
    assert!(known("7.0.4") && known("7.3.4"));
    assert!(!known("6.18.15") && !known("7.4.0") && !known("8.0.1"));
}

#[test]
fn what_calls_under_way_lose_goes_by_the_release() {
    let rule = |release: &str| {
        Profile::of(&Features { release: release.to_owned(), ..Features::default() }).in_flight
    };
    for release in ["6.18.15", "7.0.13+deb13-cloud-amd64", "7.1.13"] {
        assert_eq!(rule(release), Some(InFlight::OfEveryProgram), "{release}");
    }
    assert_eq!((rule("7.2.1"), rule("7.3.4")), (None, Some(InFlight::OfTheDetached)));
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
