// SPDX-License-Identifier: MIT OR Apache-2.0
//! One column of the matrix from spec to cells: fetch, patch, configure, build, boot, judge. Joins the stages.
//!
//! A column that fails is its cells' outcome and no error: the others go on.

mod attempts;
mod foreign;
mod program;
mod upstream;

use std::path::{Path, PathBuf};

use crate::kernel::patched::PatchedTree;
use vmtest_protocol::TestName;

use self::attempts::{Attempts, Guest, Joins};
use crate::context::Context;
use crate::dotconfig::DotConfig;
use crate::error::{Class, Error, Result};
use crate::files::{read_text, write_file};
use crate::guest::Stream;
use crate::kernel::build::{self, ConfiguredTree, Recipe};
use crate::kernel::series::Series;
use crate::kernel::source::{Fetched, Prebuilt, SourceTree};
use crate::kernel::variant::{self, Variant};
use crate::kernel::{bpftool, build_id};
use crate::key::Key;
use crate::launch::{self, boot_with_fallback};
use crate::plan::{Unit, Upto};
use crate::prepare::Configuration;
use crate::replay::Brief;
use crate::request::{BootChoice, Purpose};
use crate::result::{
    self, BootRecord, Cell, CellBase, ConditionRecord, Kernel, RunResult, SplatRecord, Terms, Verdict,
};
use crate::shop::Shop;
use crate::vm::accel::{Accel, Kind};
use crate::vm::console::Scanner;
use crate::vm::machine::Machine;
use crate::vm::session::{Limits, Observed};
use crate::vm::{Boot, Task};
use crate::workdir::RunDir;
use crate::{conditions, decode, interrupt, stored};

/// A series that changes something below it is judged by tests of its own.
const TESTS_OF_THE_TREE: &str = "tools/testing/selftests/bpf/";

/// A kernel that can boot, with all that its boot depends on.
#[derive(Debug)]
pub struct Bootable {
    /// For the record.
    pub kernel: Kernel,
    /// Directory of the kernel file.
    pub dir: PathBuf,
    /// Its name there.
    pub file: String,
    /// `None` for a kernel that was not built here.
    pub variant: Option<Variant>,
    /// Its configuration; `None` where it is unknown.
    config: Option<DotConfig>,
    /// The bpftool of its tree.
    pub bpftool: Bpftool,
    /// Its tree and its key; `None` for a kernel that was not built here.
    tree: Option<(PatchedTree, Key)>,
}

/// Whether a guest can be offered the bpftool of the tree under test.
#[derive(Debug)]
pub enum Bpftool {
    /// It is in this directory.
    In(PathBuf),
    /// Nothing is wrong, and there is none, for this reason. What would use it is not run and not required.
    None(String),
    /// It should be there.
    Failed(Error),
}

impl Bootable {
    /// Whether its source went away: it was damaged, or somebody pruned it.
    fn source_is_gone(&self) -> bool {
        self.source().is_some_and(|dir| dir.symlink_metadata().is_err())
    }

    /// Key of everything that its kernel was made of, its origin included; of a finished kernel that of its image.
    pub fn made_of(&self) -> &str {
        self.tree.as_ref().map_or(&self.kernel.key, |(_, key)| key.as_str())
    }

    /// Its source, without the series; `None` for a kernel that was not built here.
    pub fn source(&self) -> Option<&Path> {
        self.tree.as_ref().map(|(tree, _)| tree.source().dir.as_path())
    }

    /// Leaves its configuration beside what its guest said, for comparisons of runs.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn keep_config(&self, store: &Path) -> Result<()> {
        let Some(config) = &self.config else { return Ok(()) };
        let lines = config.iter().map(|(option, value)| format!("CONFIG_{option}={value}\n"));
        write_file(&store.join(stored::CONFIG), lines.collect::<String>())
    }

    /// Limits of a guest with this kernel.
    pub fn limits(&self, shop: &Shop<'_>, accel: Kind) -> Limits {
        shop.plan.limits(accel, self.variant.as_ref().map_or(1, |variant| variant.slowdown))
    }
}

/// What a column came to.
#[derive(Debug)]
pub struct UnitResult {
    /// The column.
    pub kernel: Kernel,
    /// The boot; `None` when it never came to one.
    pub boot: Option<BootRecord>,
    /// The boots of further attempts.
    pub again: Vec<BootRecord>,
    /// Its cells.
    pub cells: Vec<Cell>,
    /// What the kernel complained of.
    pub splats: Vec<SplatRecord>,
}

