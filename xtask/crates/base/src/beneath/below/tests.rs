// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn links_on_the_way_are_not_followed_and_pipes_do_not_block() {
    let place = tempfile::tempdir().expect("temporary directory");
    let (home, dir) = (place.path().join("home"), place.path().join("tree"));
    fs::create_dir_all(home.join("deep")).expect("made");
    fs::write(home.join("key"), "secret").expect("written");
    fs::create_dir_all(dir.join("a/b")).expect("made");
    fs::write(dir.join("a/b/file"), "fine").expect("written");
    symlink(&home, dir.join("way")).expect("linked");
    symlink("../home/key", dir.join("a/link")).expect("linked");
    nix::unistd::mkfifo(&dir.join("a/pipe"), Mode::S_IRWXU).expect("a FIFO");
    let mut top = Top::open(&dir).expect("opened");
    assert_eq!(top.read(Path::new("a/b/file"), 4).expect("read"), b"fine");
    assert!(top.read(Path::new("a/b/file"), 3).is_err(), "too long");
    for bad in ["way/key", "a/link", "a/pipe", "../home/key", "a", ""] {
        assert!(top.file(Path::new(bad)).is_err(), "{bad}");
    }
    assert!(top.file(&home.join("key")).is_err(), "an absolute path");
    assert!(gone(&top.stat(Path::new("way/key")).expect_err("behind a link")));
    assert_eq!(Kind::of(top.stat(Path::new("way")).expect("itself").st_mode), Kind::Link);
    assert_eq!(top.read_link(Path::new("a/link")).expect("read"), "../home/key");
    let mut seen = BTreeMap::new();
    walk(&dir, Path::new(""), &mut |path, kind| {
        seen.insert(path.to_owned(), kind);
        Ok(true)
    })
    .expect("walked");
    let names: Vec<_> = seen.keys().map(|path| path.to_string_lossy()).collect();
    assert_eq!(names, ["a", "a/b", "a/b/file", "a/link", "a/pipe", "way"]);
    assert_eq!(seen[Path::new("a/pipe")], Kind::Special("a FIFO"));
}

#[test]
fn a_link_leads_out_also_through_others() {
    let links: BTreeMap<&str, &str> = [
        ("dts/arm", "../arch/arm/dts"),
        ("up", ".."),
        ("root", "/etc/passwd"),
        ("l", "."),
        ("sneaky", "l/l/../.."),
        ("a/here", "."),
        ("a/b/out", "../here/../../.."),
        ("loop", "loop"),
        ("fine", "a/here/../x"),
        ("dangling", "nothing/here"),
        ("hidden", "nothing/../../x"),
    ]
    .into();
    let target = |path: &Path| links.get(path.to_str()?).map(PathBuf::from);
    let out: Vec<_> = links.keys().filter(|link| leads_out(Path::new(link), target)).collect();
    assert_eq!(out, [&"a/b/out", &"hidden", &"loop", &"root", &"sneaky", &"up"]);
}
