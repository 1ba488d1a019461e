// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real virtual machines: the built command, real kernels, real deaths. `cargo xtask test` runs these by
//! name.
//!
//! Two of them run in parallel if there are two cores: each has its own directories and files below
//! `CARGO_TARGET_TMPDIR`, and shared resources (caches, object directories) are locked. The longest ones
//! should not be the last.
//!
//! Nothing here is skipped: if a kernel cannot be fetched, built or booted, the test fails. Kernels are named
//! by role and looked up when the test runs, because versions disappear from the archive. At most three
//! kernels are built from scratch: the default one (the project's series on its base), that base, and a
//! user's tree. Other builds differ from the default one in some `.c` files: they start with its objects, or
//! use ccache (the bisection, whose repository is a separate origin).

mod bisect;
mod failures;
mod findings;
mod installed;
mod isolation;
mod report;
mod soak;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// The exit code and output of `xtask`, with the run's directory.
struct Ran {
    code: i32,
    out: String,
    err: String,
    dir: PathBuf,
}

fn xtask(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).args(words).env("CI", "true").output().expect("xtask starts")
}

/// `vmtest` with a separate run directory, named after the test.
fn vmtest(name: &str, words: &[&str]) -> Ran {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm").join(name);
    let _ = fs::remove_dir_all(&dir);
    let out = dir.to_str().expect("the target directory has a plain name").to_owned();
    let output = xtask(&[&["vmtest", "--out", &out], words].concat());
    let ran = Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        dir,
    };
    // cargo only shows this when the test fails.
    println!("$ vmtest {}\n{}{}exit {}", words.join(" "), ran.err, ran.out, ran.code);
    ran
}

impl Ran {
    fn run(&self) -> Value {
        let text = fs::read_to_string(self.dir.join("run.json")).expect("there is a run.json");
        let run: Value = serde_json::from_str(&text).expect("run.json is JSON");
        assert_eq!(run["exit_code"], self.code, "run.json and the process agree");
        run
    }

