// SPDX-License-Identifier: MIT OR Apache-2.0
//! Patched source to a bootable kernel: `PatchedTree -> ConfiguredTree -> KernelBuild`.
//!
//! Objects live in one directory per (lineage of the source, configuration, tools, and of a stranger's tree what make
//! executes of it: [`crate::executed`]), so that make rebuilds only what differs between two states of one tree or two patches of
//! one series. Images live in the cache under the key of everything that went into them, their origin included, and are
//! never built twice.

mod objects;

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::objects::{Held, objects};
use crate::build_log;
use crate::config::{self, Requests};
use crate::make_mark::{Make, Making};
use crate::patched::PatchedTree;
use crate::source_view::{self, Overlaid};
use crate::variant::{self, Compiler, Variant};
use vmtest_base::beneath::{self, Budget};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::key::Key;
use vmtest_host::context::Context;
use vmtest_host::process::{Finished, Job, full_disk};
use vmtest_host::sandbox::{Sandbox, Tools};
use vmtest_host::store::{CacheKind, remove_tree};

/// How to build.
#[derive(Debug)]
pub struct Recipe<'a> {
    pub variant: &'a Variant,
    /// Every requested option.
    pub requests: &'a Requests,
    pub tools: &'a Tools,
    /// How make runs.
    pub make: Make,
}

impl Recipe<'_> {
    fn called(&self, tree: &PatchedTree) -> String {
        variant::called(tree.id(), Some(&self.variant.name), &[])
    }
}

/// A kernel that can boot.
#[derive(Debug, Clone)]
pub struct KernelBuild {
    /// Column of the matrix.
    pub id: String,
    /// Hash of everything that went into it.
    pub key: Key,
    /// What it is, wherever its parts came from: the same in every checkout of a tree.
    pub identity: Key,
    /// Directory with `vmlinux`, `config` and `release`, and `modules/` where its BPF tests have some.
    pub dir: PathBuf,
    /// `uname -r` of it.
    pub release: String,
    /// It was there already.
    pub cached: bool,
}

/// Key of the kernel that this tree and recipe give, for the cache: with the origin of what ran to make it.
///
/// Two strangers with the same source and configuration each have a kernel of their own, and so have a stranger and the
/// project: the objects that it is linked from are those of its origin, and what else that built may have changed them.
pub fn key(tree: &PatchedTree, recipe: &Recipe<'_>) -> Key {
    let origin = tree.origin();
    let key = Key::of("kernel 2").field("identity", identity(tree, recipe).as_str());
    match &origin {
        Some(origin) => key.field("origin", origin.as_str()).finish(),
        None => key.finish(),
    }
}

/// What the kernel of this tree and recipe is, for records: another checkout of the same state has the same.
pub fn identity(tree: &PatchedTree, recipe: &Recipe<'_>) -> Key {
    let key = Key::of("kernel 1")
        .field("tree", tree.key().as_str())
        .field("config", recipe.requests.key().as_str())
        .field("tools", recipe.tools.key().as_str())
        .field("compiler", recipe.variant.compiler.name());
    let takes_modules =
        |request: &config::Request| request.option == "MODULES" && request.value == config::Value::Yes;
    // Then the test modules are beside it.
    let key = if recipe.requests.iter().any(takes_modules) { key.field("test modules", "1") } else { key };
    recipe.variant.make.iter().fold(key, |key, setting| key.field("make", setting)).finish()
}

/// The finished kernel, if it is in the cache.
pub fn cached(ctx: &Context, tree: &PatchedTree, recipe: &Recipe<'_>) -> Result<Option<KernelBuild>> {
    let found = ctx.cache.get(CacheKind::Kernel, key(tree, recipe).as_str());
    ctx.cache.report_removed(&ctx.bus);
    found.map(|dir| opened(tree, recipe, dir, true)).transpose()
}

fn opened(tree: &PatchedTree, recipe: &Recipe<'_>, dir: PathBuf, cached: bool) -> Result<KernelBuild> {
    let release = read_text(&dir.join("release"))?.trim().to_owned();
    let (key, identity) = (key(tree, recipe), identity(tree, recipe));
    Ok(KernelBuild { id: tree.id().to_owned(), key, identity, dir, release, cached })
}

/// A tree whose object directory is locked, shows its source and holds its configuration.
pub struct ConfiguredTree<'a> {
    tree: &'a PatchedTree,
    recipe: &'a Recipe<'a>,
    dir: PathBuf,
    making: Making,
    _held: Held,
}

