// SPDX-License-Identifier: MIT OR Apache-2.0
//! Causes the death of a row and records what was seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::rows::{Cause, Row};
use crate::World;

/// Most time for a run, with all its limits, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(400);

/// What was seen once.
pub struct Seen {
    exit: i64,
    run: Value,
    /// Time from the kill to the end of the command, if something was killed.
    killed: Option<Duration>,
    /// The output of the command, for a row that is wrong.
    said: String,
}

/// Causes it once.
pub fn cause(row: &Row) -> Seen {
    match row.cause {
        Cause::Fake { does, boot } => {
            let world = World::new();
            let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
            let words = [&["--kernel", spec.as_str(), "--boot", boot][..], row.words].concat();
            let done = world.run(&words);
            world.is_clean();
            Seen {
                exit: done.status.code().unwrap_or(-1).into(),
                run: done.json().clone(),
                killed: None,
                said: done.to_string(),
            }
        }
        Cause::Fault { subtest, boot, variant } => {
            let victim = format!("faults/{subtest}");
            let mut words = vec!["--boot", boot, "--test", "faults/lives", "--test", &victim];
            if variant {
                words.extend(["--variant", "faults"]);
            }
            words.extend(row.words);
            real(row, &words, None)
        }
        Cause::Options => real(row, &[&["--test", "faults/lives"][..], row.words].concat(), None),
        Cause::Code(code) => {
            let image = scratch(row).with_extension("elf");
            fs::create_dir_all(image.parent().expect("it has one")).expect("a directory");
            fs::write(&image, kernel_of(code)).expect("written");
            let spec = format!("image:{}", image.display());
            real(row, &[&["--kernel", spec.as_str(), "--test", "faults/lives"][..], row.words].concat(), None)
        }
        Cause::Killed { process, boot } => {
            let words = ["--boot", boot, "--test", "faults/lives", "--test", "faults/runner_hangs"];
            real(row, &[&words[..], row.words].concat(), Some(process))
        }
    }
}

/// A kernel that consists of this code: QEMU looks for a note with the 32-bit PVH entry in an uncompressed
/// kernel, and the harness looks for a banner.
fn kernel_of(code: &[u8]) -> Vec<u8> {
    const AT: u64 = 0x10_0000;
    const NOTE: usize = 0xb0;
    const CODE: usize = 0x100;
    let mut file = vec![0; CODE];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    // Executable, x86_64, version 1, entry, program headers, sizes.
    put(16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    put(24, &AT.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 2, 0]);
    let mut segment = |at: usize, kind: u32, offset: usize, address: u64, size: usize| {
        put(at, &kind.to_le_bytes());
        put(at + 4, &7_u32.to_le_bytes());
        let size = size as u64;
        for (field, value) in [offset as u64, address, address, size, size, 4].iter().enumerate() {
            put(at + 8 + 8 * field, &value.to_le_bytes());
        }
    };
    segment(64, 1, CODE, AT, 256);
    segment(64 + 56, 4, NOTE, 0, 24);
    // XEN_ELFNOTE_PHYS32_ENTRY; QEMU reads eight bytes of it.
    put(NOTE, &[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0]);
    put(NOTE + 12, b"Xen\0");
    put(NOTE + 16, &AT.to_le_bytes());
    file.extend_from_slice(code);
    file.resize(CODE + 64, 0);
    file.extend_from_slice(b"Linux version 0.0.0-fault (nobody@nowhere)\0");
    file.resize(CODE + 256, 0);
    file
}

fn scratch(row: &Row) -> PathBuf {
    crate::scratch("failures").join(row.name)
}

