// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use std::time::SystemTime;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: tempfile::tempdir().expect("temporary directory") };
        for (path, text) in [("base/a.c", "a"), ("base/sub/b.c", "b"), ("base/sub/c.c", "c")] {
            place.write(path, text);
            let file = fs::File::options().write(true).open(place.at(path)).expect("open");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("times can be set");
        }
        place
    }
    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }
    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        create_dir(path.parent().expect("has a parent")).expect("made");
        write_file(&path, text).expect("written");
    }
    fn sync(&self, key: &str, overlay: Option<(&[String], &[String])>) -> Synced {
        let files = self.at("over");
        let overlay = overlay.map(|(changed, deleted)| Overlaid { files: &files, changed, deleted });
        let key = Key::of(key).finish();
        sync(&self.at("view"), &self.at("state"), &self.at("base"), &key, overlay).expect("synced")
    }
    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.at(path)).ok()
    }
    fn old(&self, path: &str) -> bool {
        let time = self.at(path).metadata().and_then(|data| data.modified()).expect("there");
        time == SystemTime::UNIX_EPOCH
    }
}

#[test]
fn an_overlay_comes_and_goes_with_new_times_and_the_base_stays_untouched() {
    let place = Place::new();
    assert!(place.sync("k", None).fresh);
    place.write("over/a.c", "A");
    place.write("over/new.c", "n");
    let (changed, deleted) = (["a.c".to_owned(), "new.c".to_owned()], ["sub/c.c".to_owned()]);
    let synced = place.sync("k", Some((&changed, &deleted)));
    assert_eq!(synced.changed, ["a.c", "new.c", "sub/c.c"]);
    assert_eq!(place.read("view/a.c").as_deref(), Some("A"));
    assert_eq!(place.read("view/sub/c.c"), None);
    assert!(place.old("view/sub/b.c"), "make must not rebuild what did not change");
    assert_eq!(place.sync("k", Some((&changed, &deleted))).changed, [""; 0]);

    let back = place.sync("k", None);
    assert_eq!(back.changed.len(), 3);
    assert_eq!(place.read("view/a.c").as_deref(), Some("a"));
    assert!(!place.old("view/a.c"), "an old state that comes back is new to the objects");
    assert_eq!(place.read("view/new.c"), None);
    assert!(place.old("base/a.c"));
}

#[test]
fn a_changed_base_or_a_broken_state_is_compared_in_full() {
    let place = Place::new();
    place.sync("k", None);
    let _ = fs::remove_file(place.at("base/a.c"));
    place.write("base/d.c", "d");
    place.write("base/sub/b.c", "bb");
    let mut changed = place.sync("k2", None).changed;
    changed.sort();
    assert_eq!(changed, ["a.c", "d.c", "sub/b.c"]);
    fs::write(place.at("state"), "{").expect("written");
    assert_eq!(place.sync("k2", None).changed, [""; 0]);
    assert_eq!(place.read("view/sub/b.c").as_deref(), Some("bb"));
}
