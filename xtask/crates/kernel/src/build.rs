// SPDX-License-Identifier: MIT OR Apache-2.0
//! From patched source to a bootable kernel: `PatchedTree -> ConfiguredTree -> KernelBuild`.
//!
//! Objects are kept in one directory per lineage of the source, configuration and tools (for an untrusted
//! tree also per set of files that make executes: [`crate::executed`]), so that make rebuilds only what
//! differs between two states of a tree or two patches of a series. Images are cached under the key of
//! everything that went into them, including their origin, and are never built twice.

mod extra_warnings;
mod objects;

pub use crate::build::extra_warnings::ExtraWarnings;

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::objects::{Held, Intent, objects, private};
use crate::build_log;
use crate::config::{self, Requests};
use crate::coverage;
use crate::make_mark::{Make, Making};
use crate::patch::Overlay;
use crate::patched::PatchedTree;
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
    /// All requested options.
    pub requests: &'a Requests,
    pub tools: &'a Tools,
    /// How to run make.
    pub make: Make,
}

impl Recipe<'_> {
    fn called(&self, tree: &PatchedTree) -> String {
        variant::called(tree.id(), Some(&self.variant.name), &[])
    }

    /// The C files whose lines are counted: those that the series changes, with a kernel that has gcov.
    fn counted(&self, tree: &PatchedTree) -> Vec<String> {
        let gcov = |request: &config::Request| {
            request.option == "GCOV_KERNEL" && request.value == config::Value::Yes
        };
        let changed = tree.overlay().filter(|_| self.requests.iter().any(gcov));
        let changed = changed.map(|overlay| overlay.changed.clone()).unwrap_or_default();
        changed.into_iter().filter(|path| coverage::is_kernel_code(path)).collect()
    }

    /// Whether make reports more warnings than usual, so that they are shown (`W=1`).
    fn wants_warnings(&self) -> bool {
        self.variant.make.iter().any(|word| word.starts_with("W="))
    }

    /// Shows the warnings that are kept with a kernel.
    fn show_warnings(&self, ctx: &Context, dir: &Path) {
        let text = if self.wants_warnings() { read_text(&dir.join(WARNINGS)).ok() } else { None };
        let Some(text) = text else { return };
        text.lines().take(SHOWN_WARNINGS).for_each(|line| ctx.bus.note(line));
        match text.lines().count() {
            0 => ctx.bus.note(format!("{}: no warnings", self.variant.make.join(" "))),
            count if count > SHOWN_WARNINGS => {
                let file = dir.join(WARNINGS);
                ctx.bus.note(format!("{} more warnings: {}", count - SHOWN_WARNINGS, file.display()));
            }
            _ => (),
        }
    }
}

/// A bootable kernel.
#[derive(Debug, Clone)]
pub struct KernelBuild {
    /// Column of the matrix.
    pub id: String,
    /// Hash of everything that went into it.
    pub key: Key,
    /// Hash of its inputs without their origin: the same in every checkout of a tree.
    pub identity: Key,
    /// Directory with `vmlinux`, `config` and `release`, and `modules/` if it has any for its BPF tests.
    pub dir: PathBuf,
    /// Its `uname -r`.
    pub release: String,
    /// Whether it was already in the cache.
    pub cached: bool,
}

/// Cache key of the kernel that this tree and recipe produce, including the origin of what ran to make it.
///
/// Two untrusted origins with the same source and configuration do not share a kernel, nor do an untrusted
/// origin and the project: the objects that it is linked from could have been changed by anything else that
/// its origin built.
pub fn key(tree: &PatchedTree, recipe: &Recipe<'_>) -> Key {
    let origin = tree.origin();
    let key = Key::of("kernel 2").field("identity", identity(tree, recipe).as_str());
    match &origin {
        Some(origin) => key.field("origin", origin.as_str()).finish(),
        None => key.finish(),
    }
}

/// Identity of the kernel for records: the same for another checkout of the same state.
pub fn identity(tree: &PatchedTree, recipe: &Recipe<'_>) -> Key {
    let key = Key::of("kernel 1")
        .field("tree", tree.key().as_str())
        .field("config", recipe.requests.key().as_str())
        .field("tools", recipe.tools.key().as_str())
        .field("compiler", recipe.variant.compiler.name());
    let takes_modules =
        |request: &config::Request| request.option == "MODULES" && request.value == config::Value::Yes;
    // Then the entry also holds the test modules.
    let key = if recipe.requests.iter().any(takes_modules) { key.field("test modules", "1") } else { key };
    let key = recipe.counted(tree).iter().fold(key, |key, file| key.field("counted 2", file));
    recipe.variant.make.iter().fold(key, |key, setting| key.field("make", setting)).finish()
}

