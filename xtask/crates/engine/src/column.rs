// SPDX-License-Identifier: MIT OR Apache-2.0
//! One column of the matrix from spec to cells: fetch, patch, configure, build, boot, judge. Connects the
//! stages.
//!
//! If a column fails, that becomes the outcome of its cells, not an error: the other columns continue.

mod attempts;
mod boot;
mod bpftool;
mod own;
mod program;
mod upstream;

use std::path::{Path, PathBuf};

use crate::added_lines;
use crate::bootable::{Bootable, Bpftool};
pub use crate::column::upstream::warn_of_absent as warn_of_absent_tests;
use crate::plan::{Column, Upto};
use crate::prepare::Configuration;
use crate::request::BootChoice;
use crate::resources::Resources;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::read_text;
use vmtest_base::key::Key;
use vmtest_guest::judge::CellBase;
use vmtest_guest::spec::Boot;
use vmtest_host::context::Context;
use vmtest_host::store::RunDir;
use vmtest_kernel::build::{self, ConfiguredTree, Recipe};
use vmtest_kernel::patched::PatchedTree;
use vmtest_kernel::series::{Patch, Series};
use vmtest_kernel::source::{Fetched, Prebuilt, SourceTree};
use vmtest_kernel::{build_id, variant};
pub use vmtest_record::column::ColumnResult;
use vmtest_record::run::Kernel;
use vmtest_record::series::{Letter, PatchInfo};

/// A series that changes something in here changes the tests that judge it.
const TESTS_OF_THE_TREE: &str = "tools/testing/selftests/bpf/";

/// The input that all columns of one kernel share.
#[derive(Debug)]
pub enum Material {
    /// Source, and the whole series for it.
    Source(SourceTree, Option<Series>),
    /// A kernel that needs no build.
    Prebuilt(Prebuilt),
}

impl Material {
    /// Whether its source is no longer in the cache.
    fn is_gone(&self) -> bool {
        matches!(self, Material::Source(tree, _) if tree.dir.symlink_metadata().is_err())
    }
}

