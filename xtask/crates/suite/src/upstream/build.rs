// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds `test_progs` with the tree's own makefile, and leaves out the tests that do not compile.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::sources::{Needs, SELFTESTS};
use crate::upstream::copy::{copy_dated, copy_inputs, remove_objects};
use crate::upstream::make_log::{first_error_of, linked_in_vain, programs_lost, step};
use crate::upstream::{Broken, FILES, Ingredients, TEST_PROGS};
use vmtest_base::beneath::{self, Budget};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::{create_dir, write_file};
use vmtest_base::key::{Key, hash_file};
use vmtest_host::context::Context;
use vmtest_host::process::{Finished, Job, ended};
use vmtest_host::sandbox::Sandbox;
use vmtest_host::store::CacheKind;
use vmtest_kernel::build::MODULES;
use vmtest_kernel::{build_log, executed};

/// Inputs of the build of `test_progs`. Make reports those that are missing from a tree.
const INPUTS: [&str; 20] = [
    "Makefile",
    "kernel/bpf/disasm.c",
    "kernel/bpf/disasm.h",
    // bpftool runs the tree's makefile to get its version.
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

/// Whether one of these files can affect libbpf, bpftool and resolve_btfids: all except the sources of tests
/// and programs.
fn makes_the_base(path: &str) -> bool {
    let is_source = [".c", ".h", ".S", ".json", ".rst"].iter().any(|end| path.ends_with(end));
    !(is_source && path.strip_prefix(SELFTESTS).is_some_and(|rest| rest.starts_with('/')))
}

/// Our own makefile, read after the tree's: names targets through the tree's variables.
const OWN_RULES: &str = "vmtest.mk";

/// Directory of our own programs in the copy.
const OWN_BIN: &str = "vmtest-bin";

/// The makefile converts the certificate to C with `xxd -i`, which is a separate package; this implements the
/// only mode it uses.
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

pub(super) struct Build<'a> {
    ctx: &'a Context,
    from: Ingredients<'a>,
    phase: &'a vmtest_base::event::Phase,
    /// Test files that are still included.
    files: BTreeSet<String>,
    src: vmtest_host::store::Scratch,
    obj: vmtest_host::store::Scratch,
    passes: usize,
}

impl<'a> Build<'a> {
    pub(super) fn new(
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

    /// Builds into `place`. Returns what was left out.
    pub(super) fn run(mut self, place: &Path) -> Result<Vec<Broken>> {
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
        // The makefiles of an untrusted tree read more than these inputs, and could leave manipulated files
        // for other trees.
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
                // The objects are no longer needed: they are part of the libraries and programs now.
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

    /// Removes everything from the copy except these tests and their dependencies.
    fn restrict(&self, needs: &Needs) -> Result<()> {
        let files: BTreeSet<String> = self.files.union(&needs.files).cloned().collect();
        for (below, keep) in [("prog_tests", &files), ("progs", &needs.programs)] {
            let dir = self.selftests().join(below);
            if !beneath::is_dir(self.src.path(), Path::new(SELFTESTS).join(below)) {
                // The previous make could write here; never delete anything through a link.
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
        // Make would not notice that it lists a test that was removed.
        let _ = fs::remove_file(self.selftests().join("prog_tests/tests.h"));
        Ok(())
    }

    /// Runs make for a target; the returned text is its output.
    fn make(&mut self, target: &str, needs: &Needs) -> Result<(Finished, String)> {
        let sandbox = Sandbox::new(self.from.tools)
            .writable(self.src.path(), "/src")
            .writable(self.obj.path(), "/obj")
            .read_only(self.from.kernel, "/kernel");
        let bin = sandbox.see(&format!("/src/{OWN_BIN}")).to_string_lossy().into_owned();
        let sandbox = sandbox.path_first(bin);
        let obj = sandbox.see("/obj");
        // One stream: with two, make cannot keep the lines of a target together, and an error cannot be
        // attributed to its step.
        let mut command = sandbox.command("sh");
        command.args(["-c", "exec make \"$@\" 2>&1", "make"]);
        command.arg("-C").arg(sandbox.see(&format!("/src/{SELFTESTS}")));
        command.args(["-f", "Makefile", "-f"]).arg(obj.join(OWN_RULES));
        // Continue after errors, and keep the output of each target together.
        command.args(["-k", "-O", &format!("-j{}", self.from.make.jobs)]);
        // A tool for humans that test_progs does not need.
        command.arg("-o").arg(obj.join("veristat"));
        command.arg(format!("OUTPUT={}", obj.display()));
        command.arg(format!("VMLINUX_BTF={}", sandbox.see("/kernel/vmlinux").display()));
        command.args(self.variables(needs));
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

    /// Variables of the makefile: only what the chosen tests need is built.
    fn variables(&self, needs: &Needs) -> Vec<String> {
        let mut variables = Vec::new();
        for (list, names) in &self.from.index.light_lists {
            let kept =
                names.iter().filter(|name| needs.light.contains(*name)).map(|name| format!("{name}.c"));
            variables.push(format!("{list}={}", kept.collect::<Vec<_>>().join(" ")));
        }
        // 7.3 has one that clang 19 cannot compile.
        for (variable, paths) in &self.from.index.skeletons {
            if !paths.iter().any(|path| needs.skeletons.contains(path)) {
                variables.push(format!("{variable}="));
            }
        }
        let linked: Vec<&str> = needs.linked.iter().map(String::as_str).collect();
        variables.push(format!("LINKED_SKELS={}", linked.join(" ")));
        let helpers: Vec<&str> = needs.helpers.iter().map(String::as_str).collect();
        let (scripts, programs): (Vec<&str>, Vec<&str>) = helpers
            .iter()
            .partition(|name| beneath::is_file(self.src.path(), Path::new(SELFTESTS).join(name)));
        variables.push(format!("VMTEST_HELPERS={}", programs.join(" ")));
        // Helpers are built by our own target, modules with the kernel.
        variables.push(format!("TRUNNER_EXTRA_FILES={}", scripts.join(" ")));
        variables.extend(["TEST_KMODS=", "SKIP_LLVM=1", "SKIP_DOCS=1", "LLD=lld"].map(str::to_owned));
        // Features of bpftool: disassembly, capabilities, and its BPF programs, which need the BTF of a
        // kernel.
        for feature in ["llvm", "libbfd", "libcap", "clang-bpf-co-re"] {
            variables.push(format!("feature-{feature}=0"));
        }
        variables
    }

    /// Which test files broke the build, and how; empty if the error is in a part that all share.
    fn blame(&self, needs: &Needs, log: &str) -> Vec<Broken> {
        let made = |name: String| beneath::is_file(self.obj.path(), name);
        // Targets that failed, and targets that make never reached.
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
        // All programs were built, so make tried every test.
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

    /// Copies the files that the guest needs.
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
        // Some tests run it under this name.
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

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).on("cannot change", path)
}
