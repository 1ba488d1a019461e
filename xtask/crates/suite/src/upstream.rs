// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own BPF tests, built from the tree under test: `test_progs` with the chosen tests and nothing else.
//!
//! The tree's makefile does the work, in the sandbox, on a copy that holds only what is needed: it takes whatever lies in
//! `prog_tests/` and `progs/`. libbpf, bpftool and resolve_btfids are kept apart, so that another set of tests does not
//! compile them again. A test that does not compile is left out of the copy, and the rest is built without it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use regex::Regex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::choice::{self, BENCHMARK, Denied, Offer};
use crate::sources::{Needs, SELFTESTS, Selftests};
use vmtest_base::beneath::{self, Budget};
use vmtest_base::dotconfig::DotConfig;
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::key::{Key, KeyBuilder, hash_file};
use vmtest_guest::judge::{Chosen, Known};
use vmtest_host::context::Context;
use vmtest_host::process::{Finished, Job, ended};
use vmtest_host::sandbox::{Sandbox, Tools};
use vmtest_host::store::CacheKind;
use vmtest_kernel::build::MODULES;
use vmtest_kernel::make_mark::Make;
use vmtest_kernel::patched::PatchedTree;
use vmtest_kernel::{build_log, executed};

/// The program.
pub const TEST_PROGS: &str = "test_progs";
/// Below a bundle: what the guest gets.
pub const FILES: &str = "files";

/// What the build of `test_progs` reads of a tree. What is missing in a tree is make's to complain of.
const INPUTS: [&str; 20] = [
    "Makefile",
    "kernel/bpf/disasm.c",
    "kernel/bpf/disasm.h",
    // bpftool asks the tree's own makefile for its version.
    "scripts/Kbuild.include",
    "scripts/Makefile.compiler",
    "scripts/subarch.include",
    "scripts/bpf_doc.py",
    "scripts/sign-file.c",
    "tools/arch/x86",
    "tools/bpf/Makefile.helpers",
    "tools/bpf/bpftool",
    "tools/bpf/resolve_btfids",
    "tools/build",
    "tools/include",
    "tools/lib",
    "tools/scripts",
    "tools/testing/selftests/bpf",
    "tools/testing/selftests/kselftest.h",
    "tools/testing/selftests/kselftest_harness.h",
    "tools/testing/selftests/lib.mk",
];
/// Whether a file of these can change libbpf, bpftool and resolve_btfids: all but the sources of tests and programs.
fn makes_the_base(path: &str) -> bool {
    let is_source = [".c", ".h", ".S", ".json", ".rst"].iter().any(|end| path.ends_with(end));
    !(is_source && path.strip_prefix(SELFTESTS).is_some_and(|rest| rest.starts_with('/')))
}
/// Makefile of our own, read after the tree's: names targets by the tree's variables.
const OWN_RULES: &str = "vmtest.mk";
/// Directory of our own programs in the copy.
const OWN_BIN: &str = "vmtest-bin";
/// The makefile turns the certificate into C by `xxd -i`, which is a package of its own; this is all that is used of it.
const XXD: &str = r#"#!/usr/bin/python3
import re, sys
if len(sys.argv) != 3 or sys.argv[1] != "-i":
    sys.exit("xxd: only -i FILE is known here")
name = re.sub(r"\W", "_", sys.argv[2])
data = open(sys.argv[2], "rb").read()
print("unsigned char %s[] = {" % name)
for at in range(0, len(data), 12):
    print("  " + ", ".join("0x%02x" % byte for byte in data[at:at + 12]) + ",")
print("};\nunsigned int %s_len = %d;" % (name, len(data)))
"#;

/// What is known of the tests of a tree without building them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Index {
    /// Test to the file that defines it.
    pub tests: BTreeMap<String, String>,
    files: BTreeMap<String, FileInfo>,
    all: Needs,
    light_lists: BTreeMap<String, Vec<String>>,
    /// Of other directories, which the makefile makes whether a test needs them or not.
    skeletons: BTreeMap<String, Vec<String>>,
    /// The tree's deny lists for this machine.
    pub deny: Vec<Denied>,
    /// What the tree's own `config` files ask for: option to value, the last one counts.
    pub options: DotConfig,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct FileInfo {
    needs: Needs,
    measures: bool,
}