/// Fetches a kernel and reads its series.
///
/// # Errors
/// When it cannot be fetched, or a range of commits is not a series.
pub fn material(resources: &Resources<'_>, column: &Column) -> Result<Material> {
    let (mut tree, series) = match resources.prepared.fetch(resources.ctx, &column.spec)? {
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
    if let Some(label) = &column.label {
        tree.id.clone_from(label);
    }
    Ok(Material::Source(tree, series))
}

/// A column before make: what its kernel is built from, or why it cannot be built.
#[derive(Debug)]
pub struct Unbuilt {
    kernel: Kernel,
    /// The last patch on top of its source.
    patch: Option<Patch>,
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
    /// Its entry in the record.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Its source with its patches; `None` for a finished kernel.
    ///
    /// # Errors
    /// Why there is no source.
    pub fn tree(&self) -> Result<Option<&PatchedTree>> {
        match &self.from {
            Ok(From::Tree(tree)) => Ok(Some(tree)),
            Ok(From::Prebuilt(_)) => Ok(None),
            Err(error) => Err(error.clone()),
        }
    }

    /// The last patch on top of its source; `None` without a series.
    pub fn last_patch(&self) -> Option<&Patch> {
        self.patch.as_ref()
    }

    /// Whether its series does not apply.
    pub fn is_unpatchable(&self) -> bool {
        self.from.as_ref().is_err_and(|error| error.class == Class::SeriesDoesNotApply)
    }

    /// Whether its series may change the result of Kconfig.
    pub fn changes_config(&self) -> bool {
        self.tree().ok().flatten().is_some_and(build::series_changes_config)
    }

    /// The same column, which is not built because of another one.
    pub fn stopped(self, why: Error) -> Unbuilt {
        Unbuilt { from: self.from.and(Err(why)), ..self }
    }

    /// Whether its kernel is in the cache.
    ///
    /// # Errors
    /// Why there is no source, or no tools.
    pub fn is_built(&self, resources: &Resources<'_>, column: &Column) -> Result<bool> {
        let Some(tree) = self.tree()? else { return Ok(true) };
        Ok(build::is_cached(resources.ctx, tree, &recipe(resources, column)?))
    }

    /// Directory of its source; `None` without one.
    fn source(&self) -> Option<PathBuf> {
        self.tree().ok().flatten().map(|tree| tree.source().dir.clone())
    }
}

/// Applies the patches of a column to its source.
pub fn patch(resources: &Resources<'_>, column: &Column, material: &Result<Material>) -> Unbuilt {
    let id = early_id(resources, column);
    let (spec, state) = (column.spec.to_string(), resources.prepared.state(&column.spec));
    let mut kernel = Kernel { id, spec, state, role: column.role, ..Kernel::default() };
    let patch = match material {
        Ok(material) => series_of(column, material).and_then(|series| series.patches.last().cloned()),
        Err(_) => None,
    };
    let from = match material {
        Ok(material) => match patched(resources, column, material, &mut kernel) {
            // The source was found to be damaged, or was pruned in the meantime.
            Err(_) if material.is_gone() => self::material(resources, column)
                .and_then(|material| patched(resources, column, &material, &mut kernel)),
            done => done,
        },
        Err(error) => Err(error.clone()),
    };
    Unbuilt { kernel, patch, from }
}

/// Configures the kernel of a column ahead of its build. Only what would stop that build stops the column;
/// other errors are for the build, which may avoid them. `apart`: not where it will be built.
pub fn configure(
    resources: &Resources<'_>,
    column: &Column,
    mut unbuilt: Unbuilt,
    apart: bool,
    run_dir: &RunDir,
) -> Unbuilt {
    match configured(resources, column, &unbuilt, apart, run_dir) {
        Err(error) if matches!(error.class, Class::OptionLost | Class::KernelBuild) => {
            if let Ok(recipe) = recipe(resources, column) {
                unbuilt.kernel.toolchain = recipe.variant.compiler.name().to_owned();
            }
            unbuilt.stopped(error)
        }
        _ => unbuilt,
    }
}

fn configured(
    resources: &Resources<'_>,
    column: &Column,
    unbuilt: &Unbuilt,
    apart: bool,
    run_dir: &RunDir,
) -> Result<()> {
    let Some(tree) = unbuilt.tree()? else { return Ok(()) };
    let recipe = recipe(resources, column)?;
    if build::is_cached(resources.ctx, tree, &recipe) {
        return Ok(());
    }
    let _one = resources.make();
    let log_dir = run_dir.dir(&format!("builds/{}", build::identity(tree, &recipe)))?;
    ConfiguredTree::check(resources.ctx, tree, &recipe, &log_dir, apart)
}

/// How the kernel of a column is built.
fn recipe<'a>(resources: &'a Resources<'_>, column: &Column) -> Result<Recipe<'a>> {
    let Configuration { variant, requests } = resources.prepared.configuration(column.variant.as_deref())?;
    Ok(Recipe { variant, requests, tools: resources.tools()?, make: resources.plan.make })
}

/// A column after make: its kernel, or why the build failed.
#[derive(Debug)]
pub struct Built {
    kernel: Kernel,
    bootable: Result<Bootable>,
}

impl Built {
    /// Its entry in the record.
    pub fn kernel(&self) -> &Kernel {
        self.bootable.as_ref().map_or(&self.kernel, |bootable| &bootable.kernel)
    }

    /// Hash of everything that is built for a guest with this kernel: the kernel, including its origin, and
    /// the bpftool that it gets. `None` without a kernel.
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

    /// The directory of its kernel, and its bpftool; `None` without a kernel.
    pub fn files(&self) -> Option<(&Path, &Bpftool)> {
        self.bootable.as_ref().ok().map(|bootable| (bootable.dir.as_path(), &bootable.bpftool))
    }

    /// Why there is no kernel.
    pub fn error(&self) -> Option<&Error> {
        self.bootable.as_ref().err()
    }

    /// The kernel.
    ///
    /// # Errors
    /// Why there is no kernel.
    pub fn bootable(self) -> Result<Bootable> {
        self.bootable
    }
}

/// Builds the kernel of a column.
pub fn build(resources: &Resources<'_>, column: &Column, unbuilt: Unbuilt, run_dir: &RunDir) -> Built {
    let gone = unbuilt.source();
    let built = make(resources, column, unbuilt, run_dir);
    if built.bootable.is_ok() || gone.is_none_or(|dir| dir.symlink_metadata().is_ok()) {
        return built;
    }
    // The source was found to be damaged, or was pruned in the meantime.
    match material(resources, column) {
        Ok(material) => make(resources, column, patch(resources, column, &Ok(material)), run_dir),
        Err(error) => Built { bootable: Err(error), ..built },
    }
}

/// Fills the record of the kernel as far as the build gets.
fn make(resources: &Resources<'_>, column: &Column, unbuilt: Unbuilt, run_dir: &RunDir) -> Built {
    let Unbuilt { mut kernel, from, patch: _ } = unbuilt;
    let bootable = from.and_then(|from| match from {
        From::Tree(tree) => built_kernel(resources, column, tree, run_dir, &mut kernel),
        From::Prebuilt(prebuilt) => finished_kernel(resources, prebuilt, column, run_dir, &mut kernel),
    });
    Built { kernel, bootable }
}

/// Name of a column before anything is known about its kernel; unique within a run.
fn early_id(resources: &Resources<'_>, column: &Column) -> String {
    let series = resources.series.filter(|_| column.spec.has_source());
    let series = series.map(|series| format!("+{}", series.name)).unwrap_or_default();
    let step = match column.upto {
        Upto::All => String::new(),
        Upto::First { count, of } => format!("@{count}/{of}"),
    };
    let more = column.on_top.as_ref().map(|more| format!("+{}", more.name)).unwrap_or_default();
    format!("{}{series}{step}{more}", column.label.clone().unwrap_or_else(|| column.spec.to_string()))
}

/// Boots the kernel of a column once for each suite, and judges it.
pub fn boot(
    resources: &Resources<'_>,
    column: &Column,
    built: &Built,
    run_dir: &RunDir,
) -> Vec<ColumnResult> {
    let mut results = Vec::new();
    // If no test of our own suite was chosen, the globs were meant for another suite.
    if resources.plan.own && !resources.runner().is_ok_and(|(_, chosen)| chosen.is_empty()) {
        results.push(own::boot(resources, column, built, run_dir));
    }
    if let Some(wanted) = &resources.plan.upstream {
        results.push(upstream::boot(resources, column, built, wanted, run_dir));
    }
    for program in resources.programs {
        results.push(program::boot(resources, column, built, program, run_dir));
    }
    if let Ok(bootable) = &built.bootable {
        let coverage = added_lines::measure(resources, bootable, &results, run_dir);
        results.iter_mut().for_each(|result| result.kernel.coverage.clone_from(&coverage));
    }
    results
}

fn built_kernel(
    resources: &Resources<'_>,
    column: &Column,
    tree: PatchedTree,
    run_dir: &RunDir,
    kernel: &mut Kernel,
) -> Result<Bootable> {
    let recipe = recipe(resources, column)?;
    let variant = recipe.variant;
    kernel.toolchain = variant.compiler.name().to_owned();
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
        Error::new(Class::KernelBuild, format!("{} was built without a build ID", built.id))
            .why("vmlinux has no build ID note, so no guest can prove that it runs this kernel")
            .next("the kernel's Makefile should pass --build-id=sha1 to the linker: check that it does")
    })?;
    let config = vmtest_base::dotconfig::parse(&read_text(&built.dir.join("config"))?);
    // After the kernel, which gets a verdict even if this fails.
    let bpftool = match bpftool::build(resources, &tree, run_dir, &built.identity) {
        Ok(bpftool) => bpftool,
        // The source is gone, and will be fetched again.
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

/// The patches of a column.
fn series_of(column: &Column, material: &Material) -> Option<Series> {
    let Material::Source(_, series) = material else { return None };
    let series = match column.upto {
        Upto::All => series.clone(),
        Upto::First { count, .. } => series.as_ref().and_then(|series| series.first(count)),
    };
    match (series, &column.on_top) {
        (Some(series), Some(more)) => Some(series.and(more)),
        (None, Some(more)) => Some(Series::clone(more)),
        (series, None) => series,
    }
}

/// What the kernel of a column is built from. Fills in `kernel` with what is known.
fn patched(
    resources: &Resources<'_>,
    column: &Column,
    material: &Material,
    kernel: &mut Kernel,
) -> Result<From> {
    let tree = match material {
        Material::Prebuilt(prebuilt) => return Ok(From::Prebuilt(prebuilt.clone())),
        Material::Source(tree, _) => tree.clone(),
    };
    let series = series_of(column, material);
    kernel.id.clone_from(&tree.id);
    kernel.key = tree.key.to_string();
    let tree = apply(resources.ctx, tree, series, kernel)?;
    if resources.plan.upstream.as_ref().is_some_and(|plan| plan.tree.is_some()) {
        // The tests that run are not those that the series changes.
        kernel.tests_changed.clear();
    }
    Ok(From::Tree(tree))
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
    kernel.patches = series.patches.iter().map(info).collect();
    kernel.letter = series.letter.as_ref().map(|letter| Letter {
        subject: letter.subject.clone(),
        author: letter.author.clone(),
        message_id: letter.message_id.clone(),
    });
    kernel.tests_changed = series.files_below(TESTS_OF_THE_TREE);
    kernel.notes = series.loud().map(str::to_owned).collect();
    PatchedTree::patched(ctx, tree, &series)
}

fn info(patch: &Patch) -> PatchInfo {
    PatchInfo {
        subject: patch.subject.clone(),
        author: patch.author.clone(),
        message_id: patch.message_id.clone(),
        commit: patch.commit.clone(),
        files: patch.touches.iter().cloned().collect(),
    }
}

fn finished_kernel(
    resources: &Resources<'_>,
    prebuilt: Prebuilt,
    column: &Column,
    run_dir: &RunDir,
    kernel: &mut Kernel,
) -> Result<Bootable> {
    let Prebuilt { id, image, config, release, key } = prebuilt;
    kernel.id = column.label.clone().unwrap_or(id);
    kernel.key = key.to_string();
    kernel.release = release.unwrap_or_default();
    kernel.build_id = build_id::of_file(&image)?.unwrap_or_default();
    let (Some(dir), Some(file)) = (image.parent(), image.file_name()) else {
        return Err(Error::host(format!("{} is not a file", image.display())));
    };
    let (dir, file) = (dir.to_owned(), file.to_string_lossy().into_owned());
    let config =
        config.map(|path| read_text(&path)).transpose()?.map(|text| vmtest_base::dotconfig::parse(&text));
    let bpftool = bpftool::borrow(resources, run_dir, &key).unwrap_or_else(Bpftool::Failed);
    Ok(Bootable { kernel: kernel.clone(), dir, file, variant: None, config, bpftool, tree: None })
}

/// vng for kernels that we build, direct for kernels that cannot mount its root; the reason goes into the
/// record.
pub fn choose_boot(asked: BootChoice, bootable: &Bootable) -> (Boot, String) {
    match asked {
        BootChoice::Vng => (Boot::Vng, "requested".to_owned()),
        BootChoice::Direct => (Boot::Direct, "requested".to_owned()),
        BootChoice::Auto => match &bootable.config {
            None => (Boot::Direct, "a finished kernel may not have 9p and overlayfs built in".to_owned()),
            Some(config) => {
                let needed = ["NET_9P_VIRTIO", "9P_FS", "OVERLAY_FS", "VIRTIO_CONSOLE", "VIRTIO_PCI"];
                let missing: Vec<&str> = needed
                    .into_iter()
                    .filter(|option| config.get(*option).map(String::as_str) != Some("y"))
                    .collect();
                if missing.is_empty() {
                    (Boot::Vng, "built here with 9p and overlayfs".to_owned())
                } else {
                    (Boot::Direct, format!("its configuration is missing {}", missing.join(", ")))
                }
            }
        },
    }
}

/// A directory name for a boot: IDs contain colons and slashes, which archives and some file systems do not
/// support.
fn cell_directory(CellBase { kernel: id, variant, boot, .. }: &CellBase) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.+".contains(c) { c } else { '_' };
    let name: String = id.chars().map(plain).collect();
    // Two IDs may map to the same name; the hash of the original keeps them distinct.
    let short = Key::of("cell").field("id", &name).field("variant", variant).finish();
    let variant = if variant.is_empty() { "image" } else { variant };
    format!("{}-{variant}-{boot}-{}", name.trim_start_matches('.'), &short.as_str()[..4])
}

#[cfg(test)]
mod tests;
