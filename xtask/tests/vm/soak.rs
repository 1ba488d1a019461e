// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real virtual machines that are killed at random: nothing keeps running, and the next one works. `cargo
//! xtask test` runs this by name; `VMTEST_SOAK_BOOTS` sets the number (4).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Any kernel that needs no build.
fn kernel() -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_xtask")).args(["sources", "--json"]).output().expect("xtask starts");
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("sources --json is JSON");
    let rows = listed["versions"].as_array().expect("versions");
    let cached = |row: &&serde_json::Value| {
        row["images_cached"].as_array().is_some_and(|cached| cached.iter().any(|one| one == "cloud-amd64"))
    };
    let any = |row: &&serde_json::Value| {
        row["images"]
            .as_array()
            .is_some_and(|images| images.iter().any(|one| one["flavour"] == "cloud-amd64"))
    };
    let row = rows.iter().find(cached).or_else(|| rows.iter().find(any)).expect("an image for clouds");
    format!("debian:{}", row["version"].as_str().expect("a version"))
}

/// Processes that have this directory in their arguments, their environment or their mounts: QEMU sees its
/// FIFO there.
fn processes_of(dir: &Path) -> Vec<String> {
    let name = dir.file_name().expect("a name").to_string_lossy().into_owned();
    let holds = |path: &Path| fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).contains(&name));
    let entries = fs::read_dir("/proc").expect("listed").flatten().map(|entry| entry.path());
    let numbered = entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok()));
    numbered
        .filter(|path| ["cmdline", "environ", "mountinfo"].iter().any(|file| holds(&path.join(file))))
        .map(|path| {
            String::from_utf8_lossy(&fs::read(path.join("cmdline")).unwrap_or_default()).replace('\0', " ")
        })
        .collect()
}

struct Run {
    child: Child,
    out: PathBuf,
}

fn start(place: &Path, kernel: &str, number: u32) -> Run {
    let out = place.join(format!("run-{number}"));
    let file = |name: &str| File::create(place.join(format!("{number}.{name}"))).expect("a file");
    let child = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["vmtest", "--kernel", kernel, "--boot", "direct", "--test", "elsewhere/*", "--out"])
        .arg(&out)
        .env("CI", "true")
        .env("TMPDIR", place.join("tmp"))
        .stdin(Stdio::null())
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn()
        .expect("xtask starts");
    Run { child, out }
}

fn said(place: &Path, number: u32) -> String {
    ["out", "err"]
        .map(|kind| fs::read_to_string(place.join(format!("{number}.{kind}"))).unwrap_or_default())
        .concat()
}

impl Drop for Run {
    fn drop(&mut self) {
        // Left over by a test that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Run {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a number")), signal).expect("it runs");
    }
    /// Whether the guest is running a subtest yet.
    fn tests(&self) -> bool {
        let files = walkdir::WalkDir::new(&self.out).into_iter().flatten();
        let events = files.into_iter().find(|entry| entry.file_name() == "events.jsonl");
        events.is_some_and(|entry| {
            fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("\"ev\":\"start\""))
        })
    }
    fn wait_for_a_test(&mut self) {
        let begun = Instant::now();
        while !self.tests() {
            assert!(begun.elapsed() < Duration::from_secs(300), "no subtest began");
            assert!(self.child.try_wait().expect("waited").is_none(), "it ended before a subtest began");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_killed_guest_leaves_nothing_and_control_c_takes_less_than_five_seconds() {
    let boots = std::env::var("VMTEST_SOAK_BOOTS").ok().and_then(|text| text.parse().ok()).unwrap_or(4_u32);
    let place = tempfile::tempdir().expect("temporary directory");
    fs::create_dir(place.path().join("tmp")).expect("made");
    let kernel = kernel();
    let mut report = String::new();
    let mut killed = 0;
    // Builds the runner and fetches the image.
    let mut first = start(place.path(), &kernel, boots + 1);
    assert_eq!(first.child.wait().expect("waited").code(), Some(0), "{}", said(place.path(), boots + 1));
    for number in 0..boots {
        let mut run = start(place.path(), &kernel, number);
        run.wait_for_a_test();
        assert!(
            processes_of(place.path()).iter().any(|line| line.contains("qemu-system-x86_64")),
            "QEMU is not seen"
        );
        // Not always at the same moment.
        std::thread::sleep(Duration::from_millis(u64::from(number) * 137 % 700));
        let signal = [Signal::SIGINT, Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL][number as usize % 4];
        if run.child.try_wait().expect("waited").is_some() {
            report += &format!("{number}: ended by itself\n");
            continue;
        }
        let told = Instant::now();
        run.signal(signal);
        killed += 1;
        let status = run.child.wait().expect("waited");
        let until = Duration::from_secs(5);
        while !processes_of(place.path()).is_empty() {
            assert!(told.elapsed() < until, "{signal}: {:#?}", processes_of(place.path()));
            std::thread::sleep(Duration::from_millis(5));
        }
        report += &format!("{number}: {signal}, nothing runs {} ms later\n", told.elapsed().as_millis());
        let record = fs::read_to_string(run.out.join("run.json"));
        let code = match signal {
            Signal::SIGINT => Some(130),
            Signal::SIGTERM => Some(143),
            _ => None,
        };
        assert_eq!(status.code(), code, "{signal}");
        if let Some(code) = code {
            let record: serde_json::Value = serde_json::from_str(&record.expect("a record")).expect("JSON");
            assert_eq!(record["exit_code"], code);
        } else {
            assert!(record.is_err(), "a killed run has no record");
        }
    }
    let mut last = start(place.path(), &kernel, boots);
    let status = last.child.wait().expect("waited");
    assert_eq!(status.code(), Some(0), "{}", said(place.path(), boots));
    assert!(killed * 2 > boots, "most of them ended before they were killed\n{report}");
    let left: Vec<_> = fs::read_dir(place.path().join("tmp")).expect("listed").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    println!("{report}");
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak-boots.txt"), report).expect("written");
}
