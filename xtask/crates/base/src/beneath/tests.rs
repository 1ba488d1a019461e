// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn nothing_outside_is_reached() {
    let place = tempfile::tempdir().expect("temporary directory");
    let (home, dir) = (place.path().join("home"), place.path().join("obj"));
    fs::create_dir_all(home.join("deep")).expect("made");
    fs::write(home.join("key"), "secret").expect("written");
    fs::write(home.join("deep/key"), "secret").expect("written");
    fs::create_dir_all(dir.join("inside")).expect("made");
    fs::write(dir.join("inside/good"), "fine").expect("written");
    symlink(home.join("key"), dir.join("link")).expect("linked");
    symlink("../home/key", dir.join("relative")).expect("linked");
    symlink(&home, dir.join("way")).expect("linked");
    // Each is harmless alone; the second escapes through the first.
    symlink(".", dir.join("here")).expect("linked");
    symlink("here/../home/key", dir.join("chain")).expect("linked");
    nix::unistd::mkfifo(&dir.join("pipe"), Mode::S_IRWXU).expect("a FIFO");
    assert_eq!(read_text(&dir, "inside/good").expect("read"), "fine");
    for bad in
        ["link", "relative", "way/key", "chain", "here/inside/good", "pipe", "../home/key", "inside", ""]
    {
        assert!(read_text(&dir, bad).is_err(), "{bad}");
        let mut room = Budget::of(Class::KernelBuild);
        assert!(copy(&dir, bad, &place.path().join("copy"), &mut room).is_err(), "{bad}");
        assert!(last_bytes(&dir, bad, 9).is_err(), "{bad}");
        assert!(!is_file(&dir, bad), "{bad}");
    }
    assert!(read_text(&dir, home.join("key")).is_err(), "an absolute path");
    assert!(names(&dir, "way").is_empty() && names(&dir, "here/inside").is_empty());
    assert_eq!(names(&dir, "inside"), ["good"]);
    assert!(!no_link_on_the_way(&dir, "way/key") && no_link_on_the_way(&dir, "link"));
    assert!(no_link_on_the_way(&dir, "nothing") && !no_link_on_the_way(&dir, "way/deep/key"));
}

#[test]
fn what_is_larger_than_anything_of_its_kind_is_not_read_and_not_copied() {
    let place = tempfile::tempdir().expect("temporary directory");
    let (dir, to) = (place.path().join("obj"), place.path().join("copy"));
    fs::create_dir(&dir).expect("made");
    fs::write(dir.join("text"), "12345").expect("written");
    fs::write(dir.join("hole"), "x").expect("written");
    File::options().write(true).open(dir.join("hole")).and_then(|file| file.set_len(8 << 30)).expect("grown");
    assert_eq!(read_up_to(&dir, "text", 5).expect("read"), b"12345");
    assert!(read_up_to(&dir, "text", 4).is_err() && read_text(&dir, "hole").is_err());
    assert_eq!(last_bytes(&dir, "text", 2).expect("read"), b"45");
    assert_eq!(last_bytes(&dir, "hole", 2).expect("read"), [0, 0]);
    let mut room = Budget::of(Class::KernelBuild);
    copy(&dir, "text", &to, &mut room).expect("copied");
    let error = copy(&dir, "hole", &to, &mut room).expect_err("too large");
    assert_eq!(error.class, Class::KernelBuild);
    assert!(error.to_string().contains("it has 8.0 GiB"), "{error}");
    assert_eq!(fs::read(&to).expect("read"), b"12345", "nothing of it was written");
    // The budget is shared by all files of a build.
    File::options()
        .write(true)
        .open(dir.join("hole"))
        .and_then(|file| file.set_len(2 << 30))
        .expect("shrunk");
    assert!(copy(&dir, "hole", &to, &mut room).is_err());
}