impl Index {
    /// Reads the tests of a tree, once for each state of it.
    ///
    /// # Errors
    /// Class `SuiteBuild` where the tree has none.
    pub fn of(ctx: &Context, tree: &PatchedTree) -> Result<Index> {
        let key = whose(Key::of("upstream index 4"), tree).field("tree", tree.key().as_str()).finish();
        let (dir, _) = ctx.cache.get_or_make(&ctx.bus, CacheKind::SuiteIndex, key.as_str(), |place| {
            ctx.cache.verify(&ctx.bus, &tree.source().dir)?;
            let scratch = ctx.cache.scratch()?;
            copy_inputs(tree, scratch.path(), &["tools/testing/selftests/bpf"])?;
            let index = Index::read(scratch.path(), tree.id())?;
            store(&place.join("index.json"), &index)
        })?;
        load(&dir.join("index.json"))
    }

    /// `top` holds what a stranger may have written: no link in it is followed.
    fn read(top: &Path, id: &str) -> Result<Index> {
        let dir = Path::new(SELFTESTS);
        let selftests = Selftests::read(top, dir).filter(|selftests| !selftests.tests.is_empty());
        let selftests = selftests.ok_or_else(|| {
            Error::new(Class::SuiteBuild, format!("{id} has no BPF selftests"))
                .why(format!("there is no {SELFTESTS}/Makefile, or prog_tests/ next to it defines no test"))
        })?;
        let info = |file: &String| {
            let text = beneath::read_text(top, dir.join("prog_tests").join(format!("{file}.c")));
            let text = text.unwrap_or_default();
            let measures =
                text.lines().any(|line| line.contains("test__start_subtest(") && line.contains(BENCHMARK));
            (file.clone(), FileInfo { needs: selftests.needs(file), measures })
        };
        let text = |name: &str| beneath::read_text(top, dir.join(name)).unwrap_or_default();
        let lists = selftests.makefile.light_lists();
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        let mut options = DotConfig::default();
        for name in ["config", "config.vm", "config.x86_64"] {
            options.extend(vmtest_base::dotconfig::parse(&text(name)));
        }
        Ok(Index {
            files: selftests.tests.values().collect::<BTreeSet<_>>().into_iter().map(info).collect(),
            all: selftests.needs_of_all(),
            light_lists: lists.map(|(name, names)| (name.to_owned(), owned(names))).collect(),
            skeletons: selftests.makefile.skeleton_variables(),
            deny: choice::deny_list(&format!("{}\n{}", text("DENYLIST"), text("DENYLIST.x86_64"))),
            options,
            tests: selftests.tests,
        })
    }

    /// For the choice.
    pub fn offer<'a>(&'a self, measures: &'a dyn Fn(&str) -> bool) -> Offer<'a> {
        Offer { tests: &self.tests, measures, deny: &self.deny }
    }

    /// Whether the tests of a file have subtests that measure.
    pub fn measures(&self, file: &str) -> bool {
        self.files.get(file).is_some_and(|info| info.measures)
    }

    /// Whether one of these tests speaks of a test module.
    pub fn wants_modules(&self, chosen: &[Chosen]) -> bool {
        chosen.iter().any(|test| self.files.get(&test.file).is_some_and(|info| info.needs.modules))
    }

    /// Options of the tree's own configuration that a kernel does not have as they are there: option, wish, value.
    pub fn dropped(&self, config: &DotConfig) -> Vec<(String, String, String)> {
        let got = |option: &String| config.get(option).map_or("n", String::as_str).to_owned();
        self.options
            .iter()
            .filter(|(option, wish)| got(option) != **wish)
            .map(|(option, wish)| (option.clone(), wish.clone(), got(option)))
            .collect()
    }
}

/// A test that is not in the binary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// The file that defines it, without `.c`.
    pub file: String,
    /// The compiler's first error.
    pub why: String,
    /// Lines that belong to it.
    pub detail: Vec<String>,
}

/// A built `test_progs`.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The cache entry.
    pub dir: PathBuf,
    /// Of everything that went into it.
    pub key: Key,
    /// What is not in it, and why.
    pub broken: Vec<Broken>,
}

/// Where a bundle comes from.
#[derive(Debug, Clone, Copy)]
pub struct Ingredients<'a> {
    /// The tree under test.
    pub tree: &'a PatchedTree,
    /// Its tests.
    pub index: &'a Index,
    /// Directory with `vmlinux` and, where the kernel takes modules, `modules/`.
    pub kernel: &'a Path,
    /// Of that kernel.
    pub kernel_key: &'a Key,
    /// Whose compilers.
    pub tools: &'a Tools,
    /// How make runs.
    pub make: Make,
    /// Where the output of make goes.
    pub log_dir: &'a Path,
}