    /// Outcomes of a kernel's cells (of all kernels with `""`).
    fn outcomes(&self, kernel: &str) -> Vec<String> {
        self.outcomes_by_group(kernel).into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Group and outcome of a kernel's cells, without those that are neither run nor required: subtests that need
    /// a missing bpftool, and groups that need another kernel or variant.
    fn outcomes_by_group(&self, kernel: &str) -> Vec<(String, String)> {
        let run = self.run();
        let cells = run["cells"].as_array().expect("cells are an array").clone();
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let of_kernel = cells.iter().filter(|cell| kernel.is_empty() || cell["kernel"] == kernel);
        let aside = |cell: &&Value| {
            let optional = cell["test"] == "multi" || cell["test"] == "failnth";
            let absent = cell["outcome"] == "notrun" || (cell["outcome"] == "skip" && optional);
            cell["required"] == false && absent
        };
        let counted = of_kernel.filter(|cell| !aside(cell));
        counted.map(|cell| (text(&cell["test"]), text(&cell["outcome"]))).collect()
    }

    /// Every cell of the kernel is a skip, except those that need no fsession, which pass or are a known bug.
    fn assert_lacks_fsession(&self, kernel: &str) {
        let outcomes = self.outcomes_by_group(kernel);
        let wrong: Vec<_> = outcomes
            .iter()
            .filter(|(group, outcome)| match &group[..] {
                "elsewhere" => outcome != "pass" && outcome != "xfail",
                _ => outcome != "skip",
            })
            .collect();
        assert!(outcomes.len() >= 70 && wrong.is_empty(), "{kernel}: {wrong:?}");
        self.assert_known_bugs(kernel);
    }

    /// Every cell is `notrun`, and there is at least one.
    fn assert_never_ran(&self) {
        let outcomes = self.outcomes("");
        assert!(!outcomes.is_empty() && outcomes.iter().all(|outcome| outcome == "notrun"), "{outcomes:?}");
    }

    /// Whether a kernel of this run came from the cache.
    fn was_cached(&self) -> bool {
        let run = self.run();
        let mut phases = run["phases"].as_array().expect("phases").iter();
        phases.any(|phase| phase["name"] == "build" && phase["cached"] == true)
    }

    /// Every cell of the kernel is a pass or a declared known bug, and there are enough of them to mean
    /// something.
    fn assert_good(&self, kernel: &str, at_least: usize) {
        let outcomes = self.outcomes(kernel);
        assert!(outcomes.len() >= at_least, "{} cells", outcomes.len());
        assert!(outcomes.iter().all(|outcome| outcome == "pass" || outcome == "xfail"), "{outcomes:?}");
        self.assert_known_bugs(kernel);
    }

    /// Every declared known bug of the kernel is one of [`KNOWN`], and names the page of that.
    fn assert_known_bugs(&self, kernel: &str) {
        let run = self.run();
        let cells = run["cells"].as_array().expect("cells").iter();
        let of_kernel = cells.filter(|cell| kernel.is_empty() || cell["kernel"] == kernel);
        for cell in of_kernel.filter(|cell| cell["outcome"] == "xfail") {
            let text = |key: &str| cell[key].as_str().unwrap_or("");
            let (path, reason) = (format!("{}/{}", text("test"), text("subtest")), text("reason"));
            let known =
                if text("kernel").ends_with("+fsession") { &KNOWN[..KNOWN_OF_SERIES] } else { &KNOWN };
            let page = known.iter().find(|(test, _)| *test == path).map(|(_, page)| *page);
            let page = page.unwrap_or_else(|| panic!("{path} is not known to fail: {reason}"));
            assert!(reason.contains(&format!("docs/findings/{page}.md")), "{path}: {reason}");
        }
    }
}

/// Subtests that show a known bug, and its page. The first ones do so on 6.18 with the series as well.
const KNOWN: [(&str, &str); 15] = [
    ("mixed/exception_through_fexit", "throw-through-trampoline"),
    ("mixed/exception_through_session", "throw-through-trampoline"),
    ("info/in_link_iterator", "unsettled-link"),
    ("cookie/tail_call_refused", "tail-call-into-cookie"),
    ("cookie/tail_call_refused_at_load", "tail-call-into-cookie"),
    ("elsewhere/sleepable_kprobe_refused", "sleepable-kprobe"),
    ("in_flight/links_change_under_load", "exit-without-entry"),
    ("in_flight/new_calls_while_detaching", "exit-without-entry"),
    ("mixed/second_program_with_tail_calls", "second-program-tail-calls"),
    ("multi/argument_tagged_as_context", "context-argument-in-multi"),
    ("multi/calls_while_detaching", "exit-without-entry"),
    ("multi/stress", "exit-without-entry"),
    ("reject/throw_function", "noreturn-leak"),
    ("reject/unchecked_pointer", "null-return-at-entry"),
    ("stress/attach_detach_under_load", "exit-without-entry"),
];
/// How many of these are bugs of 6.18 with the series.
const KNOWN_OF_SERIES: usize = 3;

/// Images of the archive by role: newest with fsession (7.0 and later), newest without (before 7.0). The
/// guest's BTF decides whether that is true: the tests below check the results.
fn images() -> &'static (String, String) {
    static IMAGES: OnceLock<(String, String)> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let output = xtask(&["sources", "--json"]);
        let listed: Value = serde_json::from_slice(&output.stdout).expect("sources --json is JSON");
        let versions = listed["versions"].as_array().expect("versions are an array");
        let with_image = versions.iter().filter(|row| {
            row["images"].as_array().is_some_and(|images| {
                images.iter().any(|image| image["flavour"] == "cloud-amd64" || image == "cloud-amd64")
            })
        });
        let numbers: Vec<&str> = with_image.filter_map(|row| row["version"].as_str()).collect();
        let major =
            |version: &str| version.split('.').next().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let newest = |wanted: &dyn Fn(u32) -> bool| {
            let found = numbers.iter().find(|version| wanted(major(version)));
            format!("debian:{}", found.unwrap_or_else(|| panic!("no such image in {numbers:?}")))
        };
        (newest(&|major| major >= 7), newest(&|major| major < 7))
    })
}

