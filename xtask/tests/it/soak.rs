// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs that are killed at random: no process, file, lock or mount is left behind, and the cache is intact.
//! Ten here; manually with `cargo xtask test --soak 200`.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use super::disk::{all_believable, broken_and_mended, content};
use crate::support::World;

/// A reproducible random number generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Processes that have this directory in their arguments, their environment or their mounts.
fn processes_of(dir: &Path) -> Vec<String> {
    let name = dir.file_name().expect("a name").to_string_lossy().into_owned();
    let holds = |path: &Path| fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).contains(&name));
    let entries = fs::read_dir("/proc").expect("listed").flatten().map(|entry| entry.path());
    let numbered = entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok()));
    numbered
        .filter(|path| ["cmdline", "environ", "mountinfo"].iter().any(|file| holds(&path.join(file))))
        .map(|path| {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            format!("{}: {}", path.display(), String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect()
}

#[test]
fn runs_that_are_killed_at_random_leave_nothing() {
    let runs = asked("VMTEST_SOAK_RUNS").unwrap_or(10);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let seed = asked("VMTEST_SOAK_SEED").unwrap_or(now | 1);
    let mut dice = Dice(seed);
    let world = World::new();
    let (git, patches) = broken_and_mended(&world);
    let tree = format!("tree:{}", world.tree("tree", "guest: pass").display());
    let slow = format!("tree:{}", world.tree("slow", "make: slow\nguest: pass").display());
    let orders: [&[&str]; 4] = [
        &["--kernel", &git, "--patches", &patches],
        &["--kernel", &git, "--patches", &patches, "--with-base", "--allow-skip", "*"],
        &["--kernel", &tree],
        &["--kernel", &slow, "--kernel", &tree],
    ];
    // The unpatched kernel fails: failures of a reference column do not count.
    let expected = [0, 0, 0, 0];
    for (order, code) in orders.iter().zip(expected) {
        for boot in ["direct", "vng"] {
            world.run(&[order, &["--boot", boot][..]].concat()).exits(code);
        }
    }
    let whole = content(&world.path("cache"));
    let mut cache = world.path("soak");
    let (mut killed, mut ended, mut stopped) = (0, 0, 0);
    for run in 0..runs {
        let what = format!("run {run} of {runs}, VMTEST_SOAK_SEED={seed}");
        if dice.below(8) == 0 {
            // From scratch, so that each stage runs again.
            cache = world.path(&format!("soak-{run}"));
        }
        let at_once = 1 + dice.below(2);
        let mut running = Vec::new();
        for _ in 0..at_once {
            let order = orders[dice.below(4) as usize];
            let boot = ["direct", "vng"][dice.below(2) as usize];
            let mut command = world.vmtest(&[order, &["--boot", boot, "--keep", "5"]].concat());
            command.env("VMTEST_CACHE_DIR", &cache);
            running.push((world.start(command), dice.below(300), dice.below(4)));
        }
        let begun = Instant::now();
        for (mut one, after_ms, how) in running {
            while begun.elapsed() < Duration::from_millis(after_ms)
                && one.child.try_wait().expect("waited").is_none()
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            let alive = one.child.try_wait().expect("waited").is_none();
            let signal =
                [Some(Signal::SIGKILL), Some(Signal::SIGKILL), Some(Signal::SIGINT), None][how as usize];
            if let Some(signal) = signal.filter(|_| alive) {
                one.signal(signal);
                let done = one.done_within(Duration::from_secs(5));
                match done.status.code() {
                    None => killed += 1,
                    // It may have finished already.
                    Some(130 | 0) => stopped += 1,
                    Some(code) => panic!("{what}: it ended with {code}\n{done}"),
                }
            } else {
                let done = one.done();
                assert_eq!(done.status.code(), Some(0), "{what}\n{done}");
                ended += 1;
            }
        }
        if dice.below(3) == 0 {
            let mut prune = world.command(&["cache", "--prune", ["0", "1h", "100K"][dice.below(3) as usize]]);
            prune.env("VMTEST_CACHE_DIR", &cache);
            world.start(prune).done().exits(0);
        } else {
            // Any start of the harness kills what a killed one left behind.
            let mut look = world.command(&["cache"]);
            look.env("VMTEST_CACHE_DIR", &cache);
            world.start(look).done().exits(0);
        }
        // A process that was just told to exit may still be exiting.
        let begun = Instant::now();
        while !processes_of(&world.path("")).is_empty() {
            let left = processes_of(&world.path(""));
            assert!(begun.elapsed() < Duration::from_secs(3), "{what}: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        all_believable(&world, &cache, &whole, &what);
    }
    let what = format!("after {runs} runs, VMTEST_SOAK_SEED={seed}");
    let temporary: Vec<_> = fs::read_dir(world.path("tmp")).expect("listed").flatten().collect();
    assert!(temporary.is_empty(), "{what}: {temporary:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read");
    assert!(!mounts.contains(&*world.path("").to_string_lossy()), "{what}: a mount is left");
    for entry in fs::read_dir(world.path("")).expect("listed").flatten() {
        let cache = entry.path();
        if !entry.file_name().to_string_lossy().starts_with("soak") {
            continue;
        }
        for lock in fs::read_dir(cache.join("locks")).into_iter().flatten().flatten() {
            let file = File::open(lock.path()).expect("open");
            assert!(Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok(), "{what}: {lock:?} is held");
        }
        // Unfinished entries have no owner, and are removed once they are too old for a process to be about
        // to lock them.
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        let half_made =
            ["tmp", "tools", "hashes"].map(|kind| fs::read_dir(cache.join(kind)).into_iter().flatten());
        for half in half_made.into_iter().flatten().flatten() {
            File::open(half.path()).and_then(|dir| dir.set_modified(long_ago)).expect("times can be set");
        }
        let mut prune = world.command(&["cache", "--prune", "1000w"]);
        prune.env("VMTEST_CACHE_DIR", &cache);
        world.start(prune).done().exits(0);
        let left: Vec<_> = fs::read_dir(cache.join("tmp")).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{what}: {left:?}");
        let tools = fs::read_dir(cache.join("tools")).into_iter().flatten().flatten();
        let half = tools.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count();
        assert_eq!(half, 0, "{what}: half a file is left");
        for (order, code) in orders.iter().zip(expected) {
            let mut command = world.vmtest(order);
            command.env("VMTEST_CACHE_DIR", &cache);
            let done = world.start(command).done();
            assert_eq!(done.status.code(), Some(code), "{what}\n{done}");
        }
        all_believable(&world, &cache, &whole, &what);
    }
    let kept = fs::read_dir(world.path("state/vmtest/runs")).expect("listed").flatten();
    let half = kept.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count();
    assert_eq!(half, 0, "{what}: half a link or half a run is left");
    fs::write(
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak.txt"),
        format!(
            "{runs} rounds, seed {seed}: {killed} killed, {stopped} interrupted, {ended} ran to their end\n"
        ),
    )
    .expect("written");
}
