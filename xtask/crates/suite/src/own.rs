// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our own suite: the static runner, built on the host by cargo, and the list of its subtests. Its results
//! are interpreted in [`vmtest_guest::judge`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use vmtest_host::store::CacheKind;
use vmtest_protocol::{Effort, Listed, TestName, names_group};

use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::event::Phase;
use vmtest_base::files::read_text;
use vmtest_base::installation::RUNNER_DIR;
use vmtest_base::key::Key;
use vmtest_base::program;
use vmtest_base::similar;
use vmtest_guest::machine::Demands;
use vmtest_host::context::Context;
use vmtest_host::process::{Finished, Job};

/// File name of the runner in its cache entry.
pub const RUNNER: &str = "vmtest-runner";
/// The runner's list of subtests, beside it.
const LIST: &str = "list.json";
const TARGET: &str = "x86_64-unknown-linux-gnu";

#[derive(Debug, Clone)]
pub struct Runner {
    /// Directory that contains only the runner.
    pub dir: PathBuf,
    /// All of its subtests.
    pub listed: Vec<Listed>,
}

impl Runner {
    pub fn path(&self) -> PathBuf {
        self.dir.join(RUNNER)
    }

    /// Whether nothing has to be built: a runner from the present sources is in the cache, or this is an installation.
    pub fn is_cached(ctx: &Context) -> bool {
        if program::installation().is_some() {
            return true;
        }
        sources_key(&ctx.project).is_ok_and(|key| ctx.cache.get(CacheKind::Runner, key.as_str()).is_some())
    }

    /// Builds the runner, unless one from the same sources is in the cache. An installation has it already.
    ///
    /// # Errors
    /// Class `SuiteBuild` with the compiler's first error.
    pub fn ensure(ctx: &Context) -> Result<Runner> {
        if let Some(root) = program::installation() {
            return Runner::prebuilt(root);
        }
        let key = sources_key(&ctx.project)?;
        let phase = ctx.bus.phase("runner", "own suite");
        let (dir, cached) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Runner, key.as_str(), |dir| {
            let built = build(ctx, &phase)?;
            // List with the original, not the copy: a file that we just wrote is "busy" while another thread
            // forks.
            let listing = Job::new({
                let mut command = Command::new(&built);
                command.arg("--list");
                command
            })
            .run()?
            .ok("the runner cannot list its tests")?;
            // Parse it before caching: an unreadable list would stay in the cache.
            parse_list(&listing.stdout)?;
            fs::copy(&built, dir.join(RUNNER)).on("cannot copy", &built)?;
            vmtest_base::files::write_file(&dir.join(LIST), listing.stdout)
        })?;
        let listed = parse_list(&read_text(&dir.join(LIST))?)?;
        if cached {
            phase.cached()
        } else {
            phase.finish()
        }
        Ok(Runner { dir, listed })
    }

    /// The runner of an installation. Its directory is named after its key, as in the cache.
    fn prebuilt(root: &Path) -> Result<Runner> {
        let top = root.join(RUNNER_DIR);
        let mut entries = fs::read_dir(&top).on("cannot read", &top)?.flatten().map(|entry| entry.path());
        let dir = entries.find(|dir| dir.join(RUNNER).is_file()).ok_or_else(|| {
            Error::host(format!("{} has no runner of the own suite", root.display()))
                .why(format!("there is no {RUNNER} below {}", top.display()))
                .next("install it again")
        })?;
        let listed = parse_list(&read_text(&dir.join(LIST))?)?;
        Ok(Runner { dir, listed })
    }

    /// Whether a subtest uses the bpftool of the tree under test.
    pub fn uses_bpftool(&self, name: &TestName) -> bool {
        self.listed.iter().any(|listed| listed.bpftool && listed.name == *name)
    }

    /// Whether a kernel may skip a subtest without anyone having allowed it: it tests what most kernels do not
    /// have, and its group is not named.
    pub fn is_optional(&self, name: &TestName, filter: &TestFilter) -> bool {
        let named = || filter.globs().iter().any(|glob| names_group(glob, &name.test));
        self.listed.iter().any(|listed| listed.optional && listed.name == *name) && !named()
    }

    /// What these subtests require of the machine.
    pub fn demands(&self, chosen: &[TestName]) -> Demands {
        let who = |asks: fn(&Listed) -> bool| {
            let mut names = self.listed.iter().filter(|one| asks(one) && chosen.contains(&one.name));
            let first = names.next()?.name.path();
            Some((1 + names.count(), first))
        };
        Demands {
            several_cpus: who(|listed| listed.several_cpus),
            single_thread: who(|listed| listed.single_thread),
            only_counted: !chosen.is_empty() && who(|listed| !listed.counted).is_none(),
        }
    }

    /// The globs of a filter that match some subtest of this suite.
    pub fn known(&self, filter: &TestFilter) -> Result<TestFilter> {
        let unknown = filter.unmatched(self.listed.iter().map(|listed| &listed.name));
        let known: Vec<String> =
            filter.globs().iter().filter(|glob| !unknown.contains(glob)).cloned().collect();
        TestFilter::new(&known)
    }

    /// Names of the subtests that a filter and an effort choose, in their order.
    ///
    /// # Errors
    /// Class `Usage` for a glob that matches no subtest of any effort, with the valid ones.
    pub fn choose(&self, filter: &TestFilter, effort: Effort) -> Result<Vec<TestName>> {
        if let Some(glob) = filter.unmatched(self.listed.iter().map(|listed| &listed.name)).first() {
            let mut groups: Vec<&str> = self.listed.iter().map(|listed| listed.name.test.as_str()).collect();
            groups.dedup();
            let names = self.listed.iter().map(|listed| listed.name.path());
            let names =
                names.chain(groups.iter().flat_map(|group| [format!("{group}/*"), (*group).to_owned()]));
            return Err(Error::usage(format!("--test {glob} matches no subtest"))
                .why(format!("there are {} subtests in {}", self.listed.len(), groups.join(", ")))
                .next(similar::or(
                    glob,
                    names,
                    &format!("`{}` lists them all", program::command("vmtest --list")),
                )));
        }
        // A subtest that is named explicitly runs at any effort.
        let group_is_named = |listed: &Listed| {
            !listed.only_named || filter.globs().iter().any(|glob| names_group(glob, &listed.name.test))
        };
        let wanted = |listed: &&Listed| {
            if filter.is_empty() {
                listed.effort <= effort && !listed.only_named
            } else {
                filter.matches(&listed.name)
                    && (filter.names(&listed.name) || listed.effort <= effort)
                    && group_is_named(listed)
            }
        };
        let chosen: Vec<TestName> =
            self.listed.iter().filter(wanted).map(|listed| listed.name.clone()).collect();
        if chosen.is_empty() {
            return Err(Error::usage("no subtest is left to run")
                .why("the subtests that --test selects need a higher effort")
                .next("leave out --effort, or name a subtest in full"));
        }
        Ok(chosen)
    }
}