/// Runs a real guest.
fn real(row: &Row, words: &[&str], victim: Option<&str>) -> Seen {
    let dir = scratch(row);
    let _ = fs::remove_dir_all(&dir);
    let mut command = Command::new(crate::binary());
    command.args(["vmtest", "--out"]).arg(&dir).args(words).env("CI", "true").stdin(Stdio::null());
    let said = dir.with_extension("said");
    fs::create_dir_all(said.parent().expect("it has one")).expect("a directory");
    let output = fs::File::create(&said).expect("a file");
    command.stdout(output.try_clone().expect("the same file")).stderr(output);
    let mut child = command.spawn().expect("xtask starts");
    let begun = Instant::now();
    let mut killed_at = None;
    let status = loop {
        if let Some(status) = child.try_wait().expect("waited") {
            break status;
        }
        if let Some(name) = victim.filter(|_| killed_at.is_none() && is_hanging(&dir)) {
            let pid = descendant(child.id(), name).unwrap_or_else(|| panic!("{}: no {name} runs", row.name));
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
            killed_at = Some(Instant::now());
        }
        if begun.elapsed() > LIMIT + Duration::from_secs(1800) * u32::from(!dir.join("cells").exists()) {
            let _ = child.kill();
            panic!("{}: no end; it said\n{}", row.name, fs::read_to_string(&said).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = fs::read_to_string(dir.join("run.json")).unwrap_or_default();
    Seen {
        said: format!("$ vmtest {}\n{}", words.join(" "), fs::read_to_string(&said).unwrap_or_default()),
        exit: status.code().unwrap_or(-1).into(),
        run: serde_json::from_str(&text).unwrap_or(Value::Null),
        killed: killed_at.map(|at| at.elapsed()),
    }
}

/// Whether the guest has started `faults/runner_hangs`.
fn is_hanging(dir: &Path) -> bool {
    let cells = fs::read_dir(dir.join("cells")).into_iter().flatten().flatten();
    let mut events = cells.filter_map(|cell| fs::read_to_string(cell.path().join("events.jsonl")).ok());
    events.any(|text| text.lines().any(|line| line.contains("\"start\"") && line.contains("runner_hangs")))
}

/// A descendant of this process whose program has this name.
fn descendant(of: u32, name: &str) -> Option<i32> {
    let mut all: Vec<(i32, i32)> = Vec::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        all.extend(parent.map(|parent| (pid, parent)));
    }
    let mut family = vec![i32::try_from(of).ok()?];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    family.into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // virtme-ng is a script: its interpreter comes first.
        let mut words = line.split(|byte| *byte == 0).take(2).map(String::from_utf8_lossy);
        words.any(|word| {
            let program = word.rsplit('/').next().unwrap_or_default();
            program == name || (name.ends_with("system") && program.starts_with(name))
        })
    })
}

/// The record of a row after this many tries, and everything that was wrong.
pub fn try_row(row: &Row, times: u32) -> (Value, Vec<String>) {
    let mut wrong = Vec::new();
    let mut right = 0;
    let mut slowest = 0;
    let mut record = Value::Null;
    for _ in 0..times {
        let seen = cause(row);
        let faults = differences(row, &seen);
        right += u32::from(faults.is_empty());
        let boot = &seen.run["boots"][0];
        let took = seen.killed.map_or_else(
            || boot["to_verdict_ms"].as_u64().unwrap_or(0),
            |took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        );
        slowest = slowest.max(took);
        // Keep the first one that is wrong.
        if record.is_null() || (!faults.is_empty() && wrong.is_empty()) {
            record = self::record(row, &seen);
        }
        wrong.extend(faults);
    }
    record["times"] = times.into();
    record["right"] = right.into();
    record["to_verdict_ms"] = slowest.into();
    (record, wrong)
}

fn cell<'a>(run: &'a Value, path: &str) -> &'a Value {
    let cells = run["cells"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = |cell: &&Value| {
        let text = |field: &str| cell[field].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text("test"), text("subtest")) == path
    };
    cells.iter().find(named).unwrap_or(&Value::Null)
}

/// How the report names it: the first death or splat, or else the reason of the guest, or else that of the
/// subtest.
fn told(row: &Row, run: &Value) -> String {
    let title = |severity: &str| {
        let splats = run["splats"].as_array().map(Vec::as_slice).unwrap_or_default();
        splats.iter().find(|splat| splat["severity"] == severity).map(|splat| splat["title"].clone())
    };
    let is_death = run["boots"][0]["class"] == 21;
    let splat = title("death")
        .filter(|_| is_death)
        .or_else(|| title("splat").filter(|_| run["boots"][0]["class"] == 4));
    let reason = Some(run["boots"][0]["reason"].clone()).filter(|reason| reason != "");
    let of_cell = cell(run, &row.victim())["reason"].clone();
    splat.or(reason).unwrap_or(of_cell).as_str().unwrap_or_default().to_owned()
}

