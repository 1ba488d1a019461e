// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

struct Sleeper(Child);

impl Sleeper {
    fn start(nonce: &str) -> Sleeper {
        let mut command = Command::new("sleep");
        command.arg("1000").env(VARIABLE, nonce).process_group(0);
        Sleeper(command.spawn().expect("sleep runs"))
    }
    fn record(&self, nonce: &str, later: i64) -> String {
        let began = Seen::of(self.0.id()).expect("it runs").began.saturating_add_signed(later);
        format!("{nonce} {} {began}\n", self.0.id())
    }
    fn lives(&mut self) -> bool {
        self.0.try_wait().expect("waited").is_none()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const MINE: &str = "0123456789abcdef";
const OTHER: &str = "fedcba9876543210";

#[test]
fn only_what_matches_in_all_three_is_ended() {
    let mut same_nonce = Sleeper::start(MINE);
    let mut same_number = Sleeper::start(OTHER);
    let mut earlier = Sleeper::start(MINE);
    let mut mine = Sleeper::start(MINE);
    // Neither the program's name nor a truncated record must matter.
    let record = [
        same_number.record(MINE, 0),
        earlier.record(MINE, 1),
        mine.record(MINE, 0),
        format!("{MINE} {}", same_nonce.0.id()),
    ]
    .concat();
    // The child has its own environment only after exec.
    let begun = Instant::now();
    while leftovers(&record).is_empty() && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(leftovers(&record), [mine.0.id()]);
    assert!(end_all(&record));
    assert!(!mine.lives());
    assert!(same_nonce.lives() && same_number.lives() && earlier.lives());
}

#[test]
fn a_directory_that_is_still_written_to_goes_or_its_record_stays() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (records, busy) = (dir.path().join("records"), dir.path().join("vmtest-busy"));
    fs::create_dir_all(&records).expect("made");
    fs::create_dir_all(&busy).expect("made");
    let record = records.join("p-dead");
    fs::write(&record, format!("directory {}\n", busy.display())).expect("written");
    // We never create directories there, so it cannot be removed and stays recorded for the next start.
    fs::create_dir(busy.join("stays")).expect("made");
    begin(&records);
    assert!(record.exists() && busy.exists());
    fs::remove_dir(busy.join("stays")).expect("removed");
    // A dying process leaves more files after the directory was listed.
    let late = std::thread::spawn({
        let busy = busy.clone();
        move || (0..300).filter(|number| fs::write(busy.join(format!("socket-{number}")), "").is_ok()).count()
    });
    begin(&records);
    let written = late.join().expect("joined");
    begin(&records);
    assert!(!record.exists() && !busy.exists(), "{written} files were written");
}

#[test]
fn a_lock_that_outlives_its_owner_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let record = dir.path().join("p-killed");
    let mut gone = Command::new("true").spawn().expect("true runs");
    let pid = gone.id();
    gone.wait().expect("waited");
    fs::write(&record, format!("owner {pid} 1\n")).expect("written");
    let held =
        Flock::lock(File::open(&record).expect("open"), FlockArg::LockExclusiveNonblock).expect("locked");
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(held);
    });
    end_what_it_tells(&record);
    release.join().expect("joined");
    assert!(!record.exists());
}

#[test]
fn a_record_is_locked_and_tells_its_owner() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("p-own");
    let record = new_record(&path).expect("made");
    let text = fs::read_to_string(&path).expect("read");
    assert!(text.starts_with("owner ") && !owner_is_gone(&text), "{text}");
    end_what_it_tells(&path);
    assert!(path.exists(), "a living harness' record was taken away");
    drop(record);
    end_what_it_tells(&path);
    assert!(!path.exists());
}

#[test]
fn what_a_killed_harness_started_is_ended_and_what_a_living_one_did_is_not() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (mut dead, mut living) = (Sleeper::start(MINE), Sleeper::start(OTHER));
    std::thread::sleep(Duration::from_millis(100));
    fs::write(dir.path().join("p-dead"), dead.record(MINE, 0)).expect("written");
    fs::write(dir.path().join("p-living"), living.record(OTHER, 0)).expect("written");
    let handle = File::open(dir.path().join("p-living")).expect("open");
    let _owner = Flock::lock(handle, FlockArg::LockExclusiveNonblock).expect("locked");
    begin(dir.path());
    assert!(!dead.lives() && living.lives());
    assert!(!dir.path().join("p-dead").exists() && dir.path().join("p-living").exists());
}
