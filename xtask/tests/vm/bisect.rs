// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mutant of the series among harmless commits, with some commits in between that do not build and some
//! that do not boot.
//!
//! `VMTEST_SEED=7 cargo test -p xtask --test vm bisect -- --nocapture` uses another history.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::default_source;

/// Files that a harmless commit changes; each is compiled by the default configuration.
const FILES: [&str; 8] = [
    "arraymap.c",
    "disasm.c",
    "hashtab.c",
    "helpers.c",
    "percpu_freelist.c",
    "ringbuf.c",
    "stackmap.c",
    "tnum.c",
];
const HARMLESS: usize = 30;
const UNBUILT: usize = 3;
const UNBOOTED: usize = 2;

/// A random number generator: the same sequence for each seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit.max(1)
    }
}

/// A bare repository that is written without a work tree, because a kernel source is large.
struct Repo(PathBuf);

impl Repo {
    fn git(&self, words: &[&str], input: &str) -> String {
        let mut command = Command::new("git");
        command.env("GIT_DIR", &self.0).env("GIT_INDEX_FILE", self.0.join("vmtest-index")).args(words);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").current_dir(&self.0);
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "A Developer");
            command.env(format!("GIT_{who}_EMAIL"), "a@example.org");
            command.env(format!("GIT_{who}_DATE"), "1700000000 +0000");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("git ends");
        writer.join().expect("a thread").expect("git reads");
        assert!(output.status.success(), "git {words:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The base of the series with the series on top; made once for each state of the series, because that
    /// takes minutes.
    fn base() -> (Repo, String) {
        let source = default_source();
        let series = Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches/fsession-6.18");
        let mut patches: Vec<PathBuf> =
            fs::read_dir(series).expect("the series").flatten().map(|entry| entry.path()).collect();
        patches.retain(|path| path.extension().is_some_and(|kind| kind == "patch"));
        patches.sort();
        let mut state = std::hash::DefaultHasher::new();
        patches.iter().for_each(|path| fs::read(path).expect("a patch").hash(&mut state));
        let source_name = source.file_name().expect("a name").to_string_lossy();
        let name = format!("{source_name}-{:x}", state.finish());
        let repo = Repo(Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm/bisect").join(name));
        let done = repo.0.join("vmtest-base");
        if let Ok(commit) = fs::read_to_string(&done) {
            return (repo, commit);
        }
        let _ = fs::remove_dir_all(&repo.0);
        fs::create_dir_all(&repo.0).expect("made");
        repo.git(&["init", "--quiet", "--bare", "--template="], "");
        let tree = source.to_str().expect("a plain name");
        let add = ["-c", "core.bare=false", "-c", "core.compression=1", "--work-tree", tree, "-C", tree];
        repo.git(&[&add[..], &["add", "--all", "--force", "."]].concat(), "");
        let mut commit = repo.commit(None, "the base of the series");
        for patch in patches {
            commit = repo.patch(&commit, &patch);
        }
        fs::write(done, &commit).expect("written");
        (repo, commit)
    }

    fn commit(&self, parent: Option<&str>, subject: &str) -> String {
        let tree = self.git(&["write-tree"], "");
        let parent = parent.map(|parent| ["-p", parent]).into_iter().flatten();
        let words: Vec<&str> = ["commit-tree", tree.trim()].into_iter().chain(parent).collect();
        self.git(&words, subject).trim().to_owned()
    }

    fn patch(&self, parent: &str, patch: &Path) -> String {
        let text = fs::read_to_string(patch).expect("a patch");
        self.git(&["apply", "--cached", "-"], &text);
        self.commit(Some(parent), &patch.file_stem().expect("a name").to_string_lossy())
    }

    fn read(&self, path: &str) -> String {
        self.git(&["show", &format!(":{path}")], "")
    }

    fn write(&self, path: &str, text: &str) {
        let blob = self.git(&["hash-object", "-w", "--stdin"], text);
        self.git(&["update-index", "--cacheinfo", &format!("100644,{},{path}", blob.trim())], "");
    }
}

/// A mutant that only changes `.c` files of the kernel, and the tests that notice it.
struct Mutant {
    patch: PathBuf,
    tests: Vec<String>,
}

fn mutants() -> Vec<Mutant> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches/mutants");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).expect("mutants").flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mutant = |patch: PathBuf| {
        let text = fs::read_to_string(&patch).ok()?;
        let mut files = text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        let noticed = text.lines().find_map(|line| line.strip_prefix("Noticed-by: "))?;
        let tests: Vec<String> = noticed.split(',').map(|test| test.trim().to_owned()).collect();
        // A death or a kernel warning is a different question, one line is enough for an answer here, and
        // building a bpftool takes longer than the step allows.
        let asks = tests.iter().all(|test| test.contains('/') && !test.starts_with("tools"));
        let asks = asks && !noticed.ends_with(',');
        (asks && files.all(|file| file.ends_with(".c"))).then_some(Mutant { patch, tests })
    };
    paths.into_iter().filter_map(mutant).collect()
}