impl UnitResult {
    /// Puts it into the record of a run.
    pub fn add_to(self, result: &mut RunResult) {
        let UnitResult { kernel, boot, again, cells, splats } = self;
        if !result.kernels.contains(&kernel) {
            result.kernels.push(kernel);
        }
        result.boots.extend(boot.into_iter().chain(again));
        result.cells.extend(cells);
        result.splats.extend(splats);
    }
}

/// What all columns of one kernel begin with.
#[derive(Debug)]
pub enum Material {
    /// Source, and the whole series for it.
    Source(SourceTree, Option<Series>),
    /// A kernel that needs no build.
    Prebuilt(Prebuilt),
}

impl Material {
    /// Whether its source is not in the cache any more.
    fn is_gone(&self) -> bool {
        matches!(self, Material::Source(tree, _) if tree.dir.symlink_metadata().is_err())
    }
}

/// Fetches a kernel and reads its series.
///
/// # Errors
/// When it cannot be had, or a range of commits is no series.
pub fn material(shop: &Shop<'_>, unit: &Unit) -> Result<Material> {
    let (mut tree, series) = match shop.prepared.fetch(shop.ctx, &unit.spec)? {
        Fetched::Prebuilt(prebuilt) => return Ok(Material::Prebuilt(prebuilt)),
        Fetched::Source(tree) => (tree, shop.series.cloned()),
        Fetched::Range { base, series } => (
            base,
            Some(match shop.series {
                Some(more) => series.and(more),
                None => series,
            }),
        ),
    };
    if let Some(label) = &unit.label {
        tree.id.clone_from(label);
    }
    Ok(Material::Source(tree, series))
}

/// A column as far as it comes without make: what its kernel is made of, or why there is nothing.
#[derive(Debug)]
pub struct Unbuilt {
    kernel: Kernel,
    from: Result<From>,
}

#[derive(Debug)]
enum From {
    /// Source with its patches.
    Tree(PatchedTree),
    /// A kernel that needs no build.
    Prebuilt(Prebuilt),
}

impl Unbuilt {
    /// For the record.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Its source with its patches; `None` for a finished kernel.
    ///
    /// # Errors
    /// Why there is none.
    pub fn tree(&self) -> Result<Option<&PatchedTree>> {
        match &self.from {
            Ok(From::Tree(tree)) => Ok(Some(tree)),
            Ok(From::Prebuilt(_)) => Ok(None),
            Err(error) => Err(error.clone()),
        }
    }

    /// Directory of its source; `None` where there is none.
    fn source(&self) -> Option<PathBuf> {
        self.tree().ok().flatten().map(|tree| tree.source().dir.clone())
    }
}

/// Puts the patches of a column on its source.
pub fn patch(shop: &Shop<'_>, unit: &Unit, material: &Result<Material>) -> Unbuilt {
    let id = early_id(shop, unit);
    let mut kernel = Kernel { id, spec: unit.spec.to_string(), role: unit.role, ..Kernel::default() };
    let from = match material {
        Ok(material) => match patched(shop, unit, material, &mut kernel) {
            // It was found to be damaged on the way, or somebody pruned it.
            Err(_) if material.is_gone() => {
                self::material(shop, unit).and_then(|material| patched(shop, unit, &material, &mut kernel))
            }
            done => done,
        },
        Err(error) => Err(error.clone()),
    };
    Unbuilt { kernel, from }
}

/// A column whose kernel was made, or why not.
#[derive(Debug)]
pub struct Built {
    kernel: Kernel,
    bootable: Result<Bootable>,
}

impl Built {
    /// For the record.
    pub fn kernel(&self) -> &Kernel {
        self.bootable.as_ref().map_or(&self.kernel, |bootable| &bootable.kernel)
    }

    /// Stands for everything of a guest that is made for this kernel: itself, with its origin, and the bpftool that it is
    /// offered. `None` where there is no kernel.
    pub fn made_of(&self) -> Option<Key> {
        let bootable = self.bootable.as_ref().ok()?;
        let key = Key::of("bootable 1").field("kernel", bootable.made_of());
        let key = match &bootable.bpftool {
            Bpftool::In(dir) => key.field("bpftool", dir.file_name().unwrap_or_default().as_encoded_bytes()),
            Bpftool::None(why) => key.field("no bpftool", why),
            Bpftool::Failed(error) => key.field("bpftool failed", error.to_string()),
        };
        Some(key.finish())
    }

