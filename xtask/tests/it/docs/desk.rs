// SPDX-License-Identifier: MIT OR Apache-2.0
//! A world with what the pages assume: a checkout of the project beside a kernel repository, a series, kernels of
//! the archive in the cache, earlier runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::bisect::{commit, image};
use crate::coverage;
use crate::support::{ARCHIVED, Done, World, binary, checkout, git};

/// Groups that the pages name.
const TESTS: [&str; 10] = [
    "basic/first",
    "basic/second",
    "basic/args_two",
    "cookie/first",
    "cookie/second",
    "concurrent/first",
    "in_flight/first",
    "stress/first",
    "stress/second",
    "many/third",
];
/// Tests of the tree that `--suite upstream` runs, and their subtests that it chooses.
const UPSTREAM: [(&str, &[&str]); 14] = [
    ("fsession_test", &[]),
    ("tracing_failure", &["one"]),
    ("kprobe_multi_test", &["session", "session_cookie"]),
    ("uprobe_multi_test", &["session", "session_cookie", "session_cookie_recursive"]),
    ("get_func_ip_test", &[]),
    ("get_func_args_test", &[]),
    ("fentry_test", &[]),
    ("fexit_test", &[]),
    ("fentry_fexit", &[]),
    ("modify_return", &[]),
    ("fexit_bpf2bpf", &[]),
    ("trampoline_count", &[]),
    ("bpf_cookie", &[]),
    ("recursion", &[]),
];
/// Sources and images of the archive; the first images do not have the feature.
const SOURCES: [&str; 2] = ["6.18.15", "7.3.4"];
const IMAGES: [&str; 4] = ["6.16.3", "6.19.11", "7.0.13", "7.2.12"];
/// Names of earlier runs.
const RUNS: [&str; 2] = ["20261120-090238-692d4a", "20261121-090238-692d4a"];
/// What pages leave open, and what stands for it here.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("SPEC", "tree:../linux"),
    ("GROUP/NAME", "basic/first"),
    ("MESSAGE-ID", "20260812-fsession-v3-0-1234567890ab@example.org"),
    ("ID", "src-6.18--none--default--auto--own"),
];
const MATRIX: &str = "[[matrix]]\nkernels = ['tree:../linux', 'src:6.18']\nseries = ['none', 'fsession']\n";

/// `cargo xtask` and `kmatrix`, with the host's tools where others are the default.
const PROGRAM: &str = r#"#!/bin/sh
program=$here/bin/kmatrix
case ${0##*/}:$1 in
cargo:xtask) shift; program=$here/bin/xtask ;;
cargo:*) exec "$here/bin/cargo" "$@" ;;
esac
more=
case " $* " in *' --toolchain '*) ;; *) more='--toolchain host' ;; esac
case " $* " in *' --until-fail '*) more="$more --repeat 2" ;; esac
case " $* " in
*' --resume '* | *' --help '*) more= ;;
' report '* | ' sources '* | ' cache '* | ' clean '* | ' man '* | ' completions '*) more= ;;
' ci-matrix '* | ' install '* | ' dist '*) more= ;;
' doctor '*) ;;
*) more="$more --accel tcg" ;;
esac
exec "$program" "$@" $more
"#;

/// b4 as far as it is used here and by the harness.
const B4: &str = r#"#!/bin/sh
[ "$1 $2 $3" = 'prep --show-info start-commit' ] && exec git rev-parse master
while [ $# -gt 1 ]; do
    case $1 in
    --mbox-name) name=$2 ;;
    --outdir | -o) out=$2 ;;
    esac
    shift
done
mkdir -p "$out"
cp "$HOME/thread.mbx" "$out/$(basename "${name:-v3_series.mbx}" .mbx).mbx"
"#;

pub struct Desk {
    world: World,
}