/// The history of a seed on top of `base`: its last commit, the mutant's commit, and the tests to run.
fn history(repo: &Repo, base: &str, seed: u64) -> (String, String, Mutant) {
    let mut random = Random(seed.wrapping_mul(77_777));
    random.below(2);
    let all = HARMLESS + 1;
    // Where something else is broken: one commit breaks it, and the next one fixes it.
    let mut broken: Vec<usize> = Vec::new();
    while broken.len() < UNBUILT + UNBOOTED {
        let at = 1 + random.below(all - 2);
        if !broken.contains(&at) && !broken.contains(&(at + 1)) && (at == 0 || !broken.contains(&(at - 1))) {
            broken.push(at);
        }
    }
    // A culprit with an untestable neighbour could not be distinguished from it.
    let culprit = loop {
        let at = 1 + random.below(all - 1);
        if !broken.contains(&at) && !broken.contains(&(at - 1)) {
            break at;
        }
    };
    let mut all_mutants = mutants();
    assert!(all_mutants.len() >= 5, "{}", all_mutants.len());
    let mutant = all_mutants.swap_remove(random.below(all_mutants.len()));
    repo.git(&["read-tree", base], "");
    let mut commit = base.to_owned();
    let mut mended: Option<(String, String)> = None;
    let mut first_bad = String::new();
    for at in 0..all {
        if let Some((path, text)) = mended.take() {
            repo.write(&path, &text);
        }
        if at == culprit {
            commit = repo.patch(&commit, &mutant.patch);
            first_bad.clone_from(&commit);
            continue;
        }
        let path = format!("kernel/bpf/{}", FILES[random.below(FILES.len())]);
        let text = repo.read(&path) + &format!("static int __maybe_unused vmtest_harmless_{at};\n");
        let mut subject = format!("bpf: harmless {at}");
        let place = broken.iter().position(|other| *other == at);
        let breaks = match place {
            None => "",
            Some(0..UNBUILT) => "int vmtest_broken = vmtest_nothing_has_this_name;\n",
            Some(UNBUILT) => {
                "#include <linux/panic.h>\nstatic int __init vmtest_dies(void) { panic(\"vmtest: on purpose\"); }\n\
                 core_initcall(vmtest_dies);\n"
            }
            Some(_) => {
                "#include <linux/reboot.h>\nstatic int __init vmtest_resets(void) { emergency_restart(); return 0; }\n\
                 core_initcall(vmtest_resets);\n"
            }
        };
        repo.write(&path, &format!("{text}{breaks}"));
        if let Some(place) = place {
            subject =
                format!("bpf: {} {at}", if place < UNBUILT { "does not build" } else { "does not boot" });
            mended = Some((path, text));
        }
        commit = repo.commit(Some(&commit), &subject);
    }
    (commit, first_bad, mutant)
}