/// ID and release of the default kernel, which the first test builds.
fn default_kernel() -> (&'static str, &'static str) {
    static KERNEL: OnceLock<(String, String)> = OnceLock::new();
    let (id, release) = KERNEL.get_or_init(|| {
        let ran = vmtest("default-id", &["--boot", "direct", "--effort", "quick"]);
        let field = |name: &str| ran.run()["kernels"][0][name].as_str().expect("it has one").to_owned();
        (field("id"), field("release"))
    });
    (id, release)
}

/// The default kernel without the series.
const BASE: &str = "src:6.18";

fn base_kernel() -> &'static str {
    default_kernel().0.split('+').next().expect("a first part")
}

/// The cached source of the base, to copy users' trees from. A run whose kernel is cached needs no source, so
/// it may have to be fetched.
fn default_source() -> PathBuf {
    static SOURCE: OnceLock<PathBuf> = OnceLock::new();
    let fetched = || {
        assert_eq!(vmtest("source", &["--kernel", BASE, "--config", text(&misspelt("source"))]).code, 11);
        find_source().expect("the base's source is cached")
    };
    SOURCE.get_or_init(|| find_source().unwrap_or_else(fetched)).clone()
}

/// A separate fragment file with an option that does not exist.
fn misspelt(name: &str) -> PathBuf {
    let fragment = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("misspelt-{name}.config"));
    fs::write(&fragment, "CONFIG_BFP_JIT=y\n").expect("written");
    fragment
}

fn find_source() -> Option<PathBuf> {
    let version = base_kernel().strip_prefix("src:").expect("the base is a src: kernel").to_owned();
    let cache = std::env::var_os("VMTEST_CACHE_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"))
            .join("vmtest")
    });
    let found = fs::read_dir(cache.join("source")).into_iter().flatten().flatten().find(|entry| {
        // Commits of bisections have the same version.
        if !entry.file_name().to_string_lossy().starts_with("debian-") {
            return false;
        }
        let makefile = fs::read_to_string(entry.path().join("Makefile")).unwrap_or_default();
        let number = |name: &str| {
            let line = makefile.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='));
            line.map(|value| value.trim().to_owned()).unwrap_or_default()
        };
        format!("{}.{}.{}", number("VERSION"), number("PATCHLEVEL"), number("SUBLEVEL")) == version
    });
    found.map(|entry| entry.path())
}

/// A line of C that is in no cache.
fn new_line() -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos();
    format!("static int __maybe_unused vmtest_{now};")
}

/// A file that a trampoline series has no reason to change.
const TARGET: &str = "kernel/bpf/hashtab.c";

/// A one-patch series that appends `line` to [`TARGET`].
fn series(name: &str, line: &str) -> PathBuf {
    let source = fs::read_to_string(default_source().join(TARGET)).expect("the file is there");
    let lines: Vec<&str> = source.lines().collect();
    let context = &lines[lines.len() - 3..];
    let start = lines.len() - 2;
    let mut diff = format!(
        "From: A Developer <a@example.org>\nSubject: [PATCH] bpf: {name}\n\nA test.\n---\n\
         diff --git a/{TARGET} b/{TARGET}\n--- a/{TARGET}\n+++ b/{TARGET}\n@@ -{start},3 +{start},4 @@\n"
    );
    context.iter().for_each(|line| diff.push_str(&format!(" {line}\n")));
    diff.push_str(&format!("+{line}\n-- \n2.0\n"));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.patch"));
    fs::write(&path, diff).expect("written");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the target directory has a plain name")
}

