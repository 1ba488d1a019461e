// SPDX-License-Identifier: MIT OR Apache-2.0
//! One column of the matrix from spec to cells: fetch, patch, configure, build, boot, judge. Joins the stages.
//!
//! A column that fails is its cells' outcome and no error: the others go on.

mod attempts;
mod boot;
mod program;
mod upstream;

use std::path::PathBuf;

use vmtest_protocol::TestName;

use crate::bootable::{Bootable, Bpftool};
use crate::column::attempts::{Attempts, Joins};
use crate::column::boot::{BootRequest, Guests};
use crate::plan::{Unit, Upto};
use crate::prepare::Configuration;
use crate::request::{BootChoice, Purpose};
use crate::resources::Resources;
use crate::{launch, stacktrace};
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::read_text;
use vmtest_base::interrupt;
use vmtest_base::key::Key;
use vmtest_guest::judge::{CellBase, Rounds, SuiteInput, notrun};
use vmtest_guest::spec::{Boot, Task};
use vmtest_host::context::Context;
use vmtest_host::store::RunDir;
use vmtest_kernel::build::{self, ConfiguredTree, Recipe};
use vmtest_kernel::patched::PatchedTree;
use vmtest_kernel::series::Series;
use vmtest_kernel::source::{Fetched, Prebuilt, SourceTree};
use vmtest_kernel::{bpftool, build_id, variant};
pub use vmtest_record::column::ColumnResult;
use vmtest_record::run::{Cell, Kernel, SplatRecord};