    /// Why there is none.
    pub fn error(&self) -> Option<&Error> {
        self.bootable.as_ref().err()
    }

    /// The kernel.
    ///
    /// # Errors
    /// Why there is none.
    pub fn bootable(self) -> Result<Bootable> {
        self.bootable
    }
}

/// Makes the kernel of a column.
pub fn build(shop: &Shop<'_>, unit: &Unit, unbuilt: Unbuilt, run_dir: &RunDir) -> Built {
    let gone = unbuilt.source();
    let built = make(shop, unit, unbuilt, run_dir);
    if built.bootable.is_ok() || gone.is_none_or(|dir| dir.symlink_metadata().is_ok()) {
        return built;
    }
    // It was found to be damaged on the way, or somebody pruned it.
    match material(shop, unit) {
        Ok(material) => make(shop, unit, patch(shop, unit, &Ok(material)), run_dir),
        Err(error) => Built { bootable: Err(error), ..built },
    }
}

/// The record of the kernel is filled as far as it comes.
fn make(shop: &Shop<'_>, unit: &Unit, unbuilt: Unbuilt, run_dir: &RunDir) -> Built {
    let Unbuilt { mut kernel, from } = unbuilt;
    let bootable = from.and_then(|from| match from {
        From::Tree(tree) => built_kernel(shop, unit, tree, run_dir, &mut kernel),
        From::Prebuilt(prebuilt) => finished_kernel(shop, prebuilt, unit, run_dir, &mut kernel),
    });
    Built { kernel, bootable }
}

/// Name of a column before anything of it is known; no two of a run are the same.
fn early_id(shop: &Shop<'_>, unit: &Unit) -> String {
    let series = shop.series.filter(|_| unit.spec.has_source());
    let series = series.map(|series| format!("+{}", series.name)).unwrap_or_default();
    let step = match unit.upto {
        Upto::All => String::new(),
        Upto::First { count, of } => format!("@{count}/{of}"),
    };
    let more = unit.on_top.as_ref().map(|more| format!("+{}", more.name)).unwrap_or_default();
    format!("{}{series}{step}{more}", unit.label.clone().unwrap_or_else(|| unit.spec.to_string()))
}

/// Boots the kernel of a column once for each suite, and judges it.
pub fn boot(shop: &Shop<'_>, unit: &Unit, built: &Built, run_dir: &RunDir) -> Vec<UnitResult> {
    let mut results = Vec::new();
    // Where nothing was chosen of the own suite, the other one was meant.
    if shop.plan.own && !shop.runner().is_ok_and(|(_, chosen)| chosen.is_empty()) {
        results.push(boot_own(shop, unit, built, run_dir));
    }
    if let Some(wanted) = shop.plan.upstream {
        results.push(upstream::boot(shop, unit, built, wanted, run_dir));
    }
    for program in shop.programs {
        results.push(program::boot(shop, unit, built, program, run_dir));
    }
    results
}

fn boot_own(shop: &Shop<'_>, unit: &Unit, built: &Built, run_dir: &RunDir) -> UnitResult {
    let kernel = built.kernel.clone();
    let base = |kernel: &Kernel, boot: &str| CellBase {
        kernel: kernel.id.clone(),
        variant: unit.variant.clone().unwrap_or_default(),
        boot: boot.to_owned(),
        accel: shop.accel.kind.name().to_owned(),
        suite: "own".into(),
        enforced: None,
    };
    let failed = |kernel: Kernel, boot: &str, error: &Error| {
        shop.bad();
        let planned = shop.runner().map(|(_, chosen)| chosen.to_vec()).unwrap_or_default();
        let mut cells = result::notrun(&base(&kernel, boot), &planned, error.class, &error.to_string());
        if cells.is_empty() {
            // Without a runner nobody knows the subtests; the column must not vanish with them.
            let whole = TestName { test: "suite".to_owned(), subtest: "all".to_owned() };
            cells = result::notrun(&base(&kernel, boot), &[whole], error.class, &error.to_string());
        }
        UnitResult { kernel, boot: None, again: Vec::new(), cells, splats: Vec::new() }
    };
    let bootable = match &built.bootable {
        Ok(bootable) => bootable,
        Err(error) => return failed(kernel, "", error),
    };
    let (boot, boot_reason) = choose_boot(shop.plan.boot, bootable);
    match test(shop, unit, bootable, boot, boot_reason, run_dir, &base(&kernel, boot.name())) {
        Ok(done) => done,
        Err(error) => failed(kernel, boot.name(), &error),
    }
}