/// `test_progs` with these tests, from the cache if it is there. One with tests left out is always tried again: what
/// broke it may have been the host.
///
/// # Errors
/// Class `SuiteBuild` with the compiler's first error, where no test can be built.
pub fn ensure(ctx: &Context, from: Ingredients<'_>, chosen: &[Chosen]) -> Result<Bundle> {
    let files: BTreeSet<&str> = chosen.iter().map(|test| test.file.as_str()).collect();
    // Its makefiles run beside the objects of suite-base and the kernel, which are those of its origin.
    let mut key = whose(Key::of("upstream bundle 3"), from.tree)
        .field("tree", from.tree.key().as_str())
        .field("kernel", from.kernel_key.as_str())
        .field("tools", from.tools.key().as_str());
    for file in &files {
        key = key.field("test", file);
    }
    let key = key.finish();
    let phase = ctx.bus.phase("upstream suite", from.tree.id());
    let _lock = ctx.cache.lock(&ctx.bus, CacheKind::Suite, key.as_str())?;
    let known = ctx.cache.get(CacheKind::Suite, key.as_str());
    ctx.cache.report_removed(&ctx.bus);
    if let Some(dir) = known {
        let broken: Vec<Broken> = load(&dir.join("broken.json"))?;
        if broken.is_empty() {
            phase.cached();
            return Ok(Bundle { dir, key, broken });
        }
    }
    let scratch = ctx.cache.scratch()?;
    let broken = Build::new(ctx, from, files, &phase)?.run(scratch.path())?;
    store(&scratch.path().join("broken.json"), &broken)?;
    let dir = scratch.keep_as(&ctx.cache.path(CacheKind::Suite, key.as_str()))?;
    phase.finish();
    Ok(Bundle { dir, key, broken })
}

/// Begins a key with the origin of a tree, where that is not the project.
fn whose(key: KeyBuilder, tree: &PatchedTree) -> KeyBuilder {
    match tree.origin() {
        Some(origin) => key.field("origin", origin.as_str()),
        None => key,
    }
}

/// One build under way.
struct Build<'a> {
    ctx: &'a Context,
    from: Ingredients<'a>,
    phase: &'a vmtest_base::event::Phase,
    /// Files with tests that are still in.
    files: BTreeSet<String>,
    src: vmtest_host::store::Scratch,
    obj: vmtest_host::store::Scratch,
    passes: usize,
}

