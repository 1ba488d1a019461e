// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn a_run_has_a_name_of_its_own_shape() {
    assert!(is_run_id(&run_id()) && !is_run_id("20261121-090238-692d4g") && !is_run_id("latest"));
}

#[test]
fn old_runs_go_but_not_the_latest_one_under_way_or_what_is_no_run() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let runs = dir.path();
    let name = |number: u32| format!("20261121-09000{number}-00000{number}");
    for number in 1..=6 {
        create_dir(&runs.join(name(number)).join("cells")).expect("made");
    }
    create_dir(&runs.join("notes")).expect("made");
    create_dir(&runs.join(format!("{GONE}{}", name(0)))).expect("made");
    std::os::unix::fs::symlink(name(2), runs.join("latest")).expect("linked");
    for number in [3, 4] {
        let link = runs.join(format!("{NEW_LATEST}{}", name(number)));
        std::os::unix::fs::symlink(name(number), link).expect("linked");
    }
    let handle = File::open(runs.join(name(3))).expect("open");
    let lock = Flock::lock(handle, FlockArg::LockExclusiveNonblock).expect("locked");
    assert_eq!(keep_newest(runs, 2, true, true).expect("looked"), [name(1), name(4)]);
    assert_eq!(keep_newest(runs, 2, true, false).expect("removed"), [name(1), name(4)]);
    let mut left: Vec<_> = fs::read_dir(runs).expect("listed").flatten().map(|e| e.file_name()).collect();
    left.sort();
    let in_progress = format!("{NEW_LATEST}{}", name(3));
    let expected = [in_progress, name(2), name(3), name(5), name(6), "latest".to_owned(), "notes".to_owned()];
    assert_eq!(left, expected.map(std::ffi::OsString::from));
    drop(lock);
    assert_eq!(keep_newest(runs, 0, false, false).expect("removed").len(), 4);
    assert!(runs.join(format!("{NEW_LATEST}{}", name(3))).symlink_metadata().is_err());
    assert!(runs.join("latest").symlink_metadata().is_err() && runs.join("notes").exists());
}

#[test]
fn a_run_that_is_too_large_loses_the_middle_of_its_largest_logs() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let write = |name: &str, text: Vec<u8>| {
        let path = dir.path().join(name);
        create_dir(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    };
    let long: Vec<u8> = (0..600_000_u32).flat_map(|number| format!("{number:09}\n").into_bytes()).collect();
    write("run.json", vec![b' '; 100_000]);
    write("builds/k/build.log", vec![b'b'; 1_000]);
    write("cells/a/console.log", long.clone());
    write("cells/b/events.jsonl", long.clone());
    let limit = 1024 * 1024;
    let cut = bound(dir.path(), limit).expect("bounded");
    assert_eq!(cut.len(), 2, "{cut:?}");
    let size = |name: &str| fs::metadata(dir.path().join(name)).expect("there").len();
    let all = ["run.json", "builds/k/build.log", "cells/a/console.log", "cells/b/events.jsonl"];
    assert_eq!((size("run.json"), size("builds/k/build.log")), (100_000, 1_000));
    let total: u64 = all.iter().map(|name| size(name)).sum();
    assert!(total <= limit && total > limit - 2 * ROOM_FOR_MORE, "{total}");
    let text = fs::read_to_string(dir.path().join("cells/a/console.log")).expect("read");
    assert!(text.starts_with("000000000\n") && text.ends_with("000599999\n") && text.contains(CUT_MARK));
    assert!(bound(dir.path(), limit).expect("bounded").is_empty(), "once is enough");
    // A cut channel must not be trusted.
    let mut stream = vmtest_guest::events::Stream::new("abc");
    stream.feed(&fs::read(dir.path().join("cells/b/events.jsonl")).expect("read"));
    assert!(!stream.faults.is_empty());
}