fn built_kernel(
    shop: &Shop<'_>,
    unit: &Unit,
    tree: PatchedTree,
    run_dir: &RunDir,
    kernel: &mut Kernel,
) -> Result<Bootable> {
    let Configuration { variant, requests } = shop.prepared.configuration(unit.variant.as_deref())?;
    kernel.toolchain = variant.compiler.name().to_owned();
    let recipe = Recipe { variant, requests, tools: shop.tools()?, make: shop.plan.make };
    let built = match build::cached(shop.ctx, &tree, &recipe)? {
        Some(built) => built,
        None => {
            let _one = shop.make();
            let log_dir = run_dir.dir(&format!("builds/{}", build::identity(&tree, &recipe)))?;
            ConfiguredTree::configure(shop.ctx, &tree, &recipe, &log_dir)?.build(shop.ctx, &log_dir)?
        }
    };
    if built.cached {
        shop.ctx.bus.phase("build", variant::called(&built.id, Some(&variant.name), &[])).cached();
    }
    kernel.key = built.identity.to_string();
    kernel.release.clone_from(&built.release);
    kernel.build_id = build_id::of_file(&built.dir.join("vmlinux"))?.ok_or_else(|| {
        Error::new(Class::KernelBuild, format!("{} builds without a build id", built.id))
            .why("vmlinux has no note with one, so no guest can show that it runs this kernel")
            .next("the kernel's Makefile passes --build-id=sha1 to the linker: see what became of that")
    })?;
    let config = crate::dotconfig::parse(&read_text(&built.dir.join("config"))?);
    // After the kernel, which has a verdict without it.
    let bpftool = match build_bpftool(shop, &tree, run_dir, &built.identity) {
        Ok(bpftool) => bpftool,
        // Of the source, which is fetched again.
        Err(error) if tree.source().dir.symlink_metadata().is_err() => return Err(error),
        Err(error) => Bpftool::Failed(error),
    };
    Ok(Bootable {
        kernel: kernel.clone(),
        dir: built.dir.clone(),
        file: "vmlinux".to_owned(),
        variant: Some(variant.clone()),
        config: Some(config),
        bpftool,
        tree: Some((tree, built.key)),
    })
}

const NO_LIBRARIES: &str =
    "the host's tools make a bpftool that needs the host's libraries: boot through vng";

const NOT_USED: &str = "no subtest that uses it was chosen";

fn uses_bpftool(shop: &Shop<'_>) -> Result<bool> {
    let (runner, chosen) = shop.runner()?;
    let runs_tests = matches!(shop.plan.purpose, Purpose::Test | Purpose::Gdb);
    Ok(runs_tests && chosen.iter().any(|name| runner.uses_bpftool(name)))
}

/// Of the newest tree in the run, for a kernel that brings none.
fn borrowed_bpftool(shop: &Shop<'_>, run_dir: &RunDir, kernel: &Key) -> Result<Bpftool> {
    if !uses_bpftool(shop)? {
        return Ok(Bpftool::None(NOT_USED.to_owned()));
    }
    match shop.lenders.newest() {
        Some(tree) => build_bpftool(shop, &tree, run_dir, kernel),
        None => Ok(Bpftool::None(
            "a finished kernel brings no tree to build bpftool from, and no tree of this run knows sessions"
                .to_owned(),
        )),
    }
}

/// Only if a subtest that uses it was chosen, and the guest can run it.
fn build_bpftool(shop: &Shop<'_>, tree: &PatchedTree, run_dir: &RunDir, kernel: &Key) -> Result<Bpftool> {
    if !uses_bpftool(shop)? {
        return Ok(Bpftool::None(NOT_USED.to_owned()));
    }
    if shop.plan.boot == BootChoice::Direct && !bpftool::is_static(shop.tools()?) {
        return Ok(Bpftool::None(NO_LIBRARIES.to_owned()));
    }
    let log_dir = run_dir.dir(&format!("builds/{kernel}"))?;
    bpftool::ensure(shop.ctx, tree, shop.tools()?, shop.plan.make, &log_dir).map(Bpftool::In)
}