impl<'a> Build<'a> {
    fn new(
        ctx: &'a Context,
        from: Ingredients<'a>,
        files: BTreeSet<&str>,
        phase: &'a vmtest_base::event::Phase,
    ) -> Result<Build<'a>> {
        ctx.cache.verify(&ctx.bus, &from.tree.source().dir)?;
        let files = files.into_iter().map(str::to_owned).collect();
        let (src, obj) = (ctx.cache.scratch()?, ctx.cache.scratch()?);
        copy_inputs(from.tree, src.path(), &INPUTS)?;
        let build = Build { ctx, from, phase, files, src, obj, passes: 0 };
        let bin = build.src.path().join(OWN_BIN);
        create_dir(&bin)?;
        write_file(&bin.join("xxd"), XXD)?;
        make_executable(&bin.join("xxd"))?;
        let rules = "vmtest-base: $(BPFOBJ) $(BPFTOOL) $(RESOLVE_BTFIDS) $(VERIFICATION_CERT)\n\
                     vmtest-all: $(OUTPUT)/test_progs $(addprefix $(OUTPUT)/,$(VMTEST_HELPERS))\n\
                     .PHONY: vmtest-base vmtest-all\n";
        // Not in the tree, where a link could lead elsewhere.
        write_file(&build.obj.path().join(OWN_RULES), rules)?;
        Ok(build)
    }

    fn selftests(&self) -> PathBuf {
        self.src.path().join(SELFTESTS)
    }

    /// Builds into `place`. What is left out comes back.
    fn run(mut self, place: &Path) -> Result<Vec<Broken>> {
        self.base()?;
        let mut broken: Vec<Broken> = Vec::new();
        loop {
            let needs = self.needs();
            self.restrict(&needs)?;
            let (done, log) = self.make("vmtest-all", &needs)?;
            if done.success() && beneath::is_file(self.obj.path(), TEST_PROGS) {
                self.keep(&needs, place)?;
                return Ok(broken);
            }
            let found = self.blame(&needs, &log);
            for one in &found {
                self.files.remove(&one.file);
            }
            if found.is_empty() || self.files.is_empty() {
                return Err(self.failed(&done, &log, broken.iter().chain(&found)));
            }
            broken.extend(found);
        }
    }

    /// libbpf, bpftool and resolve_btfids, mostly from the cache.
    fn base(&mut self) -> Result<()> {
        let key = Key::of("upstream base 2").field("tools", self.from.tools.key().as_str());
        // The makefiles of a stranger's tree read more than these inputs, and could leave something else for others.
        let mut key = executed::isolated(self.ctx, self.from.tree, key)?;
        let walk = walkdir::WalkDir::new(self.src.path()).sort_by_file_name().into_iter();
        for entry in walk.flatten().filter(|entry| entry.file_type().is_file()) {
            let below = entry.path().strip_prefix(self.src.path()).unwrap_or(entry.path());
            if makes_the_base(&below.to_string_lossy()) {
                key = key.field(&below.to_string_lossy(), hash_file(entry.path())?);
            }
        }
        let key = key.finish();
        let tools = self.obj.path().join("tools");
        if let Some(dir) = self.ctx.cache.get(CacheKind::SuiteBase, key.as_str()) {
            return copy_dated(&dir, &tools, &mut Budget::of(Class::SuiteBuild));
        }
        self.phase.progress(0, 0, "libbpf, bpftool");
        let (done, log) = self.make("vmtest-base", &Needs::default())?;
        if !done.success() {
            return Err(self.failed(&done, &log, [].iter()));
        }
        let (place, _) =
            self.ctx.cache.get_or_make(&self.ctx.bus, CacheKind::SuiteBase, key.as_str(), |place| {
                // Objects are in the libraries and programs by now.
                copy_dated(&tools, place, &mut Budget::of(Class::SuiteBuild))?;
                remove_objects(place)
            })?;
        drop(place);
        Ok(())
    }

    fn needs(&self) -> Needs {
        let mut needs = self.from.index.all.clone();
        for info in self.files.iter().filter_map(|file| self.from.index.files.get(file)) {
            needs.add(&info.needs);
        }
        needs
    }

    /// Leaves in the copy only these tests and what they need.
    fn restrict(&self, needs: &Needs) -> Result<()> {
        let files: BTreeSet<String> = self.files.union(&needs.files).cloned().collect();
        for (below, keep) in [("prog_tests", &files), ("progs", &needs.programs)] {
            let dir = self.selftests().join(below);
            if !beneath::is_dir(self.src.path(), Path::new(SELFTESTS).join(below)) {
                // The last make could write here; what a link names is not ours to tidy.
                return Err(Error::new(
                    Class::SuiteBuild,
                    format!("{} is no longer a directory", dir.display()),
                )
                .why("the tree's own makefile replaced it"));
            }
            for entry in fs::read_dir(&dir).on("cannot list", &dir)? {
                let path = entry.on("cannot list", &dir)?.path();
                let name =
                    path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".c"));
                if name.is_some_and(|name| !keep.contains(name)) {
                    fs::remove_file(&path).on("cannot remove", &path)?;
                }
            }
        }
        // Make would not notice that it names a test that is gone.
        let _ = fs::remove_file(self.selftests().join("prog_tests/tests.h"));
        Ok(())
    }

    /// Runs make for a target; the text is what it said.
    fn make(&mut self, target: &str, needs: &Needs) -> Result<(Finished, String)> {
        let sandbox = Sandbox::new(self.from.tools)
            .writable(self.src.path(), "/src")
            .writable(self.obj.path(), "/obj")
            .read_only(self.from.kernel, "/kernel");
        let bin = sandbox.see(&format!("/src/{OWN_BIN}")).to_string_lossy().into_owned();
        let sandbox = sandbox.path_first(bin);
        let obj = sandbox.see("/obj");
        // One stream: of two make cannot keep the lines of a target together, and an error loses the step that it is of.
        let mut command = sandbox.command("sh");
        command.args(["-c", "exec make \"$@\" 2>&1", "make"]);
        command.arg("-C").arg(sandbox.see(&format!("/src/{SELFTESTS}")));
        command.args(["-f", "Makefile", "-f"]).arg(obj.join(OWN_RULES));
        // On with what can be made after an error, and the lines of one target together.
        command.args(["-k", "-O", &format!("-j{}", self.from.make.jobs)]);
        // A program for people that test_progs is not linked to.
        command.arg("-o").arg(obj.join("veristat"));
        command.arg(format!("OUTPUT={}", obj.display()));
        command.arg(format!("VMLINUX_BTF={}", sandbox.see("/kernel/vmlinux").display()));
        for (list, names) in &self.from.index.light_lists {
            let kept =
                names.iter().filter(|name| needs.light.contains(*name)).map(|name| format!("{name}.c"));
            command.arg(format!("{list}={}", kept.collect::<Vec<_>>().join(" ")));
        }
        // 7.3 has one that clang 19 cannot compile.
        for (variable, paths) in &self.from.index.skeletons {
            if !paths.iter().any(|path| needs.skeletons.contains(path)) {
                command.arg(format!("{variable}="));
            }
        }
        let linked: Vec<&str> = needs.linked.iter().map(String::as_str).collect();
        command.arg(format!("LINKED_SKELS={}", linked.join(" ")));
        let helpers: Vec<&str> = needs.helpers.iter().map(String::as_str).collect();
        let (scripts, programs): (Vec<&str>, Vec<&str>) = helpers
            .iter()
            .partition(|name| beneath::is_file(self.src.path(), Path::new(SELFTESTS).join(name)));
        command.arg(format!("VMTEST_HELPERS={}", programs.join(" ")));
        // Helpers are made by our target, modules with the kernel.
        command.arg(format!("TRUNNER_EXTRA_FILES={}", scripts.join(" ")));
        command.args(["TEST_KMODS=", "SKIP_LLVM=1", "SKIP_DOCS=1", "LLD=lld"]);
        // Of bpftool: disassembly, capabilities, and programs of its own that need the BTF of a kernel.
        for feature in ["llvm", "libbfd", "libcap", "clang-bpf-co-re"] {
            command.arg(format!("feature-{feature}=0"));
        }
        command.arg(target);
        self.passes += 1;
        let log = self.from.log_dir.join(format!("suite-{}.log", self.passes));
        let (phase, mut made) = (self.phase, 0);
        let done = Job::new(command)
            .log(log.clone())
            .deadline_of(self.from.make.limit, Class::SuiteBuild)
            .on_line(|_, line| {
                if let Some(step) = step(line) {
                    made += 1;
                    phase.progress(made, 0, step);
                }
            })
            .run()?;
        let text = String::from_utf8_lossy(&fs::read(&log).on("cannot read", &log)?).into_owned();
        Ok((done, text))
    }

    /// Which files with tests broke the build, and how; none if it was something that all share.
    fn blame(&self, needs: &Needs, log: &str) -> Vec<Broken> {
        let made = |name: String| beneath::is_file(self.obj.path(), name);
        // What make failed to make, and what it never came to.
        let mut lost: BTreeSet<String> = programs_lost(log);
        lost.extend(needs.programs.iter().filter(|name| !made(format!("{name}.bpf.o"))).cloned());
        let index = self.from.index;
        let broken = |file: &String, culprit: &str| {
            let mut lines = first_error_of(log, culprit).into_iter();
            Broken {
                file: file.clone(),
                why: lines
                    .next()
                    .unwrap_or_else(|| format!("make did not build {culprit} and gave no reason")),
                detail: lines.collect(),
            }
        };
        let by_program = |file: &String| {
            let needs = &index.files.get(file)?.needs;
            let name = lost.iter().find(|name| {
                needs.programs.contains(*name) || needs.linked.contains(&format!("{name}.skel.h"))
            })?;
            Some(broken(file, &format!("{name}.")))
        };
        let found: Vec<Broken> = self.files.iter().filter_map(by_program).collect();
        if !found.is_empty() || !lost.is_empty() {
            return found;
        }
        // All programs are there, so make tried every test.
        let untested = |file: &String| -> Option<Broken> {
            let mut with_others = [file]
                .into_iter()
                .chain(index.files.get(file).into_iter().flat_map(|info| &info.needs.files));
            let culprit = with_others.find(|one| !made(format!("{one}.test.o")))?;
            Some(broken(file, &format!("{culprit}.test.o")))
        };
        let found: Vec<Broken> = self.files.iter().filter_map(untested).collect();
        if !found.is_empty() {
            return found;
        }
        linked_in_vain(log)
            .into_iter()
            .filter(|(file, _)| self.files.contains(file))
            .map(|(file, why)| Broken { file, why, detail: Vec::new() })
            .collect()
    }

    fn failed<'b>(&self, done: &Finished, log: &str, broken: impl Iterator<Item = &'b Broken>) -> Error {
        let broken: Vec<&Broken> = broken.collect();
        let first = build_log::first_error(log.lines());
        let tail = done.tail[done.tail.len().saturating_sub(15)..].to_vec();
        let error =
            Error::new(Class::SuiteBuild, format!("test_progs of {} does not build", self.from.tree.id()));
        let error = match broken.first() {
            Some(one) => error.why(format!("{}: {}", one.file, one.why)),
            None => {
                error.why(first.first().cloned().unwrap_or_else(|| format!("make {}", ended(done.status))))
            }
        };
        let rest = broken.iter().skip(1).map(|one| format!("{}: {}", one.file, one.why));
        let detail: Vec<String> = match broken.first() {
            Some(one) => one.detail.iter().cloned().chain(rest).collect(),
            None if first.len() > 1 => first[1..].to_vec(),
            None => tail,
        };
        error.detail(detail).next(format!("the whole output is in {}", self.from.log_dir.display()))
    }

    /// Copies what the guest needs.
    fn keep(&self, needs: &Needs, place: &Path) -> Result<()> {
        let files = place.join(FILES);
        create_dir(&files)?;
        let obj = self.obj.path();
        let mut room = Budget::of(Class::SuiteBuild);
        let mut take = |dir: &Path, below: &str| -> Result<()> {
            let Some(name) = Path::new(below).file_name() else { return Ok(()) };
            beneath::copy(dir, below, &files.join(name), &mut room)
        };
        take(obj, TEST_PROGS)?;
        for program in &needs.programs {
            take(obj, &format!("{program}.bpf.o"))?;
        }
        for helper in &needs.helpers {
            if beneath::is_file(obj, helper) {
                take(obj, helper)?;
            } else {
                take(self.src.path(), &format!("{SELFTESTS}/{helper}"))?;
            }
        }
        // Some tests call it, by this name.
        let bpftool = "tools/build/bpftool/bootstrap/bpftool";
        if beneath::is_file(obj, bpftool) {
            take(obj, bpftool)?;
        }
        for name in beneath::names(self.from.kernel, MODULES).iter().filter(|name| name.ends_with(".ko")) {
            take(self.from.kernel, &format!("{MODULES}/{name}"))?;
        }
        Ok(())
    }
}