#[test]
fn a_the_default_kernel_passes_through_vng_and_its_base_lacks_the_feature() {
    let ran = vmtest("default", &["--with-base"]);
    assert_eq!(ran.code, 0);
    let run = ran.run();
    let (base, patched) = (&run["kernels"][0]["id"], &run["kernels"][1]["id"]);
    let (base, patched) = (base.as_str().expect("an id"), patched.as_str().expect("an id"));
    assert!(base.starts_with("src:6.18.") && patched == format!("{base}+fsession"), "{base}, {patched}");
    ran.assert_good(patched, 60);
    let tools = ran.outcomes_by_group(patched).into_iter().filter(|(group, _)| group == "tools");
    assert!(tools.filter(|(_, outcome)| outcome == "pass").count() >= 3, "bpftool was built and used");
    ran.assert_lacks_fsession(base);
    for at in 0..2 {
        assert_eq!(run["boots"][at]["boot"], "vng");
        assert_eq!(run["boots"][at]["class"], 0);
        assert_eq!(run["kernels"][at]["toolchain"], "gcc");
    }
    let value = run["boots"][1]["features"]["BPF_TRACE_FSESSION"].as_str().unwrap_or_default();
    assert!(value.parse::<u32>().is_ok(), "{value:?} is no value of an enum");
    assert_eq!(run["splats"].as_array().map(Vec::len), Some(0));
    for file in ["log", "plan.json"] {
        assert!(ran.dir.join(file).is_file(), "{file}");
    }
    assert!(ran.out.contains("pass*"), "{}", ran.out);
    assert!(ran.out.lines().last().is_some_and(|line| line.starts_with("exit 0: pass ")), "{}", ran.out);
    // Without arguments it is the same kernel.
    assert_eq!(default_kernel().0, patched);
}

#[test]
fn b_the_same_kernel_boots_directly_with_one_and_two_cpus() {
    default_kernel();
    for (name, words, code) in [("direct-1", &["--cpus", "1"][..], 3), ("direct-2", &["--cpus", "2"], 0)] {
        let ran = vmtest(name, &[&["--boot", "direct"], words].concat());
        assert_eq!(ran.code, code);
        if code == 0 {
            ran.assert_good("", 60);
        } else {
            // Only subtests that need several CPUs.
            let run = ran.run();
            let cells = run["cells"].as_array().expect("cells").iter();
            let bad: Vec<_> = cells.filter(|cell| cell["class"] != 0).collect();
            let lacks_cpu = |cell: &&Value| {
                let reason = cell["reason"].as_str().unwrap_or_default();
                cell["outcome"] == "skip" && reason.contains("more than one CPU")
            };
            assert!(bad.len() >= 3 && bad.iter().all(lacks_cpu), "{bad:?}");
        }
        assert!(!ran.err.contains("CPUs of"), "{}", ran.err);
        assert!(ran.was_cached());
    }
}

#[test]
fn c_expectations_turned_round_fail_every_one() {
    let ran = vmtest("self-test", &["--boot", "direct", "--self-test"]);
    assert_eq!(ran.code, 1);
    let outcomes = ran.outcomes("");
    assert!(outcomes.len() >= 60 && outcomes.iter().all(|outcome| outcome == "fail"), "{outcomes:?}");
}

