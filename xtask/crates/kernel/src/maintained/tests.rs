// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn project(directories: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    for name in directories {
        fs::create_dir_all(dir.path().join("patches").join(name)).expect("made");
    }
    dir
}

#[test]
fn a_short_name_is_a_directory_without_its_version() {
    assert_eq!(short_name("fsession-6.18"), "fsession");
    assert_eq!(short_name("fsession-7.0rc1"), "fsession");
    assert_eq!(short_name("session-cookie"), "session-cookie");
    assert_eq!(short_name("-6.18"), "-6.18");
    let dir = project(&["fsession-6.18", "fsession-next-6.18", "other", "mutants"]);
    let found = |name: &str| find(dir.path(), name).expect(name);
    assert_eq!(found("fsession").path, dir.path().join("patches/fsession-6.18"));
    assert_eq!(found("fsession").name.as_deref(), Some("fsession"));
    assert_eq!(found("fsession-6.18").name.as_deref(), Some("fsession"));
    assert_eq!(found("other").name.as_deref(), Some("other"));
}

#[test]
fn what_is_not_exactly_one_is_told_with_what_there_is() {
    let dir = project(&["fsession-6.18", "fsession-6.12", "mutants"]);
    let says = |name: &str| {
        let error = find(dir.path(), name).expect_err(name);
        assert_eq!(error.class, vmtest_base::error::Class::Usage);
        error.to_string()
    };
    assert!(says("fsession").contains("fsession-6.12, fsession-6.18"));
    assert!(says("fsess").contains("it has: fsession-6.12, fsession-6.18"));
    // The patches in there are alternatives, not a series.
    assert!(says("mutants").contains("no series of that name"));
    let error = find(project(&[]).path(), "fsession").expect_err("none").to_string();
    assert!(error.contains("it has: none"), "{error}");
}

#[test]
fn only_a_word_can_be_a_short_name() {
    assert_eq!(short_form(Path::new("fsession")), Some("fsession"));
    for path in ["./fsession", "fsession/", "a/b", "/fsession", ".", ".."] {
        assert_eq!(short_form(Path::new(path)), None, "{path}");
    }
}
