// SPDX-License-Identifier: MIT OR Apache-2.0
//! A separate world for each whole-command test: the built binary, a cache, a state directory, a home, tiny
//! kernel trees, and a PATH that contains only fakes (`fakes/`) and the basic programs that they and the
//! harness use.
//!
//! The checkout is a fake as well: `kconfig/` and `images/` are the real ones, but the "runner" is a script
//! made by a fake cargo, so that no test waits for a real build and each one knows the list of subtests.

pub mod failures;
pub mod schema;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Every subtest of the fake runner, in order. The fake guest misbehaves during the second one.
pub const TESTS: [&str; 3] = ["basic/first", "basic/second", "many/third"];
/// Cache entry that [`World::archived`] makes: kernel 6.18.15.
pub const ARCHIVED: &str = "cache/source/debian-tarball-6.18.15-0123456789ab";
/// Longer than any command here may take, even on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Real programs that stay in PATH.
const BASICS: [&str; 21] = [
    "sh", "cksum", "git", "tar", "xz", "sed", "cat", "cp", "rm", "mkdir", "rmdir", "chmod", "sleep", "tr",
    "wc", "head", "base64", "grep", "dpkg-deb", "apt-get", "python3",
];
/// Programs that only have to exist.
const TOOLS: [&str; 15] = [
    "gcc",
    "cc",
    "ld",
    "ld.lld",
    "llvm-objcopy",
    "clang",
    "bc",
    "bison",
    "flex",
    "cpio",
    "rsync",
    "pahole",
    "pkg-config",
    "rustc",
    "ccache",
];
/// Files that the harness looks for and that PATH cannot fake.
const FILES: [&str; 2] = ["/usr/include/openssl/ssl.h", "/usr/include/libelf.h"];

/// The harness that cargo built next to the running program.
pub fn binary() -> PathBuf {
    build_dir().join("xtask")
}

/// `target/tmp/NAME`, created if missing.
pub fn scratch(name: &str) -> PathBuf {
    let dir = build_dir().parent().expect("target").join("tmp").join(name);
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// `target/debug`. Test programs are in its `deps`.
fn build_dir() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let dir = program.parent().expect("a directory");
    if dir.ends_with("deps") { dir.parent().expect("a parent").to_owned() } else { dir.to_owned() }
}

/// The directory of the workspace.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).expect("the checkout")
}

/// The world of one test. It is removed when dropped.
pub struct World {
    dir: tempfile::TempDir,
}

/// The result of a command.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    /// Its whole standard output.
    pub stdout: String,
    /// Its whole standard error.
    pub stderr: String,
    /// The directory of its run, if it made one.
    pub run_dir: Option<PathBuf>,
    /// The parsed `run.json` of that directory, if there is one.
    record: Option<Value>,
}

pub struct Running {
    pub child: Child,
    home: PathBuf,
    output: PathBuf,
    runs: PathBuf,
    runs_before: Vec<PathBuf>,
}