#[test]
fn d_a_matrix_of_kernels_with_and_without_the_feature() {
    let (with, without) = images();
    let kernels = ["--kernel", with.as_str(), "--kernel", without.as_str(), "--kernel", BASE];
    let ran = vmtest("matrix", &kernels);
    assert_eq!(ran.code, 3);
    ran.assert_good(with, 60);
    for lacking in [without, base_kernel()] {
        ran.assert_lacks_fsession(lacking);
    }
    assert!(ran.out.contains("BTF has no BPF_TRACE_FSESSION"), "{}", ran.out);
    for line in ran.out.lines().take_while(|line| !line.is_empty()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let allowed = [without, base_kernel()].map(|kernel| format!("{kernel}=*"));
    let allow = ["--allow-skip", &allowed[0], "--allow-skip", &allowed[1]];
    // The results of all subtests are checked above; whether they count can be checked with a few.
    let some = ["--test", "info", "--test", "elsewhere"];
    let ran = vmtest("matrix-allowed", &[&kernels[..], &allow, &some].concat());
    assert_eq!(ran.code, 0);
    for lacking in [without, base_kernel()] {
        let outcomes = ran.outcomes(lacking);
        for outcome in ["skip", "pass"] {
            assert!(outcomes.iter().any(|one| one == outcome), "{lacking}: no {outcome} in {outcomes:?}");
        }
    }
    ran.assert_good(with, 6);
}

#[test]
fn e_a_series_is_built_on_top_and_only_what_it_changes() {
    // Two versions at one path, each new to every cache: what the first one compiles depends on the cache,
    // what the second one compiles does not.
    let version = || {
        let patch = series("harmless", &new_line());
        vmtest("series", &["--patches", "fsession", "--patches", text(&patch), "--effort", "quick"])
    };
    assert_eq!(version().code, 0);
    let ran = version();
    assert_eq!(ran.code, 0);
    let run = ran.run();
    let id = run["kernels"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(id, format!("{}+harmless", default_kernel().0));
    let series = run["kernels"][0]["series"].as_array().expect("a list of subjects");
    assert_eq!(series.last().and_then(Value::as_str), Some("bpf: harmless"));
    let mut builds = fs::read_dir(ran.dir.join("builds")).expect("it was built");
    let log = builds.next().expect("one build").expect("listed").path().join("build.log");
    // It uses the object directory that the first version left, so only one file of kernel/bpf is compiled.
    let log = fs::read_to_string(log).expect("a build log");
    let compiled = log.lines().filter(|line| line.starts_with("  CC ")).count();
    assert!((1..30).contains(&compiled), "{compiled} objects for one changed file");
    let version = run["boots"][0]["features"]["version"].as_str().expect("a version");
    assert!(version.contains(" #1 "), "{version}: it counts the links in that directory");
}

#[test]
fn f_what_does_not_build_apply_or_configure_says_so_and_never_boots() {
    let broken = series("broken", "int vmtest_broken = nonexistent_symbol;");
    let ran = vmtest("broken", &["--patches", "fsession", "--patches", text(&broken), "--effort", "quick"]);
    assert_eq!(ran.code, 12);
    assert!(ran.out.contains(TARGET) && ran.out.contains("nonexistent_symbol"), "{}", ran.out);
    ran.assert_never_ran();

    let stale = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stale.patch");
    let good = fs::read_to_string(series("stale-source", "static int __maybe_unused x;")).expect("written");
    fs::write(&stale, good.replace("@@\n ", "@@\n not what stands there ")).expect("written");
    let ran = vmtest("stale", &["--patches", text(&stale), "--effort", "quick"]);
    assert_eq!(ran.code, 10);
    assert!(ran.out.contains("patch 1 of 1") && ran.out.contains(TARGET), "{}", ran.out);

    let ran = vmtest("misspelt", &["--config", text(&misspelt("f")), "--effort", "quick"]);
    assert_eq!(ran.code, 11);
    assert!(ran.out.contains("BFP_JIT") && ran.out.contains("BPF_JIT"), "{}", ran.out);
}

#[test]
fn g_a_users_tree_is_tested_as_it_is_and_left_as_it_was() {
    // Hard links to the cached source: a changed file gets its own copy.
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("user tree/linux");
    let _ = fs::remove_dir_all(tree.parent().expect("has one"));
    fs::create_dir_all(tree.parent().expect("has one")).expect("made");
    let copied = Command::new("cp").arg("-al").arg(default_source()).arg(&tree).status().expect("cp runs");
    let copied = if copied.success() {
        true
    } else {
        // The cache is on another file system.
        Command::new("cp").arg("-a").arg(default_source()).arg(&tree).status().expect("cp runs").success()
    };
    assert!(copied);
    let file = tree.join(TARGET);
    let mut source = fs::read_to_string(&file).expect("the file is there");
    // It must be built: with a cached kernel the tree would certainly stay unchanged.
    source.push_str(&format!("{}\n", new_line()));
    fs::remove_file(&file).expect("removed");
    fs::write(&file, source).expect("written");
    let listing = |tree: &Path| {
        let mut command = Command::new("find");
        command.arg(tree).args(["-printf", "%P %s %T@ %m\n"]);
        command.output().expect("find runs").stdout
    };
    let before = listing(&tree);
    let spec = format!("tree:{}", text(&tree));
    let ran = vmtest("tree", &["--kernel", &spec, "--patches", "fsession", "--effort", "quick"]);
    assert_eq!(ran.code, 0);
    assert!(!ran.was_cached(), "nothing was built");
    assert!(before == listing(&tree), "the user's tree was changed");
    let _ = fs::remove_dir_all(tree.parent().expect("has one"));
}

#[test]
fn h_deaths_are_never_passes() {
    // Both ways of booting: the console reaches the harness on different paths.
    for boot in ["direct", "vng"] {
        let ran = vmtest(
            &format!("panic-{boot}"),
            &["--boot", boot, "--exec", "echo c > /proc/sysrq-trigger; sleep 60"],
        );
        assert_eq!(ran.code, 21);
        assert!(ran.err.contains("sysrq triggered crash"), "{}", ran.err);
        let ran = vmtest(
            &format!("reset-{boot}"),
            &["--boot", boot, "--exec", "echo b > /proc/sysrq-trigger; sleep 60"],
        );
        assert_eq!(ran.code, 24);
    }
    let ran = vmtest("no-init", &["--boot", "direct", "--append", "rdinit=/nothing", "--effort", "quick"]);
    assert_eq!(ran.code, 21);
    let ran = vmtest("no-time", &["--boot", "vng", "--timeout", "boot=1", "--effort", "quick"]);
    assert_eq!(ran.code, 20);
    ran.assert_never_ran();
}

#[test]
fn i_a_command_in_the_guest_gives_its_output_and_its_failure() {
    for boot in ["direct", "vng"] {
        let ran =
            vmtest(&format!("exec-{boot}"), &["--boot", boot, "--exec", "echo out; echo err >&2; uname -r"]);
        assert_eq!(ran.code, 0);
        assert!(ran.out.starts_with("out\n") && ran.out.contains(default_kernel().1), "{}", ran.out);
        assert!(ran.err.contains("err\n"));
        assert_eq!(vmtest(&format!("exec-fails-{boot}"), &["--boot", boot, "--exec", "exit 7"]).code, 1);
    }
}

#[test]
fn j_mutants_of_the_series_are_noticed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches/mutants");
    let mut mutants: Vec<(String, bool)> = fs::read_dir(&dir)
        .expect("there are mutants")
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.strip_suffix(".patch")?.to_owned();
            let text = fs::read_to_string(entry.path()).ok()?;
            let mut files = text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
            Some((name, files.all(|file| file.ends_with(".c"))))
        })
        .collect();
    mutants.sort();
    assert!(mutants.len() >= 10, "{} mutants", mutants.len());
    // A header would rebuild a third of the kernel, and `cargo xtask test --mutants` runs them all.
    let cheap: Vec<&String> = mutants.iter().filter(|(_, cheap)| *cheap).map(|(name, _)| name).collect();
    let (Some(first), Some(last)) = (cheap.first(), cheap.last()) else { panic!("no mutant of a .c file") };
    assert_ne!(first, last);
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm/mutants");
    let words = ["test", "--mutants", "--only", first, "--only", last];
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output =
        command.args(words).env("CI", "true").env("XDG_STATE_HOME", state).output().expect("xtask starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("$ {}\n{err}{out}", words.join(" "));
    assert_eq!(output.status.code(), Some(0));
    assert!(out.ends_with("exit 0: noticed 2\n"), "{out}");
}

#[test]
fn k_a_suite_that_is_a_program_runs_on_the_default_kernel() {
    let ran = vmtest("program", &["--suite", "tracefs"]);
    assert_eq!(ran.code, 0);
    ran.assert_good("", 4);
    let run = ran.run();
    let cells = run["cells"].as_array().expect("cells are an array");
    assert!(cells.iter().all(|cell| cell["suite"] == "tracefs" && cell["boot"] == "vng"), "{cells:?}");
}

#[test]
fn l_the_trees_own_test_of_sessions_passes_on_the_default_kernel() {
    let ran = vmtest("upstream", &["--with-base", "--suite", "upstream", "--test", "fsession_test"]);
    assert_eq!(ran.code, 0);
    let (id, _) = default_kernel();
    ran.assert_good(id, 4);
    // The base does not have this test, which is not a pass.
    assert_eq!(ran.outcomes(base_kernel()), ["missing"]);
    let run = ran.run();
    let cells = run["cells"].as_array().expect("cells are an array");
    assert!(cells.iter().all(|cell| cell["suite"] == "upstream"), "{cells:?}");
}