/// The finished kernel, if it is in the cache.
pub fn cached(ctx: &Context, tree: &PatchedTree, recipe: &Recipe<'_>) -> Result<Option<KernelBuild>> {
    let found = ctx.cache.get(CacheKind::Kernel, key(tree, recipe).as_str());
    ctx.cache.report_removed(&ctx.bus);
    if let Some(dir) = &found {
        recipe.show_warnings(ctx, dir);
    }
    found.map(|dir| opened(tree, recipe, dir, true)).transpose()
}

/// Whether the finished kernel is in the cache.
pub fn is_cached(ctx: &Context, tree: &PatchedTree, recipe: &Recipe<'_>) -> bool {
    ctx.cache.get(CacheKind::Kernel, key(tree, recipe).as_str()).is_some()
}

fn opened(tree: &PatchedTree, recipe: &Recipe<'_>, dir: PathBuf, cached: bool) -> Result<KernelBuild> {
    let release = read_text(&dir.join("release"))?.trim().to_owned();
    let (key, identity) = (key(tree, recipe), identity(tree, recipe));
    Ok(KernelBuild { id: tree.id().to_owned(), key, identity, dir, release, cached })
}

/// A tree with its object directory, which is locked, synced with the source and configured.
pub struct ConfiguredTree<'a> {
    tree: &'a PatchedTree,
    recipe: &'a Recipe<'a>,
    dir: PathBuf,
    making: Making,
    _held: Held,
}