/// What a column is made of. `kernel` gets what is known of it.
fn patched(shop: &Shop<'_>, unit: &Unit, material: &Material, kernel: &mut Kernel) -> Result<From> {
    let (tree, series) = match material {
        Material::Prebuilt(prebuilt) => return Ok(From::Prebuilt(prebuilt.clone())),
        Material::Source(tree, series) => (tree.clone(), series.as_ref()),
    };
    let series = match unit.upto {
        Upto::All => series.cloned(),
        Upto::First { count, .. } => series.and_then(|series| series.first(count)),
    };
    let series = match (series, &unit.on_top) {
        (Some(series), Some(more)) => Some(series.and(more)),
        (None, Some(more)) => Some(Series::clone(more)),
        (series, None) => series,
    };
    kernel.id.clone_from(&tree.id);
    kernel.key = tree.key.to_string();
    apply(shop.ctx, tree, series, kernel).map(From::Tree)
}

fn apply(
    ctx: &Context,
    tree: SourceTree,
    series: Option<Series>,
    kernel: &mut Kernel,
) -> Result<PatchedTree> {
    let Some(series) = series else {
        return Ok(PatchedTree::unpatched(tree));
    };
    kernel.id = format!("{}+{}", tree.id, series.name);
    kernel.series = series.patches.iter().map(|patch| patch.subject.clone()).collect();
    kernel.tests_changed = series.files_below(TESTS_OF_THE_TREE);
    kernel.notes = series.loud().map(str::to_owned).collect();
    PatchedTree::patched(ctx, tree, &series)
}

fn finished_kernel(
    shop: &Shop<'_>,
    prebuilt: Prebuilt,
    unit: &Unit,
    run_dir: &RunDir,
    kernel: &mut Kernel,
) -> Result<Bootable> {
    let Prebuilt { id, image, config, release, key } = prebuilt;
    kernel.id = unit.label.clone().unwrap_or(id);
    kernel.key = key.to_string();
    kernel.release = release.unwrap_or_default();
    kernel.build_id = build_id::of_file(&image)?.unwrap_or_default();
    let (Some(dir), Some(file)) = (image.parent(), image.file_name()) else {
        return Err(Error::host(format!("{} is no file", image.display())));
    };
    let (dir, file) = (dir.to_owned(), file.to_string_lossy().into_owned());
    let config = config.map(|path| read_text(&path)).transpose()?.map(|text| crate::dotconfig::parse(&text));
    let bpftool = borrowed_bpftool(shop, run_dir, &key).unwrap_or_else(Bpftool::Failed);
    Ok(Bootable { kernel: kernel.clone(), dir, file, variant: None, config, bpftool, tree: None })
}

/// vng for what we build, direct for what cannot mount its root; the reason goes into the record.
pub fn choose_boot(asked: BootChoice, bootable: &Bootable) -> (Boot, String) {
    match asked {
        BootChoice::Vng => (Boot::Vng, "asked for".to_owned()),
        BootChoice::Direct => (Boot::Direct, "asked for".to_owned()),
        BootChoice::Auto => match &bootable.config {
            None => (Boot::Direct, "a finished kernel need not have 9p and overlayfs built in".to_owned()),
            Some(config) => {
                let needed = ["NET_9P_VIRTIO", "9P_FS", "OVERLAY_FS", "VIRTIO_CONSOLE", "VIRTIO_PCI"];
                let missing: Vec<&str> = needed
                    .into_iter()
                    .filter(|option| config.get(*option).map(String::as_str) != Some("y"))
                    .collect();
                if missing.is_empty() {
                    (Boot::Vng, "built here with 9p and overlayfs".to_owned())
                } else {
                    (Boot::Direct, format!("its configuration lacks {}", missing.join(", ")))
                }
            }
        },
    }
}