/// A series that changes something below it is judged by tests of its own.
const TESTS_OF_THE_TREE: &str = "tools/testing/selftests/bpf/";

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
pub fn material(resources: &Resources<'_>, unit: &Unit) -> Result<Material> {
    let (mut tree, series) = match resources.prepared.fetch(resources.ctx, &unit.spec)? {
        Fetched::Prebuilt(prebuilt) => return Ok(Material::Prebuilt(prebuilt)),
        Fetched::Source(tree) => (tree, resources.series.cloned()),
        Fetched::Range { base, series } => (
            base,
            Some(match resources.series {
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
pub fn patch(resources: &Resources<'_>, unit: &Unit, material: &Result<Material>) -> Unbuilt {
    let id = early_id(resources, unit);
    let mut kernel = Kernel { id, spec: unit.spec.to_string(), role: unit.role, ..Kernel::default() };
    let from = match material {
        Ok(material) => match patched(resources, unit, material, &mut kernel) {
            // It was found to be damaged on the way, or somebody pruned it.
            Err(_) if material.is_gone() => self::material(resources, unit)
                .and_then(|material| patched(resources, unit, &material, &mut kernel)),
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
pub fn build(resources: &Resources<'_>, unit: &Unit, unbuilt: Unbuilt, run_dir: &RunDir) -> Built {
    let gone = unbuilt.source();
    let built = make(resources, unit, unbuilt, run_dir);
    if built.bootable.is_ok() || gone.is_none_or(|dir| dir.symlink_metadata().is_ok()) {
        return built;
    }
    // It was found to be damaged on the way, or somebody pruned it.
    match material(resources, unit) {
        Ok(material) => make(resources, unit, patch(resources, unit, &Ok(material)), run_dir),
        Err(error) => Built { bootable: Err(error), ..built },
    }
}

/// The record of the kernel is filled as far as it comes.
fn make(resources: &Resources<'_>, unit: &Unit, unbuilt: Unbuilt, run_dir: &RunDir) -> Built {
    let Unbuilt { mut kernel, from } = unbuilt;
    let bootable = from.and_then(|from| match from {
        From::Tree(tree) => built_kernel(resources, unit, tree, run_dir, &mut kernel),
        From::Prebuilt(prebuilt) => finished_kernel(resources, prebuilt, unit, run_dir, &mut kernel),
    });
    Built { kernel, bootable }
}

/// Name of a column before anything of it is known; no two of a run are the same.
fn early_id(resources: &Resources<'_>, unit: &Unit) -> String {
    let series = resources.series.filter(|_| unit.spec.has_source());
    let series = series.map(|series| format!("+{}", series.name)).unwrap_or_default();
    let step = match unit.upto {
        Upto::All => String::new(),
        Upto::First { count, of } => format!("@{count}/{of}"),
    };
    let more = unit.on_top.as_ref().map(|more| format!("+{}", more.name)).unwrap_or_default();
    format!("{}{series}{step}{more}", unit.label.clone().unwrap_or_else(|| unit.spec.to_string()))
}

/// Boots the kernel of a column once for each suite, and judges it.
pub fn boot(resources: &Resources<'_>, unit: &Unit, built: &Built, run_dir: &RunDir) -> Vec<ColumnResult> {
    let mut results = Vec::new();
    // Where nothing was chosen of the own suite, the other one was meant.
    if resources.plan.own && !resources.runner().is_ok_and(|(_, chosen)| chosen.is_empty()) {
        results.push(boot_own(resources, unit, built, run_dir));
    }
    if let Some(wanted) = resources.plan.upstream {
        results.push(upstream::boot(resources, unit, built, wanted, run_dir));
    }
    for program in resources.programs {
        results.push(program::boot(resources, unit, built, program, run_dir));
    }
    results
}

fn boot_own(resources: &Resources<'_>, unit: &Unit, built: &Built, run_dir: &RunDir) -> ColumnResult {
    let kernel = built.kernel.clone();
    let base = |kernel: &Kernel, how: &str| boot::base(resources, unit, &kernel.id, how, boot::OWN);
    let failed = |kernel: Kernel, boot: &str, error: &Error| {
        resources.bad();
        let planned = resources.runner().map(|(_, chosen)| chosen.to_vec()).unwrap_or_default();
        let mut cells = notrun(&base(&kernel, boot), &planned, error.class, &error.to_string());
        if cells.is_empty() {
            // Without a runner nobody knows the subtests; the column must not vanish with them.
            let whole = TestName { test: "suite".to_owned(), subtest: "all".to_owned() };
            cells = notrun(&base(&kernel, boot), &[whole], error.class, &error.to_string());
        }
        ColumnResult { kernel, boot: None, again: Vec::new(), cells, splats: Vec::new() }
    };
    let bootable = match &built.bootable {
        Ok(bootable) => bootable,
        Err(error) => return failed(kernel, "", error),
    };
    let (boot, boot_reason) = choose_boot(resources.plan.boot, bootable);
    match test(resources, unit, bootable, boot, boot_reason, run_dir, &base(&kernel, boot.name())) {
        Ok(done) => done,
        Err(error) => failed(kernel, boot.name(), &error),
    }
}

fn built_kernel(
    resources: &Resources<'_>,
    unit: &Unit,
    tree: PatchedTree,
    run_dir: &RunDir,
    kernel: &mut Kernel,
) -> Result<Bootable> {
    let Configuration { variant, requests } = resources.prepared.configuration(unit.variant.as_deref())?;
    kernel.toolchain = variant.compiler.name().to_owned();
    let recipe = Recipe { variant, requests, tools: resources.tools()?, make: resources.plan.make };
    let built = match build::cached(resources.ctx, &tree, &recipe)? {
        Some(built) => built,
        None => {
            let _one = resources.make();
            let log_dir = run_dir.dir(&format!("builds/{}", build::identity(&tree, &recipe)))?;
            ConfiguredTree::configure(resources.ctx, &tree, &recipe, &log_dir)?
                .build(resources.ctx, &log_dir)?
        }
    };
    if built.cached {
        resources.ctx.bus.phase("build", variant::called(&built.id, Some(&variant.name), &[])).cached();
    }
    kernel.key = built.identity.to_string();
    kernel.release.clone_from(&built.release);
    kernel.build_id = build_id::of_file(&built.dir.join("vmlinux"))?.ok_or_else(|| {
        Error::new(Class::KernelBuild, format!("{} builds without a build id", built.id))
            .why("vmlinux has no note with one, so no guest can show that it runs this kernel")
            .next("the kernel's Makefile passes --build-id=sha1 to the linker: see what became of that")
    })?;
    let config = vmtest_base::dotconfig::parse(&read_text(&built.dir.join("config"))?);
    // After the kernel, which has a verdict without it.
    let bpftool = match build_bpftool(resources, &tree, run_dir, &built.identity) {
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

fn uses_bpftool(resources: &Resources<'_>) -> Result<bool> {
    let (runner, chosen) = resources.runner()?;
    let runs_tests = matches!(resources.plan.purpose, Purpose::Test | Purpose::Gdb);
    Ok(runs_tests && chosen.iter().any(|name| runner.uses_bpftool(name)))
}

/// Of the newest tree in the run, for a kernel that brings none.
fn borrowed_bpftool(resources: &Resources<'_>, run_dir: &RunDir, kernel: &Key) -> Result<Bpftool> {
    if !uses_bpftool(resources)? {
        return Ok(Bpftool::None(NOT_USED.to_owned()));
    }
    match resources.donors.newest() {
        Some(tree) => build_bpftool(resources, &tree, run_dir, kernel),
        None => Ok(Bpftool::None(
            "a finished kernel brings no tree to build bpftool from, and no tree of this run knows sessions"
                .to_owned(),
        )),
    }
}

/// Only if a subtest that uses it was chosen, and the guest can run it.
fn build_bpftool(
    resources: &Resources<'_>,
    tree: &PatchedTree,
    run_dir: &RunDir,
    kernel: &Key,
) -> Result<Bpftool> {
    if !uses_bpftool(resources)? {
        return Ok(Bpftool::None(NOT_USED.to_owned()));
    }
    if resources.plan.boot == BootChoice::Direct && !bpftool::is_static(resources.tools()?) {
        return Ok(Bpftool::None(NO_LIBRARIES.to_owned()));
    }
    let log_dir = run_dir.dir(&format!("builds/{kernel}"))?;
    bpftool::ensure(resources.ctx, tree, resources.tools()?, resources.plan.make, &log_dir).map(Bpftool::In)
}

/// What a column is made of. `kernel` gets what is known of it.
fn patched(resources: &Resources<'_>, unit: &Unit, material: &Material, kernel: &mut Kernel) -> Result<From> {
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
    apply(resources.ctx, tree, series, kernel).map(From::Tree)
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
    resources: &Resources<'_>,
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
    let config =
        config.map(|path| read_text(&path)).transpose()?.map(|text| vmtest_base::dotconfig::parse(&text));
    let bpftool = borrowed_bpftool(resources, run_dir, &key).unwrap_or_else(Bpftool::Failed);
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
    resources: &Resources<'_>,
    unit: &Unit,
    bootable: &Bootable,
    boot: Boot,
    boot_reason: String,
    run_dir: &RunDir,
    base: &CellBase,
) -> Result<ColumnResult> {
    let (runner, chosen) = resources.runner()?;
    let runs_there = boot == Boot::Vng || bpftool::is_static(resources.tools()?);
    let offered = matches!(bootable.bpftool, Bpftool::In(_)) && runs_there;
    let (planned, without): (Vec<TestName>, Vec<TestName>) =
        chosen.iter().cloned().partition(|name| offered || !runner.uses_bpftool(name));
    let (planned, without) = (&planned[..], without_bpftool(base, bootable, &without, planned.is_empty()));
    if planned.is_empty() {
        resources.bad();
        return Ok(ColumnResult {
            kernel: bootable.kernel.clone(),
            boot: None,
            again: Vec::new(),
            cells: without,
            splats: Vec::new(),
        });
    }
    let guests = Guests::admit(resources, bootable, (boot, boot_reason), base.clone(), run_dir)?;
    // What was chosen, not what is planned: the guest leaves out by itself what it has no bpftool for.
    let effort = resources.plan.effort;
    let (names, places) = runner.ask_for(chosen, effort);
    let repeat = resources.plan.repeat;
    let rounds = repeat.rounds(chosen.len())?;
    let time = repeat.time(launch::limits(resources, bootable, resources.accel.kind).run);
    let until_fail = repeat.until_fail.then_some(time);
    let task = Task::Tests { names, places, effort, self_test: unit.self_test, rounds, until_fail };
    let expected = planned.len() as u64 * u64::from(rounds);
    let outcome = guests.boot(BootRequest { task, expected, attempt: None, part: 0 })?;
    let rounds = repeat.wanted();
    let mut attempts = Attempts::new(guests.judge(outcome, SuiteInput::Own { planned, rounds }));
    attempts.again(resources, unit, Joins::Cells, Some(planned), |lost, attempt| {
        let parts = runner.in_parts(lost).into_iter().enumerate();
        parts
            .map(|(part, planned)| {
                let (names, places) = runner.ask_for(&planned, effort);
                let self_test = unit.self_test;
                let task = Task::Tests { names, places, effort, self_test, rounds: 1, until_fail: None };
                let expected = planned.len() as u64;
                let outcome = guests.boot(BootRequest { task, expected, attempt: Some(attempt), part })?;
                let rounds = Rounds::Exactly(1);
                Ok(guests.judge(outcome, SuiteInput::Own { planned: &planned, rounds }))
            })
            .collect()
    });
    Ok(attempts.finish(resources, unit, without))
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
    let mut cells = notrun(base, names, class, &reason);
    cells.iter_mut().for_each(|cell| cell.required = class != Class::Pass);
    cells
}

/// A directory name for a boot: ids hold colons and slashes, which archives and some file systems refuse.
fn cell_directory(CellBase { kernel: id, variant, boot, .. }: &CellBase) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.+".contains(c) { c } else { '_' };
    let name: String = id.chars().map(plain).collect();
    // Two ids may become one name; the key of the original keeps them apart.
    let short = Key::of("cell").field("id", &name).field("variant", variant).finish();
    let variant = if variant.is_empty() { "image" } else { variant };
    format!("{}-{variant}-{boot}-{}", name.trim_start_matches('.'), &short.as_str()[..4])
}

/// Stacks that are decoded of one guest; each takes seconds.
const MAX_STACKS: usize = 2;

/// Gives the first splats their stacks, and the others the reason why they have none.
fn decode_stacks(resources: &Resources<'_>, bootable: &Bootable, splats: &mut [SplatRecord]) {
    let mut decoded = 0;
    let death = splats.iter().find(|splat| splat.severity == "death");
    let death = death.map(|splat| splat.title.clone()).unwrap_or_default();
    for splat in splats.iter_mut().filter(|splat| !splat.lines.is_empty()) {
        if decoded == MAX_STACKS || interrupt::requested().is_some() {
            splat.no_stack = "only the first stacks of a guest are decoded".to_owned();
            continue;
        }
        if splat.severity != "death" && death.starts_with(&splat.title) {
            splat.no_stack = "it is that of the death".to_owned();
            continue;
        }
        match stacktrace::stack(resources, bootable, &splat.lines) {
            Ok(stack) => {
                splat.stack = stack;
                decoded += 1;
            }
            Err(why) => splat.no_stack = why,
        }
    }
}

#[cfg(test)]
mod tests;