impl<'a> ConfiguredTree<'a> {
    /// Locks the object directory, syncs its source and configures it if necessary.
    ///
    /// # Errors
    /// Class `OptionLost` if a requested option is not in the result, `KernelBuild` if the tree cannot be
    /// configured, `Host` for errors of the file system.
    pub fn configure(
        ctx: &Context,
        tree: &'a PatchedTree,
        recipe: &'a Recipe<'a>,
        log_dir: &Path,
    ) -> Result<ConfiguredTree<'a>> {
        ctx.cache.verify(&ctx.bus, &tree.source().dir)?;
        let place = objects(ctx, tree, recipe, Intent::Build)?;
        ConfiguredTree::within(place, ctx, (tree, recipe), log_dir)
    }

    /// Only checks that a tree can be configured, and releases everything: a lock held until its build could
    /// deadlock with another run. `apart`: not in the object directory, where changing between two states of
    /// a tree would make files new.
    ///
    /// # Errors
    /// Those of [`ConfiguredTree::configure`].
    pub fn check(
        ctx: &Context,
        tree: &PatchedTree,
        recipe: &Recipe<'_>,
        log_dir: &Path,
        apart: bool,
    ) -> Result<()> {
        ctx.cache.verify(&ctx.bus, &tree.source().dir)?;
        let place = match apart {
            true => private(ctx)?,
            false => objects(ctx, tree, recipe, Intent::Configure)?,
        };
        ConfiguredTree::within(place, ctx, (tree, recipe), log_dir).map(drop)
    }

    fn within(
        (dir, held): (PathBuf, Held),
        ctx: &Context,
        (tree, recipe): (&'a PatchedTree, &'a Recipe<'a>),
        log_dir: &Path,
    ) -> Result<ConfiguredTree<'a>> {
        create_dir(&dir.join("obj"))?;
        let making = Making::of(&dir.join("obj"))?;
        let configured = ConfiguredTree { tree, recipe, dir, making, _held: held };
        let phase = ctx.bus.phase("configure", recipe.called(tree));
        phase.progress(0, 0, "source");
        let synced = tree.sync(&configured.dir.join("src"), &configured.dir.join("view.json"))?;
        let stamp = configured.dir.join("configured");
        if synced.fresh || synced.changed.iter().any(|path| changes_config(path)) {
            let _ = fs::remove_file(&stamp);
        }
        if stamp.exists() && beneath::is_file(&configured.dir.join("obj"), ".config") {
            phase.cached();
            return Ok(configured);
        }
        phase.progress(0, 0, recipe.requests.target());
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
        command.arg(format!("KCONFIG_ALLCONFIG={}", asked.display())).arg(self.recipe.requests.target());
        let done = self.run_make(Job::new(command).log(log_dir.join("config.log")))?;
        if done.success() {
            return Ok(());
        }
        Err(self.failed("cannot be configured", &done, &log_dir.join("config.log")))
    }

    fn run_make(&self, job: Job<'_>) -> Result<Finished> {
        self.making.begins()?;
        let limit = self.recipe.make.limit;
        let late = |error: Error| error.next("use --timeout build=TIME to allow more time");
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

    /// Builds `vmlinux` and stores it in the cache. The full output of make goes to `log_dir/build.log`.
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
                // Only a first build can estimate the total; later ones rebuild only what changed.
                let total = if first_time { TYPICAL_OBJECTS.max(done_objects) } else { 0 };
                phase.progress(done_objects, total, object);
            }
        });
        let done = self.run_make(job)?;
        if !done.success() {
            let log = log_dir.join("build.log");
            let text = self.relative(&log);
            ctx.bus.diagnostics(build_log::placed_errors(text.lines()).join("\n"));
            return Err(self.failed("does not build", &done, &log));
        }
        if !KEPT.iter().all(|(made, _)| beneath::is_file(&self.dir.join("obj"), made)) {
            // A series may have changed the Makefile, and a symlink there could point to any file of this
            // host.
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
        let built = self.keep(ctx, &modules, &log_dir.join("build.log"))?;
        phase.finish();
        self.recipe.show_warnings(ctx, &built.dir);
        Ok(built)
    }

    /// Builds the modules of the tree's own BPF tests if the kernel supports modules. Done after vmlinux,
    /// when objects and symbols belong to this kernel. If that fails, it prints a warning and the kernel has
    /// no modules.
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
        // The first run makes Module.symvers and the linker script; the tree itself has no modules.
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

    fn keep(&self, ctx: &Context, modules: &[String], log: &Path) -> Result<KernelBuild> {
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
        for file in self.recipe.counted(self.tree) {
            let [object, notes] = ["o", "gcno"].map(|end| Path::new(&file).with_extension(end));
            // This configuration does not compile the file.
            if !beneath::is_file(&obj, &object) {
                continue;
            }
            if !beneath::is_file(&obj, &notes) {
                let what = format!("{} does not count the lines of {file}", self.tree.id());
                return Err(Error::new(Class::KernelBuild, what)
                    .why(format!("the compiler did not write {}", notes.display()))
                    .next("check that the tree's scripts/Makefile.lib reads GCOV_PROFILE_<object>"));
            }
            let to = scratch.path().join(NOTES).join(&notes);
            to.parent().map(create_dir).transpose()?;
            beneath::copy(&obj, &notes, &to, &mut room)?;
        }
        for (from, to) in KEPT {
            // Copies, not hard links: the next make modifies vmlinux in place when it adds BTF.
            beneath::copy(&obj, from, &scratch.path().join(to), &mut room)?;
        }
        if self.recipe.wants_warnings() {
            let log = fs::read(log).on("cannot read", log)?;
            write_file(&scratch.path().join(WARNINGS), build_log::warnings(&String::from_utf8_lossy(&log)))?;
        }
        let place = ctx.cache.path(CacheKind::Kernel, key(self.tree, self.recipe).as_str());
        let dir = scratch.keep_as(&place)?;
        opened(self.tree, self.recipe, dir, false)
    }

    /// A log of make with the names of source files relative to the tree.
    fn relative(&self, log: &Path) -> String {
        let text =
            fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let source = Sandbox::new(self.recipe.tools).read_only(self.dir.join("src"), "/src").see("/src");
        text.replace(&format!("{}/", source.display()), "")
    }

    fn failed(&self, what: &str, done: &Finished, log: &Path) -> Error {
        if let Some(line) = done.no_space().filter(|_| is_full(&self.dir.join("obj"))) {
            return full_disk(format!("{} {what}", self.tree.id()), &done.command, line);
        }
        let text = self.relative(log);
        let mut error = build_log::first_error(text.lines()).into_iter();
        // The error is the cause; its other lines follow, or the last lines of the output if there is no
        // error.
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
        // One cache per set of tools: with CCACHE_DEPEND, a changed system header is not noticed otherwise.
        let ccache = ctx.cache.path(CacheKind::Ccache, self.recipe.tools.key().as_str());
        create_dir(&ccache)?;
        ctx.cache.hold(&ccache);
        let sandbox = Sandbox::new(self.recipe.tools)
            .read_only(self.dir.join("src"), "/src")
            .writable(self.dir.join("obj"), "/obj");
        // An untrusted build may read what we compiled, but must not write to our cache. Its own objects stay
        // in its directory.
        let ours = self.tree.origin().is_none();
        let sandbox =
            if ours { sandbox.writable(ccache, "/ccache") } else { sandbox.read_only(ccache, "/ccache") };
        let sandbox =
            if ours { sandbox } else { sandbox.env("CCACHE_READONLY", "1").env("CCACHE_TEMPDIR", "/tmp") };
        let ccache = sandbox.see("/ccache").to_string_lossy().into_owned();
        Ok(sandbox
            .path_first("/usr/lib/ccache")
            // Fixed values, because otherwise the version string would differ between builds of the same
            // source.
            .env("KBUILD_BUILD_USER", "vmtest")
            .env("KBUILD_BUILD_HOST", "vmtest")
            // Else it counts the links in this object directory, and the build id depends on them.
            .env("KBUILD_BUILD_VERSION", "1")
            .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970")
            .env("CCACHE_DIR", ccache)
            // Kbuild makes the compiler list each file's headers anyway. Using that list instead of running
            // the preprocessor first reduces the cost of a miss from 37 % to 9 % of a compilation
            // (docs/evidence/performance.md).
            .env("CCACHE_DEPEND", "1")
            .env("CCACHE_MAXSIZE", "2G"))
    }

    fn make(&self, sandbox: &Sandbox<'_>) -> std::process::Command {
        let mut command = sandbox.command("make");
        command.arg("-C").arg(sandbox.see("/src")).arg(format!("O={}", sandbox.see("/obj").display()));
        if self.recipe.variant.compiler == Compiler::Clang {
            command.arg("LLVM=1");
        }
        // Not part of the object directory's key: make itself recompiles what these settings affect.
        command.args(&self.recipe.variant.make);
        command.args(coverage::make_words(&self.recipe.counted(self.tree)));
        command
    }
}

