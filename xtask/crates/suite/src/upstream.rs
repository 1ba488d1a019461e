// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own BPF tests, built from the tree under test: `test_progs` with the chosen tests and nothing
//! else.
//!
//! The tree's makefile does the work in the sandbox, on a copy that contains only what is needed, because it
//! builds everything in `prog_tests/` and `progs/`. libbpf, bpftool and resolve_btfids are cached separately,
//! so that another set of tests does not compile them again. A test that does not compile is removed from the
//! copy, and the rest is built without it.

mod build;
mod copy;
mod make_log;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::choice::{self, BENCHMARK, Denied, Offer};
use crate::sources::{Needs, SELFTESTS, Selftests};
use crate::upstream::build::Build;
use crate::upstream::copy::copy_inputs;
use vmtest_base::beneath;
use vmtest_base::dotconfig::DotConfig;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::key::{Key, KeyBuilder};
use vmtest_guest::judge::{Chosen, Known};
use vmtest_host::context::Context;
use vmtest_host::sandbox::Tools;
use vmtest_host::store::CacheKind;
use vmtest_kernel::make_mark::Make;
use vmtest_kernel::patched::PatchedTree;

pub const TEST_PROGS: &str = "test_progs";
/// The directory of a bundle that the guest gets.
pub const FILES: &str = "files";

/// What is known about the tests of a tree without building them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Index {
    /// Maps a test to the file that defines it.
    pub tests: BTreeMap<String, String>,
    files: BTreeMap<String, FileInfo>,
    all: Needs,
    light_lists: BTreeMap<String, Vec<String>>,
    /// Skeletons of other directories, which the makefile builds whether a test needs them or not.
    skeletons: BTreeMap<String, Vec<String>>,
    /// The tree's deny lists for this machine.
    pub deny: Vec<Denied>,
    /// Options that the tree's own `config` files set: option to value, the last one wins.
    pub options: DotConfig,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct FileInfo {
    needs: Needs,
    measures: bool,
}

impl Index {
    /// Indexes the tests of a tree, once for each state of it.
    ///
    /// # Errors
    /// Class `SuiteBuild` if the tree has none.
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

    /// `top` is untrusted: no link in it is followed.
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

    /// The tests to choose from.
    pub fn offer<'a>(&'a self, measures: &'a dyn Fn(&str) -> bool) -> Offer<'a> {
        Offer { tests: &self.tests, measures, deny: &self.deny }
    }

    /// Whether the tests of a file have benchmark subtests.
    pub fn measures(&self, file: &str) -> bool {
        self.files.get(file).is_some_and(|info| info.measures)
    }

    /// Whether one of these tests mentions a test module.
    pub fn wants_modules(&self, chosen: &[Chosen]) -> bool {
        chosen.iter().any(|test| self.files.get(&test.file).is_some_and(|info| info.needs.modules))
    }

    /// Options of the tree's own configuration that a kernel has with another value or not at all: option,
    /// wanted value, actual value.
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
    /// Lines that belong to that error.
    pub detail: Vec<String>,
}

/// A built `test_progs`.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub dir: PathBuf,
    /// Hash of everything that went into it.
    pub key: Key,
    /// Tests that were left out, and why.
    pub broken: Vec<Broken>,
}

/// The inputs of a bundle.
#[derive(Debug, Clone, Copy)]
pub struct Ingredients<'a> {
    pub tree: &'a PatchedTree,
    pub index: &'a Index,
    /// Directory with `vmlinux` and, if the kernel supports modules, `modules/`.
    pub kernel: &'a Path,
    /// The key of that kernel.
    pub kernel_key: &'a Key,
    pub tools: &'a Tools,
    pub make: Make,
    /// Where the output of make is stored.
    pub log_dir: &'a Path,
}

/// Builds `test_progs` with these tests, or takes it from the cache. A bundle with tests left out is always
/// tried again, because the host may have been the reason.
///
/// # Errors
/// Class `SuiteBuild` with the compiler's first error, if no test can be built.
pub fn ensure(ctx: &Context, from: Ingredients<'_>, chosen: &[Chosen]) -> Result<Bundle> {
    let files: BTreeSet<&str> = chosen.iter().map(|test| test.file.as_str()).collect();
    // Its makefiles use the objects of suite-base and the kernel, which belong to the origin of the tree.
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

/// Starts a key with the origin of a tree, unless that is the project.
fn whose(key: KeyBuilder, tree: &PatchedTree) -> KeyBuilder {
    match tree.origin() {
        Some(origin) => key.field("origin", origin.as_str()),
        None => key,
    }
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