/// Longest list of names that is passed to the guest as such, which keeps its command line readable.
const MAX_NAMES: usize = 700;

impl Runner {
    /// How to select exactly these subtests in the guest: by name if there are few, and by their indices in
    /// the runner's list ([`vmtest_protocol::pick`]). Both are empty if all subtests of the effort are
    /// selected.
    pub fn ask_for(&self, chosen: &[TestName], effort: Effort) -> (Vec<String>, String) {
        let all = self.listed.iter().filter(|listed| listed.effort <= effort && !listed.only_named);
        let all = all.map(|listed| &listed.name);
        if all.eq(chosen.iter()) {
            return (Vec::new(), String::new());
        }
        let names: Vec<String> = chosen.iter().map(TestName::path).collect();
        let short = names.iter().map(|name| name.len() + 1).sum::<usize>() <= MAX_NAMES;
        let places = self.listed.iter().map(|listed| chosen.contains(&listed.name));
        (if short { names } else { Vec::new() }, vmtest_protocol::pick(places))
    }
}

impl Runner {
    /// Splits the names into lists short enough to be passed to a guest by name.
    pub fn in_parts(&self, names: &[TestName]) -> Vec<Vec<TestName>> {
        let mut parts: Vec<Vec<TestName>> = Vec::new();
        let mut length = MAX_NAMES;
        for name in names {
            length += name.path().len() + 1;
            if length > MAX_NAMES {
                parts.push(Vec::new());
                length = name.path().len() + 1;
            }
            parts.last_mut().into_iter().for_each(|part| part.push(name.clone()));
        }
        parts
    }
}

fn parse_list(text: &str) -> Result<Vec<Listed>> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(Class::SuiteBuild, "the runner's list of tests cannot be read").why(error)
    })
}