fn test(
    shop: &Shop<'_>,
    unit: &Unit,
    bootable: &Bootable,
    boot: Boot,
    boot_reason: String,
    run_dir: &RunDir,
    base: &CellBase,
) -> Result<UnitResult> {
    let (runner, chosen) = shop.runner()?;
    let runs_there = boot == Boot::Vng || bpftool::is_static(shop.tools()?);
    let offered = matches!(bootable.bpftool, Bpftool::In(_)) && runs_there;
    let (planned, without): (Vec<TestName>, Vec<TestName>) =
        chosen.iter().cloned().partition(|name| offered || !runner.uses_bpftool(name));
    let (planned, without) = (&planned[..], without_bpftool(base, bootable, &without, planned.is_empty()));
    if planned.is_empty() {
        shop.bad();
        return Ok(UnitResult {
            kernel: bootable.kernel.clone(),
            boot: None,
            again: Vec::new(),
            cells: without,
            splats: Vec::new(),
        });
    }
    shop.tools()?;
    if boot == Boot::Vng {
        shop.vng()?;
    }
    let _guest = shop.guest(launch::demand(shop, bootable, boot)?)?;
    // What was chosen, not what is planned: the guest leaves out by itself what it has no bpftool for.
    let effort = shop.plan.effort;
    let (names, places) = runner.ask_for(chosen, effort);
    let repeat = shop.plan.repeat;
    let rounds = repeat.rounds(chosen.len())?;
    let time = repeat.time(bootable.limits(shop, shop.accel.kind).run);
    let until_fail = repeat.until_fail.then_some(time);
    let task = Task::Tests { names, places, effort, self_test: unit.self_test, rounds, until_fail };
    let name = cell_directory(&bootable.kernel.id, unit.variant.as_deref(), boot);
    let how = How { shop, bootable, boot, boot_reason: &boot_reason, base };
    let store = run_dir.dir(&format!("cells/{name}"))?;
    let mut attempts = Attempts::new(how.run(task, planned, (&store, format!("cells/{name}")), None)?);
    attempts.again(shop, unit, Joins::Cells, Some(planned), |lost, attempt| {
        let parts = runner.in_parts(lost).into_iter().enumerate();
        parts
            .map(|(part, names)| {
                let (sent, places) = runner.ask_for(&names, effort);
                let self_test = unit.self_test;
                let task =
                    Task::Tests { names: sent, places, effort, self_test, rounds: 1, until_fail: None };
                let part = if part == 0 { String::new() } else { format!("-{}", part + 1) };
                let below = format!("cells/{name}-attempt-{attempt}{part}");
                how.run(task, &names, (&run_dir.dir(&below)?, below), Some(attempt))
            })
            .collect()
    });
    Ok(attempts.finish(shop, unit, without))
}

/// What a guest came to as a whole.
fn class_of(record: &BootRecord) -> Class {
    Class::from_code(record.class).unwrap_or(Class::Host)
}

/// How the guests of a column are started and judged.
struct How<'a> {
    shop: &'a Shop<'a>,
    bootable: &'a Bootable,
    boot: Boot,
    boot_reason: &'a str,
    base: &'a CellBase,
}

impl How<'_> {
    /// Boots once and judges.
    fn run(
        &self,
        task: Task,
        planned: &[TestName],
        (store, below): (&Path, String),
        attempt: Option<u32>,
    ) -> Result<Guest> {
        let How { shop, bootable, boot, boot_reason, base } = *self;
        let (rounds, wanted) = match (&task, attempt) {
            (Task::Tests { rounds, .. }, None) => (*rounds, shop.plan.repeat.wanted()),
            _ => (1, result::Rounds::Exactly(1)),
        };
        let machine = launch::machine(shop, boot)?;
        let phase =
            shop.ctx.bus.phase("boot", variant::called(&base.kernel, Some(&base.variant), &[boot.name()]));
        let total = planned.len() as u64 * u64::from(rounds);
        let watch = |stream: &Stream, _: &Scanner| {
            let now = stream.running.as_ref().map(TestName::path).unwrap_or_default();
            phase.progress(stream.ended.len() as u64, total, now);
        };
        let (seen, accel) = boot_with_fallback(shop, bootable, boot, task, store, watch)?;
        let emulator = machine.risky_emulator(accel.kind);
        let terms = terms(shop, bootable, emulator.as_deref());
        let may_skip = |name: &TestName| shop.plan.may_skip(&bootable.kernel.id, name);
        if let Err(error) = Brief::of(&seen, &terms, planned, wanted, &may_skip).leave(store) {
            // What was seen of the guest is worth more.
            shop.ctx.bus.warn(format!(
                "{}: it cannot be judged again: {}",
                bootable.kernel.id,
                error.summary()
            ));
        }
        let (verdict, conditions) = judge_as_variant(shop, bootable, &machine, accel.kind, &seen);
        check_cpus(shop, bootable, &machine, &seen);
        let enforced = conditions::enforced(&conditions);
        let base = CellBase { accel: accel.kind.name().to_owned(), enforced, ..base.clone() };
        let id = &bootable.kernel.id;
        let cells =
            result::cells(&base, planned, &seen, &verdict, wanted, &|name| shop.plan.may_skip(id, name));
        let mut kernel = bootable.kernel.clone();
        if let Some(hello) = &seen.stream.hello {
            kernel.release.clone_from(&hello.release);
        }
        let limits = bootable.limits(shop, accel.kind);
        let why = (boot_reason.to_owned(), accel, machine);
        let record = BootRecord { attempt, conditions, ..record(limits, &base, &verdict, &seen, why, below) };
        phase.finish();
        let mut splats = splats(shop, bootable, &base, &seen);
        splats.iter_mut().for_each(|splat| splat.attempt = attempt);
        Ok(Guest { kernel, record, cells, splats })
    }
}