/// The step that a line of make's short output speaks of: `  CLNG-BPF [test_progs] x.bpf.o`.
fn step(line: &str) -> Option<&str> {
    let step = line.strip_prefix("  ")?;
    (step.starts_with(|c: char| c.is_ascii_uppercase()) && step.contains(' ')).then(|| step.trim())
}

/// The first error among the lines that make printed for a file whose name begins so.
fn first_error_of(log: &str, culprit: &str) -> Vec<String> {
    let is_its_step = |line: &str| {
        step(line)
            .is_some_and(|step| step.split_whitespace().last().is_some_and(|file| file.starts_with(culprit)))
    };
    let mut block: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in log.lines() {
        if step(line).is_some() {
            inside = is_its_step(line);
        } else if inside {
            block.push(line);
        }
    }
    let found = build_log::first_error(block.iter().copied());
    if !found.is_empty() {
        return found;
    }
    if let Some(first) = block.iter().find(|line| !line.trim().is_empty()) {
        return vec![(*first).to_owned()];
    }
    // No step of its own: what make says of it.
    let of_make = log.lines().find(|line| line.contains("***") && line.contains(culprit));
    of_make.map(str::to_owned).into_iter().collect()
}

/// Programs whose object or skeleton make says it failed to make.
fn programs_lost(log: &str) -> BTreeSet<String> {
    #[expect(clippy::unwrap_used, reason = "a constant pattern; a test compiles it")]
    let pattern =
        Regex::new(r"\*\*\* \[[^\]]*/([A-Za-z0-9_]+)\.(?:bpf\.o|skel\.h|lskel\.h)\] Error").unwrap();
    pattern.captures_iter(log).map(|found| found[1].to_owned()).collect()
}