impl<'a> ConfiguredTree<'a> {
    /// Takes the object directory, brings its source up to date and configures it where that is needed.
    ///
    /// # Errors
    /// Class `OptionLost` when a requested option is not in the result, `KernelBuild` when the tree cannot be
    /// configured at all, `Host` for the file system.
    pub fn configure(
        ctx: &Context,
        tree: &'a PatchedTree,
        recipe: &'a Recipe<'a>,
        log_dir: &Path,
    ) -> Result<ConfiguredTree<'a>> {
        let name = Key::of("objects 1")
            .field("lineage", tree.source().lineage.as_str())
            .field("config", recipe.requests.key().as_str())
            .field("tools", recipe.tools.key().as_str())
            .field("compiler", recipe.variant.compiler.name());
        ctx.cache.verify(&ctx.bus, &tree.source().dir)?;
        let (dir, held) = objects(ctx, tree, name)?;
        create_dir(&dir.join("obj"))?;
        let making = Making::of(&dir.join("obj"))?;
        let configured = ConfiguredTree { tree, recipe, dir, making, _held: held };
        let phase = ctx.bus.phase("configure", recipe.called(tree));
        phase.progress(0, 0, "source");
        let overlay = tree.overlay().map(|overlay| (overlay, overlay.dir.join("files")));
        let synced = source_view::sync(
            &configured.dir.join("src"),
            &configured.dir.join("view.json"),
            &tree.source().dir,
            &tree.source().key,
            overlay.as_ref().map(|(overlay, files)| Overlaid {
                files,
                changed: &overlay.changed,
                deleted: &overlay.deleted,
            }),
        )?;
        let stamp = configured.dir.join("configured");
        if synced.fresh || synced.changed.iter().any(|path| changes_config(path)) {
            let _ = fs::remove_file(&stamp);
        }
        if stamp.exists() && beneath::is_file(&configured.dir.join("obj"), ".config") {
            phase.cached();
            return Ok(configured);
        }
        phase.progress(0, 0, "allnoconfig");
        configured.run_kconfig(ctx, log_dir)?;
        configured.check_options()?;
        write_file(&stamp, "")?;
        phase.finish();
        Ok(configured)
    }

    fn run_kconfig(&self, ctx: &Context, log_dir: &Path) -> Result<()> {
        write_file(&self.dir.join("obj/vmtest.config"), self.recipe.requests.merged_text())?;
        let sandbox = self.sandbox(ctx)?;
        let mut command = self.make(&sandbox);
        let asked = sandbox.see("/obj/vmtest.config");
        command.arg(format!("KCONFIG_ALLCONFIG={}", asked.display())).arg("allnoconfig");
        let done = self.run_make(Job::new(command).log(log_dir.join("config.log")))?;
        if done.success() {
            return Ok(());
        }
        Err(self.failed("cannot be configured", &done, &log_dir.join("config.log")))
    }

    fn run_make(&self, job: Job<'_>) -> Result<Finished> {
        self.making.begins()?;
        let limit = self.recipe.make.limit;
        let late = |error: Error| error.next("use --timeout build=SECONDS to allow more time");
        let done = job.deadline_of(limit, Class::KernelBuild).run().map_err(|error| match error.class {
            Class::KernelBuild => late(error),
            _ => error,
        })?;
        self.making.ended()?;
        Ok(done)
    }

    fn check_options(&self) -> Result<()> {
        let dotconfig = vmtest_base::dotconfig::parse(&beneath::read_text(&self.dir.join("obj"), ".config")?);
        let mut lost = config::lost(self.recipe.requests, &dotconfig);
        if lost.is_empty() {
            return Ok(());
        }
        config::explain(&mut lost, &self.dir.join("src"), &dotconfig);
        Err(config::lost_error(&lost, self.tree.id()))
    }

    /// Builds `vmlinux` and keeps it in the cache. The full output of make goes to `log_dir/build.log`.
    ///
    /// # Errors
    /// Class `KernelBuild` with the compiler's first error.
    pub fn build(self, ctx: &Context, log_dir: &Path) -> Result<KernelBuild> {
        // Another run may have built it while this one waited for the objects.
        if let Some(built) = cached(ctx, self.tree, self.recipe)? {
            return Ok(built);
        }
        let phase = ctx.bus.phase("build", self.recipe.called(self.tree));
        let expected_file = self.dir.join("objects-built");
        let first_time = !expected_file.exists();
        let mut done_objects = 0_u64;
        let sandbox = self.sandbox(ctx)?;
        let mut command = self.make(&sandbox);
        command.arg(format!("-j{}", self.recipe.make.jobs)).arg("vmlinux");
        let job = Job::new(command).log(log_dir.join("build.log")).on_line(|_, line| {
            if let Some(object) = object_built(line) {
                done_objects += 1;
                // Only a first build knows what to expect; later ones rebuild what changed.
                let total = if first_time { TYPICAL_OBJECTS.max(done_objects) } else { 0 };
                phase.progress(done_objects, total, object);
            }
        });
        let done = self.run_make(job)?;
        if !done.success() {
            return Err(self.failed("does not build", &done, &log_dir.join("build.log")));
        }
        if !KEPT.iter().all(|(made, _)| beneath::is_file(&self.dir.join("obj"), made)) {
            // A series may have changed the Makefile, and a link there could name any file of this host.
            return Err(self.failed(
                "does not build: make did not produce vmlinux as a regular file",
                &done,
                &log_dir.join("build.log"),
            ));
        }
        if first_time {
            write_file(&expected_file, done_objects.to_string())?;
        }
        let modules = self.test_modules(ctx, log_dir)?;
        let built = self.keep(ctx, &modules)?;
        phase.finish();
        Ok(built)
    }

    /// Builds the modules of the tree's own BPF tests, where the kernel takes modules: only now do the objects and symbols
    /// belong to this kernel. What does not build is said in the log and missing later; the kernel is good without.
    fn test_modules(&self, ctx: &Context, log_dir: &Path) -> Result<Vec<String>> {
        let (src, obj) = (self.dir.join("src"), self.dir.join("obj"));
        let config = vmtest_base::dotconfig::parse(&beneath::read_text(&obj, ".config")?);
        let sources = beneath::names(&src, TEST_MODULES);
        if config.get("MODULES").map(String::as_str) != Some("y") || sources.is_empty() {
            return Ok(Vec::new());
        }
        let place = obj.join(MODULES_HERE);
        remove_tree(&place);
        fs::create_dir(&place).on("cannot create directory", &place)?;
        let mut room = Budget::of(Class::KernelBuild);
        for name in sources {
            beneath::copy(&src, Path::new(TEST_MODULES).join(&name), &place.join(&name), &mut room)?;
        }
        let sandbox = self.sandbox(ctx)?;
        // The first one makes Module.symvers and the linker script; there are no modules of the tree itself.
        for (at, below) in [None, Some(MODULES_HERE)].into_iter().enumerate() {
            let mut command = self.make(&sandbox);
            command.arg(format!("-j{}", self.recipe.make.jobs)).arg("modules");
            command.args(below.map(|below| format!("M={}", sandbox.see(&format!("/obj/{below}")).display())));
            let log = log_dir.join(format!("modules-{}.log", at + 1));
            let done = self.run_make(Job::new(command).log(log.clone()))?;
            if !done.success() {
                let first = build_log::first_error(done.tail.iter().map(String::as_str));
                let why =
                    first.first().map_or_else(|| vmtest_host::process::ended(done.status), String::clone);
                ctx.bus.warn(format!(
                    "{}: the modules for its BPF tests do not build, so tests that need them will be skipped: {why}; see {}",
                    self.tree.id(),
                    log.display()
                ));
                return Ok(Vec::new());
            }
        }
        let made = beneath::names(&obj, MODULES_HERE).into_iter().filter(|name| name.ends_with(".ko"));
        Ok(made.collect())
    }

    fn keep(&self, ctx: &Context, modules: &[String]) -> Result<KernelBuild> {
        let obj = self.dir.join("obj");
        let scratch = ctx.cache.scratch()?;
        let mut room = Budget::of(Class::KernelBuild);
        if !modules.is_empty() {
            create_dir(&scratch.path().join(MODULES))?;
        }
        for module in modules {
            let from = Path::new(MODULES_HERE).join(module);
            beneath::copy(&obj, from, &scratch.path().join(MODULES).join(module), &mut room)?;
        }
        for (from, to) in KEPT {
            // Copies, not links: the next make changes vmlinux in place when it adds BTF.
            beneath::copy(&obj, from, &scratch.path().join(to), &mut room)?;
        }
        let place = ctx.cache.path(CacheKind::Kernel, key(self.tree, self.recipe).as_str());
        let dir = scratch.keep_as(&place)?;
        opened(self.tree, self.recipe, dir, false)
    }

    fn failed(&self, what: &str, done: &Finished, log: &Path) -> Error {
        if let Some(line) = done.no_space().filter(|_| is_full(&self.dir.join("obj"))) {
            return full_disk(format!("{} {what}", self.tree.id()), &done.command, line);
        }
        let text =
            fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let mut error = build_log::first_error(text.lines()).into_iter();
        // The error is the cause; the lines that belong to it, or else the last ones, follow.
        let (why, detail) = match error.next() {
            Some(first) => (first, error.collect()),
            None => {
                let last = done.tail[done.tail.len().saturating_sub(15)..].to_vec();
                (format!("make {} without naming an error", vmtest_host::process::ended(done.status)), last)
            }
        };
        Error::new(Class::KernelBuild, format!("{} {what}", self.tree.id()))
            .why(why)
            .detail(detail)
            .next(format!("the whole output is in {}", log.display()))
    }

    fn sandbox(&self, ctx: &Context) -> Result<Sandbox<'_>> {
        // One for each set of tools: with CCACHE_DEPEND nothing else notices that a header of theirs has changed.
        let ccache = ctx.cache.path(CacheKind::Ccache, self.recipe.tools.key().as_str());
        create_dir(&ccache)?;
        ctx.cache.hold(&ccache);
        let sandbox = Sandbox::new(self.recipe.tools)
            .read_only(self.dir.join("src"), "/src")
            .writable(self.dir.join("obj"), "/obj");
        // A stranger may take from it what we compiled, and leaves nothing there; its own objects stay where they are.
        let ours = self.tree.origin().is_none();
        let sandbox =
            if ours { sandbox.writable(ccache, "/ccache") } else { sandbox.read_only(ccache, "/ccache") };
        let sandbox =
            if ours { sandbox } else { sandbox.env("CCACHE_READONLY", "1").env("CCACHE_TEMPDIR", "/tmp") };
        let ccache = sandbox.see("/ccache").to_string_lossy().into_owned();
        Ok(sandbox
            .path_first("/usr/lib/ccache")
            // Fixed, or the version string alone would make each build of the same source differ.
            .env("KBUILD_BUILD_USER", "vmtest")
            .env("KBUILD_BUILD_HOST", "vmtest")
            .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970")
            .env("CCACHE_DIR", ccache)
            // Kbuild asks the compiler for each file's headers anyway. Taking them from there, instead of running the
            // preprocessor first, makes a miss cost 9 % of a compilation instead of 37 % (docs/performance.md).
            .env("CCACHE_DEPEND", "1")
            .env("CCACHE_MAXSIZE", "2G"))
    }

    fn make(&self, sandbox: &Sandbox<'_>) -> std::process::Command {
        let mut command = sandbox.command("make");
        command.arg("-C").arg(sandbox.see("/src")).arg(format!("O={}", sandbox.see("/obj").display()));
        if self.recipe.variant.compiler == Compiler::Clang {
            command.arg("LLVM=1");
        }
        // Not in the name of the object directory: make itself compiles again what they change.
        command.args(&self.recipe.variant.make);
        command
    }
}