/// Hash of everything that the runner is built from.
fn sources_key(project: &Path) -> Result<Key> {
    let mut files: Vec<PathBuf> = vec![project.join("Cargo.lock"), project.join("Cargo.toml")];
    for entry in walkdir::WalkDir::new(project.join("selftests")) {
        let entry = entry.map_err(std::io::Error::from).on("cannot walk", project.join("selftests"))?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    files.sort();
    let mut key = Key::of("runner 1");
    for file in files {
        key = key.field(
            &file.strip_prefix(project).unwrap_or(&file).to_string_lossy(),
            fs::read(&file).on("cannot read", &file)?,
        );
    }
    Ok(key.finish())
}

fn build(ctx: &Context, phase: &Phase) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target_dir = ctx.project.join("target");
    let mut command = Command::new(cargo);
    command.current_dir(&ctx.project).args([
        "build",
        "--locked",
        "--release",
        "--package",
        RUNNER,
        "--target",
        TARGET,
    ]);
    command.arg("--target-dir").arg(&target_dir);
    // Static, so that one file runs in any guest; position independent by Rust's default.
    command.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let done = run_cargo(command, phase)?;
    if !done.success() {
        let first = vmtest_kernel::build_log::first_error(done.tail.iter().map(String::as_str));
        let detail = if first.is_empty() { done.tail.clone() } else { first };
        return Err(Error::new(Class::SuiteBuild, "the runner of the own suite does not build")
            .why(format!("`{}` {}", done.command, vmtest_host::process::ended(done.status)))
            .detail(detail)
            .next(format!(
                "`{}` checks for clang and libelf.a; `{}` installs them",
                program::command("doctor"),
                program::setup()
            )));
    }
    Ok(target_dir.join(TARGET).join("release").join(RUNNER))
}

/// Globs that choose subtests: a glob matches `test/subtest`, or `test` for a whole group.
#[derive(Debug, Clone)]
pub struct TestFilter {
    globs: Vec<String>,
    set: GlobSet,
}

impl TestFilter {
    /// Makes a filter from these globs; an empty list chooses everything.
    ///
    /// # Errors
    /// Class `Usage` for a malformed glob.
    pub fn new(globs: &[String]) -> Result<TestFilter> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            set.add(compile(glob)?);
        }
        let set = set.build().map_err(|error| Error::usage("too many --test globs").why(error))?;
        Ok(TestFilter { globs: globs.to_vec(), set })
    }

    pub fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }

    /// The globs as they were typed.
    pub fn globs(&self) -> &[String] {
        &self.globs
    }

    pub fn matches(&self, name: &TestName) -> bool {
        self.is_empty() || self.set.is_match(name.path()) || self.set.is_match(&name.test)
    }

    /// Whether it names this subtest in full.
    pub fn names(&self, name: &TestName) -> bool {
        self.globs.contains(&name.path())
    }

    /// Globs that match none of these names.
    fn unmatched<'a>(&self, names: impl Iterator<Item = &'a TestName>) -> Vec<String> {
        let mut hit = vec![false; self.globs.len()];
        for name in names {
            for index in self.set.matches(name.path()).into_iter().chain(self.set.matches(&name.test)) {
                hit[index] = true;
            }
        }
        self.globs.iter().zip(hit).filter(|(_, hit)| !hit).map(|(glob, _)| glob.clone()).collect()
    }
}

/// Compiles one glob; `*` also matches slashes.
///
/// # Errors
/// Class `Usage` for a malformed glob.
pub fn compile(glob: &str) -> Result<globset::Glob> {
    GlobBuilder::new(glob)
        .literal_separator(false)
        .build()
        .map_err(|error| Error::usage(format!("`{glob}` is not a glob")).why(error.kind()))
}

/// Runs a `cargo build` whose progress is that of this phase.
///
/// # Errors
/// If cargo cannot be started, or when interrupted.
pub fn run_cargo(mut command: Command, phase: &Phase) -> Result<Finished> {
    // Set if make started us: its jobserver is a pair of file descriptors that our children do not inherit.
    for name in ["MAKEFLAGS", "MFLAGS", "CARGO_MAKEFLAGS"] {
        command.env_remove(name);
    }
    let mut units = 0;
    Job::new(command)
        .on_line(|_, line| {
            if let Some(unit) = line.trim_start().strip_prefix("Compiling ") {
                units += 1;
                phase.progress(units, 0, unit);
            }
        })
        .run()
}

#[cfg(test)]
mod tests;