/// Whether the path's file system is really full: the error message alone may come from an untrusted
/// makefile.
fn is_full(path: &Path) -> bool {
    let free = nix::sys::statvfs::statvfs(path).map(|stat| stat.blocks_available() * stat.fragment_size());
    free.is_ok_and(|free| free < NO_ROOM)
}

/// With less space left, a build that reported a full disk is believed. Not 0, since it removed its
/// unfinished files.
const NO_ROOM: u64 = 512 << 20;

/// Modules of the tree's BPF tests, below the tree.
const TEST_MODULES: &str = "tools/testing/selftests/bpf/test_kmods";
/// Where they are built, below the object directory: kbuild writes next to the source, which is read-only.
const MODULES_HERE: &str = "vmtest-modules";
/// Directory with the compiler's notes for gcov in a kernel's cache entry; missing if no lines are counted.
pub const NOTES: &str = "gcov";

/// Directory with the modules in a kernel's cache entry; missing if there are none.
pub const MODULES: &str = "modules";

/// Warnings of the build, with `W=1`.
const WARNINGS: &str = "warnings";
/// Most warnings that are shown.
const SHOWN_WARNINGS: usize = 20;

/// Files that are kept from the object directory, and their names in the cache entry.
const KEPT: [(&str, &str); 3] =
    [("vmlinux", "vmlinux"), (".config", "config"), ("include/config/kernel.release", "release")];

/// Number of lines that [`object_built`] counts in a first build with the default configuration (7.3.4). Used
/// only for the progress bar.
const TYPICAL_OBJECTS: u64 = 1_830;

/// Whether the series of a tree may change the result of Kconfig.
pub fn series_changes_config(tree: &PatchedTree) -> bool {
    let paths =
        |overlay: &Overlay| overlay.changed.iter().chain(&overlay.deleted).any(|path| changes_config(path));
    tree.overlay().is_some_and(paths)
}

/// Whether it is a Kconfig file, or a script that Kconfig may run.
fn changes_config(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with("Kconfig") || path.starts_with("scripts/")
}

/// The object that a line of make's short output names.
fn object_built(line: &str) -> Option<&str> {
    let line = line.strip_prefix("  ")?;
    let (step, object) = line.split_once(' ')?;
    matches!(step, "CC" | "AS" | "HOSTCC" | "AR" | "LD").then(|| object.trim())
}

#[cfg(test)]
mod tests;