impl World {
    #[expect(clippy::new_without_default, reason = "it makes directories")]
    pub fn new() -> World {
        if let Some(lacking) = FILES.iter().find(|file| !Path::new(file).exists()) {
            panic!("{lacking} is not there, and --toolchain host asks for it; scripts/setup.sh installs it");
        }
        // Outside the checkout, or git would use its repository for any directory in it.
        let dir = tempfile::Builder::new().prefix("vmtest-cmd").tempdir();
        let world = World { dir: dir.expect("a temporary directory") };
        for below in ["bin", "home", "tmp", "state", "project/xtask", "project/selftests"] {
            fs::create_dir_all(world.path(below)).expect("a directory");
        }
        let fakes = Path::new(env!("CARGO_MANIFEST_DIR")).join("fakes");
        let link = |from: PathBuf, name: &str| symlink(from, world.path("bin").join(name)).expect("a link");
        // Links, not copies: a program that was just written may be "busy" while another test forks.
        for (fake, name) in
            [("make", "make"), ("cargo", "cargo"), ("guest", "qemu-system-x86_64"), ("guest", "vng")]
        {
            link(fakes.join(fake), name);
        }
        TOOLS.iter().for_each(|name| link(fakes.join("tool"), name));
        let path = std::env::var_os("PATH").expect("a PATH");
        for name in BASICS {
            if let Some(found) =
                std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.exists())
            {
                link(found, name);
            }
        }
        for real in ["kconfig", "images"] {
            symlink(checkout().join(real), world.path("project").join(real)).expect("a link");
        }
        for file in ["Cargo.lock", "Cargo.toml", "selftests/lib.rs"] {
            world.write(&format!("project/{file}"), "fake\n");
        }
        world.lists(&TESTS, "");
        world
    }

    /// Makes these the subtests of the fake runner, with more lines for the fake guest.
    pub fn lists(&self, tests: &[&str], more: &str) {
        let listed: Vec<Value> = tests
            .iter()
            .map(|path| {
                let (test, subtest) = path.split_once('/').expect("test/subtest");
                serde_json::json!({
                    "test": test, "subtest": subtest, "about": format!("Proves {path}."),
                    "effort": if *path == "basic/first" { "quick" } else { "normal" },
                    "single_thread": *path == "many/third", "several_cpus": *path == "many/third",
                })
            })
            .collect();
        self.write("home/list.json", &Value::from(listed).to_string());
        let (protocol, last_word) = (vmtest_protocol::PROTOCOL, vmtest_protocol::LAST_WORD);
        let all = tests.join(" ");
        let environment = format!("protocol={protocol}\nlast_word='{last_word}'\nall='{all}'\n{more}");
        self.write("home/guest.env", &environment);
    }

    /// A path in it.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Writes a file in it.
    pub fn write(&self, below: &str, text: &str) -> PathBuf {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, text).expect("a file");
        path
    }

    /// Reads a file in it; a missing file is empty.
    pub fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap_or_default()
    }

    /// How often the fake make was called for this target.
    pub fn made(&self, target: &str) -> usize {
        self.read("home/make.calls").lines().filter(|call| *call == target).count()
    }

    /// A kernel tree without git whose make and guest do this; see `fakes/make` and `fakes/guest`.
    pub fn tree(&self, name: &str, does: &str) -> PathBuf {
        let file = |below: &str, text: &str| drop(self.write(&format!("{name}/{below}"), text));
        file("Makefile", "VERSION = 6\nPATCHLEVEL = 18\nSUBLEVEL = 0\nEXTRAVERSION =\n");
        file(
            "Kconfig",
            "mainmenu \"fake\"\n\nconfig BPF_EVENTS\n\tbool \"events\"\n\tdepends on FAKE_TRACING\n\n\
             config FAKE_TRACING\n\tbool \"tracing\"\n",
        );
        file(".gitignore", "*.o\n");
        file("kernel/fake.c", "int first;\nint second;\nint third;\n");
        file("fake.does", &format!("{does}\n"));
        self.path(name)
    }

    /// Seals a cache entry that a test made, as the harness does with its own; see `workdir/seal.rs`. Without
    /// times: those are compared first, and if they differ the content decides.
    pub fn seal(&self, entry: &str) {
        let top = self.path(entry);
        let hash = |bytes: &[u8]| -> String {
            Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let names = |dir: &Path| -> Vec<String> {
            let entries = fs::read_dir(dir).expect("listed").flatten();
            let mut names: Vec<String> =
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.retain(|name| !name.starts_with(".vmtest-"));
            names.sort();
            names
        };
        let (mut paths, mut lines, mut count) = (String::new(), String::new(), 0);
        for found in walkdir::WalkDir::new(&top).sort_by_file_name() {
            let found = found.expect("walked");
            let below = found.path().strip_prefix(&top).expect("below").display().to_string();
            if below == ".vmtest-seal" {
                continue;
            }
            let stat = found.metadata().expect("read");
            let (size, hash) = if stat.is_dir() {
                let listed: String = names(found.path()).iter().map(|name| format!("{name}\0")).collect();
                (0, hash(listed.as_bytes()))
            } else {
                (stat.size(), hash(&fs::read(found.path()).expect("read")))
            };
            count += 1;
            paths.push_str(&format!("{below}\0"));
            lines.push_str(&format!("{:o} {size} 0.0 0.0 {hash}\0", stat.mode()));
        }
        let text = format!("vmtest seal 2\0{count}\0none\0{paths}{lines}");
        let sum = hash(text.as_bytes());
        fs::write(top.join(".vmtest-seal"), text + &sum).expect("written");
    }

    /// A source of the archive in the cache, whose make and guest do this.
    pub fn archived(&self, does: &str) {
        self.tree(ARCHIVED, does);
        self.seal(ARCHIVED);
    }

    /// The same in a repository with one commit.
    pub fn repo(&self, name: &str, does: &str) -> PathBuf {
        let top = self.tree(name, does);
        git(&top, &["init", "-q", "-b", "main"]);
        self.commit(&top, "first");
        top
    }

    pub fn commit(&self, top: &Path, subject: &str) {
        git(top, &["add", "-A"]);
        git(top, &["commit", "-qm", subject]);
    }

    /// A patch that renames one variable of `kernel/fake.c`, as a mail.
    pub fn patch(&self, name: &str, from: &str, to: &str) -> PathBuf {
        let rest = ["first", "second", "third"].map(|other| {
            if other == from { format!("-int {from};\n+int {to};\n") } else { format!(" int {other};\n") }
        });
        // An unknown name: a patch for another tree.
        let body = if ["first", "second", "third"].contains(&from) {
            rest.concat()
        } else {
            format!("-int {from};\n+int {to};\n int second;\n int third;\n")
        };
        self.write(
            name,
            &format!(
                "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\n\
                 Date: Thu, 1 Jan 2026 00:00:00 +0000\nSubject: [PATCH] fake: rename {from}\n\nIt had a bad name.\n\
                 ---\n kernel/fake.c | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)\n\n\
                 diff --git a/kernel/fake.c b/kernel/fake.c\n--- a/kernel/fake.c\n+++ b/kernel/fake.c\n\
                 @@ -1,3 +1,3 @@\n{body}--\n2.39.0\n"
            ),
        )
    }

    /// A command of the harness in this world.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(words).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        for (name, below) in [
            ("PATH", "bin"),
            ("HOME", "home"),
            ("TMPDIR", "tmp"),
            ("VMTEST_CACHE_DIR", "cache"),
            ("XDG_STATE_HOME", "state"),
            ("CARGO", "bin/cargo"),
            ("CARGO_MANIFEST_DIR", "project/xtask"),
        ] {
            command.env(name, self.path(below));
        }
        // A full disk of the machine is not the cause of what a test sees.
        command.env("VMTEST_KEEP_FREE", "0");
        command
    }

    /// `vmtest` with the host's (fake) tools, emulated.
    pub fn vmtest(&self, words: &[&str]) -> Command {
        let first = ["vmtest", "--toolchain", "host", "--accel", "tcg"];
        self.command(&first.iter().chain(words).copied().collect::<Vec<_>>())
    }

    /// Runs `vmtest` to its end.
    pub fn run(&self, words: &[&str]) -> Done {
        self.start(self.vmtest(words)).done()
    }

    /// Starts a command. Its output goes into files: with pipes, the command could block on the test that
    /// waits for it.
    pub fn start(&self, mut command: Command) -> Running {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let output = self.path(&format!("output-{}", COUNT.fetch_add(1, Ordering::SeqCst)));
        let runs = self.path("state/vmtest/runs");
        let file = |kind: &str| File::create(output.with_extension(kind)).expect("a file");
        command.stdout(file("out")).stderr(file("err"));
        let runs_before = run_dirs(&runs);
        let child = command.spawn().expect("the binary starts");
        Running { child, home: self.path("home"), output, runs, runs_before }
    }

    /// Asserts that a run left nothing behind: scratch directories in the cache, FIFOs in the temporary
    /// directory.
    pub fn is_clean(&self) {
        for below in ["cache/tmp", "tmp"] {
            let left: Vec<_> = fs::read_dir(self.path(below)).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "left in {below}: {left:?}");
        }
        self.no_process_is_left(Duration::ZERO);
    }

    /// Asserts that each process reported by a fake ends within this time.
    pub fn no_process_is_left(&self, within: Duration) {
        let begun = Instant::now();
        let pids = self.read("home/pids");
        for pid in pids.lines() {
            while lives(pid) {
                assert!(begun.elapsed() <= within, "process {pid} is left");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Whether a process exists and is not a zombie that has yet to be reaped.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

fn run_dirs(runs: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut dirs: Vec<PathBuf> = entries.filter(|path| !path.is_symlink()).collect();
    dirs.sort();
    dirs
}

impl Running {
    /// Waits until a fake has reported its process, which it does when it starts to hang.
    pub fn wait_for_hang(&mut self) {
        let begun = Instant::now();
        while !fs::read_to_string(self.home.join("pids")).is_ok_and(|text| text.ends_with('\n')) {
            let said = || fs::read_to_string(self.output.with_extension("err")).unwrap_or_default();
            assert!(begun.elapsed() < LIMIT, "nothing hung within {LIMIT:?}; it said:\n{}", said());
            assert!(self.child.try_wait().expect("waited").is_none(), "it ended before anything hung");
            std::thread::sleep(Duration::from_millis(10));
        }
        // The shell that reported it may be about to exec.
        std::thread::sleep(Duration::from_millis(50));
    }

    /// Waits until this appears on standard error.
    pub fn wait_to_say(&mut self, what: &str) {
        let begun = Instant::now();
        let said = self.output.with_extension("err");
        while !fs::read_to_string(&said).is_ok_and(|text| text.contains(what)) {
            assert!(begun.elapsed() < LIMIT, "it did not say {what:?} within {LIMIT:?}");
            assert!(self.child.try_wait().expect("waited").is_none(), "it ended without saying {what:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal to this process only.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("it still runs");
    }

    /// Waits for its end.
    pub fn done(self) -> Done {
        self.done_within(LIMIT)
    }

    /// Waits for its end, but no longer than this.
    pub fn done_within(mut self, limit: Duration) -> Done {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                break status;
            }
            if begun.elapsed() > limit {
                let _ = self.child.kill();
                let said = fs::read_to_string(self.output.with_extension("err")).unwrap_or_default();
                panic!("it did not end within {limit:?}; it said:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |kind: &str| {
            String::from_utf8_lossy(&fs::read(self.output.with_extension(kind)).expect("its output"))
                .into_owned()
        };
        let run_dir = run_dirs(&self.runs).into_iter().rfind(|dir| !self.runs_before.contains(dir));
        // Read now: the world may be gone when it is needed.
        let record = run_dir.as_ref().and_then(|dir| fs::read_to_string(dir.join("run.json")).ok());
        let record = record.map(|text| serde_json::from_str(&text).expect("run.json is JSON"));
        Done { status, stdout: read("out"), stderr: read("err"), run_dir, record }
    }
}

impl Done {
    /// The result of a command that ran inside another one.
    pub fn told_elsewhere(code: i32, stdout: String, stderr: String) -> Done {
        let status = std::os::unix::process::ExitStatusExt::from_raw(code << 8);
        Done { status, stdout, stderr, run_dir: None, record: None }
    }

    /// Asserts the exit code, and that `run.json` (if any) and the last line agree.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Done {
        assert_eq!(self.status.code(), Some(code), "{self}");
        if let Some(json) = &self.record {
            assert_eq!(json["exit_code"], code, "{self}");
            let last = self.stdout.lines().last().unwrap_or_default();
            assert!(last.starts_with(&format!("exit {code}: ")), "last line: {last}\n{self}");
        }
        self
    }

    /// Asserts that standard error or output contains each of these, regardless of line breaks.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) -> &Done {
        for part in parts {
            assert!(self.told(part) > 0, "nothing says {part:?}\n{self}");
        }
        self
    }

    /// How often standard error and output contain this, regardless of line breaks.
    pub fn told(&self, part: &str) -> usize {
        let flowing = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let part = flowing(part);
        [&self.stdout, &self.stderr].map(|text| flowing(text).matches(&part).count()).iter().sum()
    }

    /// Asserts that there is one error at the end of standard error, and no run directory.
    #[track_caller]
    pub fn refuses(&self, code: i32, parts: &[&str]) -> &Done {
        self.exits(code);
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "one clear message\n{self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
        assert_eq!(self.stdout, "", "{self}");
        self.says(parts)
    }

    /// The parsed `run.json`.
    #[track_caller]
    pub fn json(&self) -> &Value {
        self.record.as_ref().unwrap_or_else(|| panic!("there is no run.json\n{self}"))
    }

    /// `test/subtest` to its outcome; of one kernel if it is given.
    #[track_caller]
    pub fn outcomes(&self, kernel: Option<&str>) -> BTreeMap<String, String> {
        let json = self.json();
        let cells = json["cells"].as_array().expect("cells").iter();
        cells
            .filter(|cell| kernel.is_none_or(|kernel| cell["kernel"] == kernel))
            .map(|cell| {
                (format!("{}/{}", text(&cell["test"]), text(&cell["subtest"])), text(&cell["outcome"]))
            })
            .collect()
    }
}

/// Content of a JSON string.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}

impl std::fmt::Display for Done {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}\n--- stdout\n{}--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

/// Runs git with an identity and without the user's settings.
pub fn git(top: &Path, words: &[&str]) {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-C"]).arg(top).args(words);
    assert!(command.status().expect("git runs").success(), "git {words:?}");
}

/// Everything below a directory with size and modification time, including `.git`.
pub fn listing(top: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    walkdir::WalkDir::new(top)
        .into_iter()
        .map(|entry| {
            let entry = entry.expect("listed");
            let stat = entry.metadata().expect("read");
            (entry.into_path(), (stat.size(), stat.mtime(), stat.mtime_nsec()))
        })
        .collect()
}