/// Whether the file system of a path is really full: the compiler's message alone may be the text of a stranger's makefile.
fn is_full(path: &Path) -> bool {
    let free = nix::sys::statvfs::statvfs(path).map(|stat| stat.blocks_available() * stat.fragment_size());
    free.is_ok_and(|free| free < NO_ROOM)
}

/// With less than this left, a build that reports a full disk is right: it removed its half-written files.
const NO_ROOM: u64 = 512 << 20;

/// Modules of the tree's BPF tests, below the tree.
const TEST_MODULES: &str = "tools/testing/selftests/bpf/test_kmods";
/// Where they are built, below the object directory: kbuild writes beside the source, which is read-only.
const MODULES_HERE: &str = "vmtest-modules";
/// Directory of a kernel's cache entry with the modules; absent where there are none.
pub const MODULES: &str = "modules";

/// What is kept of the objects, and its name in the cache entry.
const KEPT: [(&str, &str); 3] =
    [("vmlinux", "vmlinux"), (".config", "config"), ("include/config/kernel.release", "release")];

/// Lines of make that [`object_built`] counts in a first build with the default configuration (7.3.4); only the progress
/// bar uses it.
const TYPICAL_OBJECTS: u64 = 1_830;

/// Kconfig files, and the scripts that Kconfig's own questions run.
fn changes_config(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("Kconfig") || path.starts_with("scripts/")
}

/// The object that a line of make's short output speaks of.
fn object_built(line: &str) -> Option<&str> {
    let line = line.strip_prefix("  ")?;
    let (step, object) = line.split_once(' ')?;
    matches!(step, "CC" | "AS" | "HOSTCC" | "AR" | "LD").then(|| object.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn make_lines_are_recognised() {
        assert_eq!(object_built("  CC      kernel/bpf/trampoline.o"), Some("kernel/bpf/trampoline.o"));
        assert_eq!(object_built("  GEN     arch/x86/include/generated/x.h"), None);
        assert_eq!(object_built("kernel/x.c:1:2: error: CC"), None);
    }

    #[test]
    fn only_what_kconfig_reads_configures_again() {
        assert!(changes_config("kernel/trace/Kconfig"));
        assert!(changes_config("lib/Kconfig.debug"));
        assert!(changes_config("scripts/gcc-version.sh"));
        assert!(!changes_config("kernel/bpf/trampoline.c"));
    }
}