/// Files with tests that the linker complains of.
fn linked_in_vain(log: &str) -> Vec<(String, String)> {
    #[expect(clippy::unwrap_used, reason = "a constant pattern; a test compiles it")]
    let pattern = Regex::new(r"([A-Za-z0-9_]+)\.test\.o.*(undefined reference|multiple definition)").unwrap();
    #[expect(clippy::unwrap_used, reason = "a constant pattern; a test compiles it")]
    let lead = Regex::new(r"([A-Za-z0-9_]+)\.test\.o: in function").unwrap();
    let mut found: Vec<(String, String)> = Vec::new();
    let mut leading: Option<String> = None;
    for line in log.lines() {
        if let Some(lead) = lead.captures(line) {
            leading = Some(lead[1].to_owned());
        }
        let direct = pattern.captures(line).map(|found| found[1].to_owned());
        let complains = line.contains("undefined reference") || line.contains("multiple definition");
        if let Some(file) = direct.or_else(|| leading.clone().filter(|_| complains)) {
            if !found.iter().any(|(known, _)| *known == file) {
                found.push((file, line.trim().to_owned()));
            }
        }
    }
    found
}

/// Copies parts of a patched tree, every file with one old time: what was made before is newer. A part that is a link, or is
/// reached by one, is not there: where it leads is not the tree's. A link further below comes along as a link, for make; the
/// harness never follows it.
fn copy_inputs(tree: &PatchedTree, to: &Path, inputs: &[&str]) -> Result<()> {
    for input in inputs {
        if !beneath::no_link_on_the_way(&tree.source().dir, input) {
            continue;
        }
        let from = tree.source().dir.join(input);
        if from.is_symlink() {
            continue;
        }
        for entry in walkdir::WalkDir::new(&from).follow_root_links(false).into_iter().flatten() {
            if let Ok(below) = entry.path().strip_prefix(&tree.source().dir) {
                copy_one(entry.path(), &to.join(below))?;
            }
        }
    }
    let Some(overlay) = tree.overlay() else { return Ok(()) };
    let is_input = |path: &&String| {
        inputs.iter().any(|input| {
            path.strip_prefix(input).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    // The series may name what is behind a link of the tree: that would be written on this host.
    for path in overlay.deleted.iter().filter(is_input).filter(|path| beneath::no_link_on_the_way(to, path)) {
        let _ = fs::remove_file(to.join(path));
    }
    for path in overlay.changed.iter().filter(is_input) {
        make_way(to, path)?;
        copy_one(&overlay.dir.join("files").join(path), &to.join(path))?;
    }
    Ok(())
}

/// Makes the directories that `path` below `to` lies in.
fn make_way(to: &Path, path: &str) -> Result<()> {
    let mut way = PathBuf::new();
    for part in Path::new(path).parent().into_iter().flat_map(Path::components) {
        way.push(part);
        if !beneath::is_dir(to, &way) {
            let place = to.join(&way);
            fs::create_dir(&place).map_err(|error| {
                Error::new(Class::SuiteBuild, format!("the tests in {path} cannot be built"))
                    .why(format!("{} is not a directory of the tree: {error}", way.display()))
            })?;
        }
    }
    Ok(())
}

fn copy_one(from: &Path, to: &Path) -> Result<()> {
    let data = fs::symlink_metadata(from).on("cannot look at", from)?;
    if data.is_dir() {
        return create_dir(to);
    }
    if let Some(parent) = to.parent() {
        create_dir(parent)?;
    }
    let _ = fs::remove_file(to);
    if data.is_symlink() {
        let target = fs::read_link(from).on("cannot read", from)?;
        return std::os::unix::fs::symlink(&target, to).on("cannot make the link", to);
    }
    if data.is_file() {
        fs::copy(from, to).on("cannot copy", from)?;
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = fs::File::options().append(true).open(to).on("cannot open", to)?;
        file.set_modified(old).on("cannot set the time of", to)?;
    }
    Ok(())
}

/// Copies a directory with the times of its files.
fn copy_dated(from: &Path, to: &Path, room: &mut Budget) -> Result<()> {
    for entry in walkdir::WalkDir::new(from).follow_root_links(false) {
        let entry = entry.map_err(std::io::Error::from).on("cannot walk", from)?;
        let Ok(below) = entry.path().strip_prefix(from) else { continue };
        let target = to.join(below);
        if entry.file_type().is_dir() {
            create_dir(&target)?;
        } else if entry.file_type().is_symlink() {
            let link = fs::read_link(entry.path()).on("cannot read", entry.path())?;
            std::os::unix::fs::symlink(&link, &target).on("cannot make the link", &target)?;
        } else if entry.file_type().is_file() {
            beneath::copy(from, below, &target, room)?;
            let data = entry.path().metadata().on("cannot look at", entry.path())?;
            let time = data.modified().on("cannot look at", entry.path())?;
            let file = fs::File::options().append(true).open(&target).on("cannot open", &target)?;
            file.set_modified(time).on("cannot set the time of", &target)?;
        }
    }
    Ok(())
}

/// Removes what is only on the way to a library or program.
fn remove_objects(dir: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(dir).into_iter().flatten() {
        let on_the_way =
            entry.path().extension().is_some_and(|kind| kind == "o" || kind == "d" || kind == "cmd");
        if entry.file_type().is_file() && on_the_way {
            fs::remove_file(entry.path()).on("cannot remove", entry.path())?;
        }
    }
    Ok(())
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).on("cannot change", path)
}

fn store(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value)
        .map_err(|error| Error::host("cannot store the index of tests").why(error))?;
    write_file(path, text)
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| Error::host(format!("{} cannot be read", path.display())).why(error))
}