fn record(row: &Row, seen: &Seen) -> Value {
    let boot = &seen.run["boots"][0];
    let splats = seen.run["splats"].as_array().map(Vec::as_slice).unwrap_or_default();
    let first = splats.first().unwrap_or(&Value::Null);
    let limit = match (row.class, boot["reason"].as_str().unwrap_or_default()) {
        (20, reason) if reason.starts_with("no byte") => "first-byte",
        (20, reason) if reason.starts_with("not ready") => "boot",
        (22, reason) if reason.contains("switch off") => "shutdown",
        (22, _) => "idle",
        (23, _) => "run",
        _ => "",
    };
    let limit = (!limit.is_empty()).then(|| format!("limit {limit}: {} s", boot["limits_s"][limit]));
    json!({
        "name": row.name,
        "how": row.how,
        "guest": if row.is_real() { format!("real, {}", boot["boot"].as_str().unwrap_or("?")) } else { "fake".to_owned() },
        "expected": { "class": row.class, "exit": row.code, "outcome": row.outcome, "says": row.says },
        "seen": { "class": boot["class"], "exit": seen.exit, "outcome": cell(&seen.run, &row.victim())["outcome"] },
        "told": told(row, &seen.run),
        "during": first["during"],
        "lines": first["lines"].as_array().map(Vec::len),
        "stack": first["stack"].as_array().map(|stack| stack.iter().take(6).cloned().collect::<Vec<_>>()),
        "no_stack": first["no_stack"],
        "before_kill": boot["before_kill"],
        "limit": limit,
        "duration_ms": boot["duration_ms"],
        "accel": boot["accel"],
        "run": seen.run["run"],
        "racy": row.racy,
    })
}

/// Everything that is wrong.
fn differences(row: &Row, seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |what: &str, expected: Value, seen: &Value| {
        if expected != *seen {
            wrong.push(format!("{}: {what}: expected {expected}, seen {seen}", row.name));
        }
    };
    let boot = &seen.run["boots"][0];
    expect("exit code", row.code.into(), &seen.exit.into());
    expect("exit code of run.json", row.code.into(), &seen.run["exit_code"]);
    expect("class of the guest", row.class.into(), &boot["class"]);
    expect("outcome", row.outcome.into(), &cell(&seen.run, &row.victim())["outcome"]);
    // Earlier results are kept, unless the guest is not trusted.
    if matches!(row.cause, Cause::Fault { .. } | Cause::Killed { .. }) && row.class != 30 {
        expect("the subtest before it", "pass".into(), &cell(&seen.run, "faults/lives")["outcome"]);
    }
    let all = seen.run.to_string();
    let told = told(row, &seen.run);
    // Escaped as in JSON: only quotes would differ, and no row has one.
    if !told.contains(row.says) && !all.contains(row.says) {
        wrong.push(format!("{}: nothing says {:?}; told as {told:?}", row.name, row.says));
    }
    if row.class == 21 && row.outcome == "crash" {
        let during = &seen.run["splats"][0]["during"];
        if *during != row.victim().as_str() {
            wrong.push(format!("{}: the death is told to be during {during}", row.name));
        }
        let took = boot["to_verdict_ms"].as_u64().unwrap_or(u64::MAX);
        if took > 2000 {
            wrong.push(format!("{}: {took} ms from its death to the verdict", row.name));
        }
        let lines = seen.run["splats"][0]["lines"].as_array().map_or(0, Vec::len);
        if lines == 0 {
            wrong.push(format!("{}: no lines around its death", row.name));
        }
    }
    // The time until a silent boot is ended includes the queries.
    if row.name == "no-first-byte" {
        let (took, limit) = (boot["duration_ms"].as_u64(), boot["limits_s"]["first-byte"].as_u64());
        if took.zip(limit).is_none_or(|(took, limit)| took > limit * 1000) {
            wrong.push(format!("{}: {took:?} ms, and the limit is {limit:?} s", row.name));
        }
    }
    if !wrong.is_empty() {
        wrong.push(seen.said.clone());
    }
    wrong
}