impl Desk {
    /// `fails`: the last commits of the repository fail a test, and 6.18 without the series, too.
    pub fn new(fails: bool) -> Desk {
        let desk = Desk { world: World::new() };
        let world = &desk.world;
        // What `nojit` and `coverage` look for; no other variant does.
        let features =
            "bad='*/second'\nfeatures=',\"net.core.bpf_jit_enable\":\"absent\",\"gcov\":\"yes\"'\n";
        world.lists(&TESTS, &format!("{features}{}", coverage::counting(world, Some("2"), coverage::GCOV)));
        desk.programs();
        desk.repository(if fails { "guest: fail" } else { "guest: pass" });
        desk.archive(if fails { "guest: skip" } else { "guest: pass" });
        desk.series(fails);
        world.write("project/matrix.toml", MATRIX);
        world.write("project/my.toml", MATRIX);
        let suite = checkout().join("selftests/suites/tracefs/suite.toml");
        world.write(
            "project/selftests/suites/tracefs/suite.toml",
            &fs::read_to_string(suite).expect("a suite"),
        );
        let results = ["made", "counts_each_call", "unknown_function_refused", "removed"];
        let results = results.iter().enumerate().map(|(at, name)| format!("ok {} {name}\n", at + 1));
        let report = format!("cat <<'END'\nKTAP version 1\n1..4\n{}END\n", results.collect::<String>());
        world.write("project/selftests/suites/tracefs/run.sh", &report);
        desk
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.world.write(name, text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn programs(&self) {
        let world = &self.world;
        let program = PROGRAM.replace("$here", &world.path("").display().to_string());
        ["desk/cargo", "desk/kmatrix"].iter().for_each(|name| self.script(name, &program));
        ["xtask", "kmatrix"]
            .iter()
            .for_each(|name| symlink(binary(), world.path("bin").join(name)).expect("a link"));
        self.script("desk/b4", B4);
        for name in ["basename", "less"] {
            let _ = symlink(Path::new("/usr/bin").join(name), world.path("bin").join(name));
        }
        self.script("desk/dmesg", "#!/bin/sh\n");
        self.script("project/scripts/setup.sh", "#!/bin/sh\n# It would install packages.\n");
        let job = "#!/bin/sh\nexec cargo xtask matrix run matrix.toml --cell \"$1\" --out \"$2\"\n";
        self.script("project/on-the-big-machine", job);
        self.script("home/harness", "#!/bin/sh\necho \"$*\"\n");
        let user = "[user]\nname = t\nemail = t@example.org\n[advice]\ndetachedHead = false\n";
        world.write("home/.gitconfig", user);
        symlink("../linux", world.path("home/linux")).expect("a link");
        symlink("../project", world.path("home/kmatrix")).expect("a link");
        for dir in [".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"] {
            fs::create_dir_all(world.path("home").join(dir)).expect("made");
        }
    }

    /// `linux`: releases and `master`, and on top of them a topic whose last two commits do this.
    fn repository(&self, does: &str) {
        let world = &self.world;
        self.tests_of("linux");
        let top = world.repo("linux", "guest: pass");
        git(&top, &["branch", "-m", "master"]);
        for name in ["v6.18", "v7.3", "A"] {
            git(&top, &["tag", name]);
        }
        git(&top, &["branch", "bpf-next/master"]);
        git(&top, &["checkout", "-q", "-b", "panics"]);
        commit(world, &top, "it panics", "guest: panic");
        git(&top, &["checkout", "-q", "-b", "topic", "master"]);
        for (subject, does) in [("one", "guest: pass"), ("two", does), ("three", does)] {
            commit(world, &top, subject, does);
        }
        git(&top, &["branch", "my-topic"]);
        git(&top, &["tag", "B"]);
    }

    /// The tree's own tests.
    fn tests_of(&self, tree: &str) {
        let file = |name: &str, text: &str| {
            drop(self.world.write(&format!("{tree}/tools/testing/selftests/bpf/{name}"), text));
        };
        file("Makefile", "TRUNNER_EXTRA_SOURCES := test_progs.c\nLSKELS := light.c\nLINKED_SKELS :=\n");
        file("DENYLIST", "");
        file("config", "CONFIG_BPF=y\n");
        for (name, subtests) in UPSTREAM {
            let mut source = format!("#include \"{name}.skel.h\"\nvoid test_{name}(void)\n{{\n}}\n");
            for (at, subtest) in subtests.iter().enumerate() {
                source += &format!("//{name}: #1/{}     {name}/{subtest}:OK\n", at + 1);
            }
            let count = subtests.len();
            source += &format!(
                "//{name}: #1       {name}:OK\n//{name}: Summary: 1/{count} PASSED, 0 SKIPPED, 0 FAILED\n"
            );
            file(&format!("prog_tests/{name}.c"), &source);
            file(&format!("progs/{name}.c"), "int x;\n");
        }
    }

    fn archive(&self, does: &str) {
        let world = &self.world;
        let release = |version: &&str| {
            let entry = format!("cache/source/debian-tarball-{version}-0123456789ab");
            self.tests_of(&entry);
            world.tree(&entry, if entry == ARCHIVED { does } else { "guest: pass" });
            world.seal(&entry);
            serde_json::json!({ "upstream": version, "version": version, "form": "tarball", "suite": "stable",
                "sha256": "0123456789ab", "size": 1 })
        };
        let sources: Vec<_> = SOURCES.iter().map(release).collect();
        let index = serde_json::json!({ "mirror": "fake", "read_at": 0, "sources": sources, "images": [] });
        world.write("cache/apt/host/index.json", &index.to_string());
        for (at, version) in IMAGES.iter().enumerate() {
            image(world, version, if at < 2 { "guest: skip" } else { "guest: pass" });
        }
    }

    /// `fixes`: the project's series makes a kernel pass.
    fn series(&self, fixes: bool) {
        let world = &self.world;
        for dir in ["linux/outgoing", "project/outgoing"] {
            world.patch(&format!("{dir}/0001-second.patch"), "second", "better");
        }
        world.patch("home/thread.mbx", "second", "better");
        let change = |name: &str, from: &str, to: &str| {
            let head = "From: A <a@example.org>\nSubject: [PATCH] fake: it changes\n\nIt does.\n---\n";
            let body =
                format!("--- a/fake.does\n+++ b/fake.does\n@@ -1 +1 @@\n-guest: {from}\n+guest: {to}\n");
            world.write(name, &format!("{head}diff --git a/fake.does b/fake.does\n{body}"));
        };
        change("project/patches/mutants/one-slot-for-all.patch", "pass", "fail");
        world.write("project/patches/fsession-6.18/base", "6.18.15\n");
        match fixes {
            true => change("project/patches/fsession-6.18/0001-fix.patch", "skip", "pass"),
            false => drop(world.patch("project/patches/fsession-6.18/0001-rename.patch", "first", "best")),
        }
    }

    pub fn has_runs(&self) -> bool {
        self.world.path("state/vmtest/runs").exists()
    }

    /// Runs that were made before, by name and as directories.
    pub fn earlier(&self) {
        let runs = self.world.path("state/vmtest/runs");
        if runs.join(RUNS[0]).exists() {
            return;
        }
        for name in RUNS {
            let done = self.run("linux", "kmatrix -t basic");
            fs::rename(done.run_dir.unwrap_or_else(|| panic!("{name}")), runs.join(name)).expect("renamed");
        }
        self.must("linux", "kmatrix -t basic");
        self.must(
            "project",
            &format!("for dir in run old new; do cp -r {}/{} $dir; done", runs.display(), RUNS[0]),
        );
    }

    /// The parts of a matrix that other machines have run.
    pub fn parts(&self) {
        if self.world.path("project/job-1").exists() {
            return;
        }
        self.must(
            "project",
            "for part in 1 2 3; do cargo xtask matrix run matrix.toml --shard $part/3 --out job-$part || exit; done\n\
             mkdir shards && cp -r job-2 job-3 shards && mkdir all-jobs && cp -r job-* all-jobs",
        );
    }

    /// Files that a page shows.
    pub fn place(&self, files: &[(String, String)]) {
        for (name, text) in files {
            self.world.write(&format!("project/{name}"), text);
        }
    }

    fn must(&self, dir: &str, text: &str) {
        let done = self.run(dir, text);
        assert!(done.status.success(), "{text}\n{done}");
    }

    /// Has a shell run this in a directory, and notes where that shell was at its end.
    pub fn run(&self, dir: &str, text: &str) -> Done {
        let text = PLACEHOLDERS.iter().fold(text.to_owned(), |text, (name, stands)| {
            regex::Regex::new(&format!(r"\b{name}\b"))
                .expect("a pattern")
                .replace_all(&text, *stands)
                .into_owned()
        });
        let ours = self.world.command(&[]);
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("{text}\ncode=$?; pwd > \"$HOME/place\"; exit $code")]).env_clear();
        shell.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let path = ["desk", "bin"].map(|dir| self.world.path(dir).display().to_string()).join(":");
        shell.env("PATH", path).env("BASE", "master").env("HEAD", "topic");
        shell.current_dir(self.world.path(dir)).stdin(std::process::Stdio::null());
        self.world.start(shell).done()
    }

    /// Where the last shell was.
    pub fn place_of_last(&self) -> String {
        self.world.read("home/place").trim().to_owned()
    }

    /// Has B stand for a commit that panics, or for one that fails a test.
    pub fn panics(&self, does: bool) {
        let commit = if does { "panics" } else { "topic" };
        git(&self.world.path("linux"), &["update-ref", "refs/tags/B", commit]);
    }
}