/// Subtests that earlier runs of a bundle reported; empty before its first run.
pub fn known(ctx: &Context, bundle: &Key) -> Known {
    load(&ctx.cache.path(CacheKind::SuiteSeen, bundle.as_str())).unwrap_or_default()
}

/// Adds what a run reported, for the next one.
///
/// # Errors
/// When it cannot be written.
pub fn keep_known(
    ctx: &Context,
    bundle: &Key,
    mut known: Known,
    reported: &BTreeMap<String, BTreeSet<String>>,
) -> Result<()> {
    for (test, subtests) in reported {
        known.0.entry(test.clone()).or_default().extend(subtests.iter().cloned());
    }
    create_dir(&ctx.cache.path(CacheKind::SuiteSeen, ""))?;
    store(&ctx.cache.path(CacheKind::SuiteSeen, bundle.as_str()), &known)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As make -k -O prints it; the file names and messages are made up.
    const LOG: &str = "  CLNG-BPF [test_progs] good.bpf.o\n  CLNG-BPF [test_progs] bad.bpf.o\n\
        In file included from progs/bad.c:3:\nprogs/bad.c:7:10: fatal error: 'nothere.h' file not found\n    \
        7 | #include \"nothere.h\"\nmake: *** [Makefile:761: /obj/bad.bpf.o] Error 1\n  \
        CLNG-BPF [test_progs] crash.bpf.o\nPLEASE submit a bug report to x\nStack dump:\n\
        clang: error: clang frontend command failed with exit code 139\nmake: *** [Makefile:761: /obj/crash.bpf.o] Error 139\n  \
        TEST-OBJ [test_progs] late.test.o\n/src/prog_tests/late.c:9:2: error: 'x' undeclared (first use in this function)\n\
        make: *** [Makefile:770: /obj/late.test.o] Error 1\n";

    #[test]
    fn the_first_error_of_a_file_is_its_own() {
        assert!(first_error_of(LOG, "bad.")[0].contains("'nothere.h' file not found"));
        assert!(first_error_of(LOG, "crash.")[0].contains("exit code 139"));
        assert!(first_error_of(LOG, "late.test.o")[0].contains("'x' undeclared"));
        assert!(first_error_of(LOG, "good.").is_empty());
        let silent = "make: *** No rule to make target 'progs/gone.c', needed by '/obj/gone.bpf.o'.\n";
        assert!(first_error_of(silent, "gone.")[0].contains("No rule"));
    }

    #[test]
    fn what_make_failed_to_make_is_read_from_its_last_word() {
        let lost: Vec<String> = programs_lost(LOG).into_iter().collect();
        assert_eq!(lost, ["bad", "crash"]);
        let skeleton =
            "make: *** [Makefile:777: /obj/x.skel.h] Error 255\nmake: *** [Makefile:9: /obj/y.o] Error 1\n";
        assert_eq!(programs_lost(skeleton).into_iter().collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn the_linkers_complaints_name_their_tests() {
        let log = "/usr/bin/ld: /obj/a.test.o: in function `run':\n/src/prog_tests/a.c:5: undefined reference to `f'\n\
                   /usr/bin/ld: /obj/b.test.o:/src/prog_tests/b.c:9: multiple definition of `g'\n";
        let found = linked_in_vain(log);
        assert_eq!(found.iter().map(|(file, _)| file.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(found[0].1.contains("undefined reference to `f'"));
        assert!(linked_in_vain(LOG).is_empty());
    }

    #[test]
    fn what_a_kernel_lacks_of_the_trees_configuration_is_told() {
        let index = Index {
            tests: BTreeMap::new(),
            files: BTreeMap::new(),
            all: Needs::default(),
            light_lists: BTreeMap::new(),
            skeletons: BTreeMap::new(),
            deny: Vec::new(),
            options: vmtest_base::dotconfig::parse(
                "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=m\n",
            ),
        };
        let dropped = index.dropped(&vmtest_base::dotconfig::parse("CONFIG_A=y\nCONFIG_D=y\n"));
        let dropped: Vec<String> =
            dropped.iter().map(|(name, wish, got)| format!("{name} {wish} {got}")).collect();
        assert_eq!(dropped, ["B y n", "D m y"]);
    }
}