#[test]
fn l_a_mutant_among_harmless_commits_is_found() {
    let seed = std::env::var("VMTEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (repo, base) = Repo::base();
    let (tip, first_bad, mutant) = history(&repo, &base, seed);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vm/bisect-{seed}"));
    let _ = fs::remove_dir_all(&dir);
    let spec = |commit: &str| format!("git:{}@{commit}", repo.0.display());
    let (good, bad) = (spec(&base), spec(&tip));
    let out = dir.to_str().expect("a plain name");
    // The time limit of a guest is part of the question, so this one is always new, whatever is in the cache.
    // Its kernels are made from the seed, and are the same in each checkout.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis();
    let limit = format!("run={}", 2000 + now % 100_000);
    let mut words = vec!["bisect", "--good", &good, "--bad", &bad, "--boot", "direct", "--out", out];
    words.extend(["--timeout", &limit]);
    mutant.tests.iter().for_each(|test| words.extend(["--test", test]));
    let output = super::xtask(&words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("$ {}\n{said}{}", words.join(" "), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(0), "seed {seed}");
    let text = fs::read_to_string(dir.join("bisect.json")).expect("a record");
    let record: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        record["report"]["first"]["commit"],
        first_bad.as_str(),
        "seed {seed}: {}",
        mutant.patch.display()
    );
    let steps = record["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|step| step["cached"] == false), "an answer of an earlier run");
    assert!(steps.iter().map(|step| step["boots"].as_u64().expect("boots")).sum::<u64>() >= 4, "{steps:?}");
    let seconds =
        |name: &str| steps.iter().map(|step| step[name].as_f64().expect("seconds")).collect::<Vec<_>>();
    let (built, ran) = (seconds("built_s"), seconds("ran_s"));
    println!("seed {seed}: {} steps; built {built:.1?} s, ran {ran:.1?} s", steps.len());
    // 36 commits, 2 endpoints; some are skipped.
    assert!(steps.len() <= 2 + 6 + UNBUILT + UNBOOTED, "{} steps", steps.len());
}

/// The file with the functions that a commit of the histories below breaks.
const LINKING: &str = "kernel/bpf/trampoline.c";

/// Harmless commits, except for those where `breaks` returns a change; the commits from the first to the
/// last.
fn line(
    repo: &Repo,
    base: &str,
    length: usize,
    breaks: &dyn Fn(usize) -> Option<(&'static str, String)>,
) -> Vec<String> {
    repo.git(&["read-tree", base], "");
    let mut commits = vec![base.to_owned()];
    for at in 1..=length {
        let subject = format!("bpf: commit {at}");
        match breaks(at) {
            Some((path, text)) => repo.write(path, &text),
            None => {
                let path = format!("kernel/bpf/{}", FILES[at % FILES.len()]);
                let text = repo.read(&path) + &format!("static int __maybe_unused vmtest_line_{at};\n");
                repo.write(&path, &text);
            }
        }
        commits.push(repo.commit(commits.last().map(String::as_str), &subject));
    }
    commits
}

/// Bisects `basic/one_entry_one_exit` between two commits: returns the exit code, the output and the record.
fn asked(repo: &Repo, (good, bad): (&str, &str), more: &[&str]) -> (Option<i32>, String, Value) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm/bisect-by-hand");
    let _ = fs::remove_dir_all(&dir);
    let spec = |commit: &str| format!("git:{}@{commit}", repo.0.display());
    let (good, bad) = (spec(good), spec(bad));
    let out = dir.to_str().expect("a plain name");
    let words = ["bisect", "--good", &good, "--bad", &bad, "--boot", "direct", "--out", out];
    let output = super::xtask(&[&words[..], &["--test", "basic/one_entry_one_exit"], more].concat());
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    println!("{said}");
    let record = fs::read(dir.join("bisect.json")).expect("a record");
    (output.status.code(), said, serde_json::from_slice(&record).expect("JSON"))
}

#[test]
#[ignore = "a long proof, 11 minutes and 7 kernels, run by hand; its result is in docs/evidence/robustness.md"]
fn by_hand_a_test_that_fails_in_four_of_ten_runs_is_traced() {
    let (repo, base) = Repo::base();
    let culprit = 6;
    let breaks = |at: usize| {
        let text = repo.read(LINKING);
        let (head, tail) = text.split_once("\nint bpf_trampoline_link_prog(")?;
        let (declared, body) = tail.split_once("\tint err;\n")?;
        (at == culprit).then(|| {
            let chance = "\tif (link->link.prog->expected_attach_type == BPF_TRACE_FSESSION &&\n\
                \t    get_random_u32_below(10) < 4)\n\t\treturn -EBUSY;\n";
            let text = format!(
                "#include <linux/random.h>\n{head}\nint bpf_trampoline_link_prog({declared}\tint err;\n\n{chance}{body}"
            );
            (LINKING, text)
        })
    };
    let commits = line(&repo, &base, 9, &breaks);
    let ends = (commits[0].as_str(), commits[9].as_str());
    let (code, _, record) = asked(&repo, ends, &["--runs", "12"]);
    assert_eq!(code, Some(0));
    assert_eq!(record["report"]["first"]["commit"], commits[culprit].as_str());
}

#[test]
#[ignore = "a long proof, minutes of builds that fail, run by hand; its result is in docs/evidence/robustness.md"]
fn by_hand_a_range_that_cannot_be_judged_is_the_answer_and_wrong_ends_are_told() {
    let (repo, base) = Repo::base();
    // Nothing between the endpoints builds. The last commit fixes that, and breaks the sessions.
    let breaks = |at: usize| {
        let path = "kernel/bpf/tnum.c";
        match at {
            1 => Some((path, repo.read(path) + "int vmtest_broken = vmtest_nothing_has_this_name;\n")),
            5 => {
                let text = repo.read(LINKING);
                let (head, tail) = text.split_once("\nint bpf_trampoline_link_prog(")?;
                let (declared, body) = tail.split_once("\tint err;\n")?;
                repo.write(path, &repo.git(&["show", &format!("{base}:{path}")], ""));
                let refused = "\tif (link->link.prog->expected_attach_type == BPF_TRACE_FSESSION)\n\t\treturn -EBUSY;\n";
                let text =
                    format!("{head}\nint bpf_trampoline_link_prog({declared}\tint err;\n\n{refused}{body}");
                Some((LINKING, text))
            }
            _ => None,
        }
    };
    let commits = line(&repo, &base, 5, &breaks);
    let (code, said, record) = asked(&repo, (&commits[0], &commits[5]), &[]);
    assert_eq!(code, Some(3), "{said}");
    assert_eq!(
        (record["report"]["answer"].as_str(), &record["report"]["first"]),
        (Some("hidden"), &Value::Null)
    );
    let among = record["report"]["among"].as_array().expect("a range").iter();
    let mut among: Vec<&str> = among.filter_map(|one| one["commit"].as_str()).collect();
    let mut range: Vec<&str> = commits[1..].iter().map(String::as_str).collect();
    among.sort_unstable();
    range.sort_unstable();
    assert_eq!(among, range, "{said}");
    // The later endpoint is good; the earlier one is not bad.
    let (code, said, record) = asked(&repo, (&commits[0], &base_and_one(&repo, &base)), &[]);
    assert_eq!((code, record["report"]["answer"].as_str()), (Some(2), Some("wrong end")), "{said}");
    let (code, said, record) = asked(&repo, (&commits[0], &commits[5]), &["--find-fix"]);
    assert_eq!((code, record["report"]["answer"].as_str()), (Some(2), Some("wrong end")), "{said}");
}

/// A harmless commit on the base.
fn base_and_one(repo: &Repo, base: &str) -> String {
    line(repo, base, 1, &|_| None).swap_remove(1)
}