/// Judges what was seen of a guest.
pub fn judge(
    shop: &Shop<'_>,
    bootable: &Bootable,
    machine: &Machine,
    accel: Kind,
    seen: &Observed,
) -> Verdict {
    let emulator = machine.risky_emulator(accel);
    result::judge_boot(seen, &terms(shop, bootable, emulator.as_deref()))
}

/// What guests of this kernel are judged by.
fn terms<'a>(shop: &'a Shop<'_>, bootable: &'a Bootable, emulator: Option<&'a str>) -> Terms<'a> {
    let Kernel { release, build_id, .. } = &bootable.kernel;
    Terms { release, build_id, allowed: &shop.allowed, emulator }
}

/// The same, and whether it is what its variant is about: nothing is known of one that never spoke.
fn judge_as_variant(
    shop: &Shop<'_>,
    bootable: &Bootable,
    machine: &Machine,
    accel: Kind,
    seen: &Observed,
) -> (Verdict, Vec<ConditionRecord>) {
    let verdict = judge(shop, bootable, machine, accel, seen);
    let found = match (&bootable.variant, &seen.stream.hello) {
        (Some(variant), Some(hello)) => conditions::check(&variant.conditions, &hello.features),
        _ => Vec::new(),
    };
    let verdict = conditions::judge(&found, verdict);
    for one in found.iter().filter(|one| !one.enforced && !one.must) {
        shop.ctx.bus.note(format!(
            "{}: not enforced here: {} ({} is {:?}); what passes says nothing about that",
            bootable.kernel.id, one.what, one.read, one.value
        ));
    }
    (verdict, found)
}

/// Cells of what uses bpftool where the guest has none. They count where it should be there, and where nothing else was
/// asked for: a column without any evidence is no pass.
fn without_bpftool(base: &CellBase, bootable: &Bootable, names: &[TestName], alone: bool) -> Vec<Cell> {
    let (class, reason) = match &bootable.bpftool {
        Bpftool::In(_) => (Class::Pass, NO_LIBRARIES.to_owned()),
        Bpftool::None(reason) => (Class::Pass, reason.clone()),
        Bpftool::Failed(error) => (error.class, error.to_string()),
    };
    let class = if alone && class == Class::Pass { Class::Incomplete } else { class };
    let mut cells = result::notrun(base, names, class, &reason);
    cells.iter_mut().for_each(|cell| cell.required = class != Class::Pass);
    cells
}

/// Tests of concurrency on one CPU prove little: a guest that sees fewer than it was given is said.
fn check_cpus(shop: &Shop<'_>, bootable: &Bootable, machine: &Machine, seen: &Observed) {
    let given = machine.cpus;
    if let Some(hello) = seen.stream.hello.as_ref().filter(|hello| hello.cpus != given) {
        shop.ctx.bus.warn(format!("{}: the guest sees {} CPUs of {given}", bootable.kernel.id, hello.cpus));
    }
}

/// A directory name for a boot: ids hold colons and slashes, which archives and some file systems refuse.
fn cell_directory(id: &str, variant: Option<&str>, boot: Boot) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.+".contains(c) { c } else { '_' };
    let id: String = id.chars().map(plain).collect();
    // Two ids may become one name; the key of the original keeps them apart.
    let short = Key::of("cell").field("id", &id).field("variant", variant.unwrap_or("")).finish();
    format!(
        "{}-{}-{}-{}",
        id.trim_start_matches('.'),
        variant.unwrap_or("image"),
        boot.name(),
        &short.as_str()[..4]
    )
}

fn record(
    limits: Limits,
    base: &CellBase,
    verdict: &Verdict,
    seen: &Observed,
    (boot_reason, accel, machine): (String, Accel, Machine),
    directory: String,
) -> BootRecord {
    let emulated = accel.kind == Kind::Tcg;
    let limits = [
        ("first-byte", limits.first_byte),
        ("boot", limits.boot),
        ("idle", limits.idle),
        ("run", limits.run),
        ("shutdown", limits.shutdown),
    ];
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let hello = seen.stream.hello.as_ref();
    BootRecord {
        kernel: base.kernel.clone(),
        variant: base.variant.clone(),
        suite: base.suite.to_owned(),
        boot: base.boot.clone(),
        boot_reason,
        accel: base.accel.clone(),
        accel_reason: accel.reason,
        cpus: machine.cpus,
        cpus_reason: machine.cpus_reason,
        tcg_thread: emulated.then(|| machine.tcg_thread.to_owned()),
        tcg_thread_reason: emulated.then_some(machine.tcg_thread_reason),
        limits_s: limits.iter().map(|(name, limit)| ((*name).to_owned(), limit.as_secs())).collect(),
        build_id: hello.map(|hello| hello.build_id.clone()).unwrap_or_default(),
        features: hello.map(|hello| hello.features.clone()).unwrap_or_default(),
        profile: hello.map(|hello| hello.profile.clone()).unwrap_or_default(),
        conditions: Vec::new(),
        class: verdict.class.code(),
        reason: verdict.reason.clone(),
        booted_after_ms: seen.booted_after.map(millis),
        duration_ms: millis(seen.took),
        directory,
        console_tail: if verdict.class == Class::Pass { Vec::new() } else { seen.console.tail(15) },
        to_verdict_ms: millis(seen.to_verdict),
        before_kill: seen.before_kill.clone(),
        attempt: None,
        retried: false,
        expected: None,
    }
}

/// Stacks that are decoded of one guest; each takes seconds.
const MOST_STACKS: usize = 2;

fn splats(shop: &Shop<'_>, bootable: &Bootable, base: &CellBase, seen: &Observed) -> Vec<SplatRecord> {
    let make = |title: &str, during: String, severity: &str, lines: &[String]| SplatRecord {
        kernel: base.kernel.clone(),
        variant: base.variant.clone(),
        title: title.to_owned(),
        during,
        severity: severity.to_owned(),
        allowed: shop.allowed.allows(title).filter(|_| severity == "splat").map(str::to_owned),
        lines: lines.to_vec(),
        ..SplatRecord::default()
    };
    let death = seen.console.death().map(|hit| make(&hit.title, running(seen), "death", &hit.report));
    // The console shows what the runner tells of, too, and has the lines around it. The runner knows during which subtest.
    let on_console = |title: &str| seen.console.splats().find(|hit| hit.title == title);
    let told = seen.stream.splats.iter().map(|splat| {
        let lines = on_console(&splat.title).map(|hit| &hit.report[..]).unwrap_or_default();
        make(&splat.title, splat.name.path(), "splat", lines)
    });
    let silent =
        seen.console.splats().filter(|hit| !seen.stream.splats.iter().any(|splat| splat.title == hit.title));
    let shown = silent.map(|hit| make(&hit.title, hit.during.clone(), "splat", &hit.report));
    let taint = result::unexplained_taint(seen).map(|title| make(&title, String::new(), "splat", &[]));
    let mut splats: Vec<SplatRecord> = death.into_iter().chain(told).chain(shown).chain(taint).collect();
    let mut decoded = 0;
    let death = seen.console.death().map(|hit| hit.title.clone()).unwrap_or_default();
    for splat in splats.iter_mut().filter(|splat| !splat.lines.is_empty()) {
        if decoded == MOST_STACKS || interrupt::requested().is_some() {
            splat.no_stack = "only the first stacks of a guest are decoded".to_owned();
            continue;
        }
        if splat.severity != "death" && death.starts_with(&splat.title) {
            splat.no_stack = "it is that of the death".to_owned();
            continue;
        }
        match decode::stack(shop, bootable, &splat.lines) {
            Ok(stack) => {
                splat.stack = stack;
                decoded += 1;
            }
            Err(why) => splat.no_stack = why,
        }
    }
    splats
}

fn running(seen: &Observed) -> String {
    seen.stream.running.as_ref().map(TestName::path).unwrap_or_default()
}

#[cfg(test)]
mod tests;
