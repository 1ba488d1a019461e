// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a plan to everything that is decided before anything is fetched or built: what the host must have,
//! the merged configuration of each variant, the series, and the release, commit or path of each kernel.
//!
//! Later stages use these results. Nothing is resolved or read twice, so what is built is what was announced.

use std::sync::{Arc, OnceLock};
use vmtest_suite::program;

use crate::plan::{self, Column, Plan};
use crate::request::BootChoice;
use vmtest_base::error::{Error, Result};
use vmtest_guest::judge::Program;
use vmtest_host::build_root::BuildRoot;
use vmtest_host::context::Context;
use vmtest_host::debian_mirror;
use vmtest_host::doctor::{self, Need, Toolchain};
use vmtest_host::store::make_room;
use vmtest_kernel::config::{self, Requests};
use vmtest_kernel::maintained::{self, Named};
use vmtest_kernel::series::Series;
use vmtest_kernel::source::{self, Fetched, Resolved};
use vmtest_kernel::spec::KernelSpec;
use vmtest_kernel::variant::{self, Variant};
use vmtest_suite::own::Runner;

/// A plan with everything that it names.
#[derive(Debug)]
pub struct Prepared {
    /// What will be done, with the final columns.
    pub plan: Plan,
    /// Series of `--patches`, if any.
    pub series: Option<Series>,
    /// Programs of selftests/suites/ that run.
    pub programs: Vec<Program>,
    /// What each column consists of, in the order of the plan's columns.
    pub meanings: Vec<Meaning>,
    kernels: Vec<Kernel>,
    configurations: Vec<Configuration>,
}

/// What a column consists of.
#[derive(Debug, Clone)]
pub struct Meaning {
    /// Its kernel without patches.
    pub resolved: Resolved,
    /// Number of patches on top.
    pub on_top: usize,
    /// Number of patches in the whole series.
    pub of: usize,
}

/// How a kernel is configured, compiled and booted.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The variant.
    pub variant: Variant,
    /// Its fragments and those of `--config`, merged.
    pub requests: Requests,
}

#[derive(Debug, Clone)]
struct Kernel {
    spec: KernelSpec,
    /// With an ID that is unique in the run.
    resolved: Resolved,
    /// That ID, if it is not the kernel's own.
    label: Option<String>,
    fetched: Arc<OnceLock<Result<Fetched>>>,
}

/// Prepares a run.
///
/// # Errors
/// Class `Usage` for invalid input, and `Host` for anything missing on the host.
pub fn prepare(ctx: &Context, plan: Plan) -> Result<Prepared> {
    let prepared = prepare_all(ctx, vec![plan], &[])?.swap_remove(0);
    let columns = prepared.plan.columns.iter().zip(&prepared.meanings);
    for (at, (column, meaning)) in columns.clone().enumerate() {
        let id = &meaning.resolved.id;
        // Cells and the directories of their consoles are distinguished by this name.
        let mut before = columns.clone().take(at).filter(|(other, _)| other.spec != column.spec);
        if let Some((other, _)) = before.find(|(_, other)| other.resolved.id == *id) {
            return Err(Error::usage(format!("two kernels would both be column {id}"))
                .why(format!("{} and {} have the same name", other.spec, column.spec))
                .next("test them in two runs, or give their directories different names"));
        }
    }
    Ok(prepared)
}

/// Prepares runs that share a host and the names of their kernels. `named` are kernels that take part in the
/// naming but may be tested elsewhere.
///
/// # Errors
/// Class `Usage` for invalid input, and `Host` for anything missing on the host.
pub fn prepare_all(ctx: &Context, plans: Vec<Plan>, named: &[KernelSpec]) -> Result<Vec<Prepared>> {
    // Before the host is checked: it may be a typo.
    let programs: Vec<_> = plans.iter().map(|plan| programs(ctx, plan)).collect::<Result<_>>()?;
    make_room(&ctx.cache, &ctx.bus)?;
    let needs = needs(&plans, ctx);
    doctor::require(&needs)?;
    if needs.contains(&Need::BuildRoot) {
        debian_mirror::require(ctx)?;
    }
    let configurations = plans.iter().map(|plan| configurations(ctx, plan));
    let configurations: Vec<_> = configurations.collect::<Result<_>>()?;
    let mut read: Vec<(Vec<Named>, Option<Series>)> = Vec::new();
    for plan in &plans {
        if !read.iter().any(|(patches, _)| *patches == plan.patches) {
            read.push((plan.patches.clone(), maintained::load(ctx, &plan.patches)?));
        }
    }
    let kernels = resolve(ctx, named, plans.iter().flat_map(|plan| &plan.columns))?;
    let mut all = Vec::new();
    for ((plan, programs), configurations) in plans.into_iter().zip(programs).zip(configurations) {
        let series = read.iter().find(|(patches, _)| *patches == plan.patches);
        let series = series.and_then(|(_, series)| series.clone());
        let meanings = Vec::new();
        let kernels = kernels.clone();
        let mut prepared = Prepared { plan, series, programs, meanings, kernels, configurations };
        prepared.expand()?;
        all.push(prepared);
    }
    Ok(all)
}

impl Prepared {
    /// The same kernels, variants and series for another plan, which differs in what runs on them.
    ///
    /// # Errors
    /// Class `Usage` for a kernel command line that would be truncated, or an invalid program.
    pub fn for_plan(&self, ctx: &Context, plan: Plan) -> Result<Prepared> {
        let plan = Plan { columns: self.plan.columns.clone(), ..plan };
        for column in &plan.columns {
            let configuration = self.configurations.iter().find(|one| one.is(column.variant.as_deref()));
            crate::cmdline::check_cmdline(&plan, column, configuration.map(|one| &one.variant))?;
        }
        Ok(Prepared {
            programs: programs(ctx, &plan)?,
            plan,
            series: self.series.clone(),
            meanings: self.meanings.clone(),
            kernels: self.kernels.clone(),
            configurations: self.configurations.clone(),
        })
    }

    /// Fetches a resolved kernel: once for all columns, and again if it disappeared from the cache. A kernel
    /// that is not in the plan, such as a step of a bisection, is resolved now.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub fn fetch(&self, ctx: &Context, spec: &KernelSpec) -> Result<Fetched> {
        let Some(kernel) = self.kernels.iter().find(|kernel| kernel.spec == *spec) else {
            return source::fetch(ctx, &source::resolve(ctx, spec)?);
        };
        let fetched = kernel.fetched.get_or_init(|| source::fetch(ctx, &kernel.resolved)).clone()?;
        if fetched.is_there() { Ok(fetched) } else { source::fetch(ctx, &kernel.resolved) }
    }

    /// State of the tree that this kernel is built from; empty if it is not one in a repository.
    pub fn state(&self, spec: &KernelSpec) -> String {
        let kernel = self.kernels.iter().find(|kernel| kernel.spec == *spec);
        kernel.map(|kernel| kernel.resolved.state.clone()).unwrap_or_default()
    }

    /// How the kernel of a column is configured.
    ///
    /// # Errors
    /// If no column of the plan has this variant.
    pub fn configuration(&self, variant: Option<&str>) -> Result<&Configuration> {
        let found = self.configurations.iter().find(|one| one.is(variant));
        found.ok_or_else(|| Error::host(format!("the variant {variant:?} was not prepared")))
    }

    /// Expands the kernels of the plan into columns, and determines what each consists of.
    fn expand(&mut self) -> Result<()> {
        let given = self.series.as_ref().map_or(0, |series| series.patches.len());
        let mut bases: Vec<&Resolved> = Vec::new();
        for column in &mut self.plan.columns {
            let kernel = self.kernels.iter().find(|kernel| kernel.spec == column.spec);
            let kernel = kernel.ok_or_else(|| Error::host(format!("{} was not resolved", column.spec)))?;
            column.label.clone_from(&kernel.label);
            bases.push(&kernel.resolved);
        }
        let columns = self.plan.columns.iter().zip(&bases);
        let count = |(column, base): (&Column, &&Resolved)| match column.spec.has_source() {
            true => base.commits + given,
            false => 0,
        };
        let patches: Vec<usize> = columns.map(count).collect();
        let expanded =
            plan::expand(&self.plan.columns, &patches, self.plan.series_columns, self.plan.first_n)?;
        let meaning = |(at, column): &(usize, Column)| Meaning {
            resolved: bases[*at].clone(),
            on_top: column.upto.count(patches[*at]),
            of: patches[*at],
        };
        self.meanings = expanded.iter().map(meaning).collect();
        self.plan.columns = expanded.into_iter().map(|(_, column)| column).collect();
        Ok(())
    }
}

impl Configuration {
    fn is(&self, variant: Option<&str>) -> bool {
        variant.is_some_and(|name| self.variant.name == name)
    }
}

fn programs(ctx: &Context, plan: &Plan) -> Result<Vec<Program>> {
    plan.programs.iter().map(|name| program::load(&ctx.project, name)).collect()
}

/// What the host must have for these plans.
fn needs(plans: &[Plan], ctx: &Context) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    for need in plans.iter().flat_map(|plan| needs_of(plan, ctx)) {
        if !needs.contains(&need) {
            needs.push(need);
        }
    }
    needs
}

fn needs_of(plan: &Plan, ctx: &Context) -> Vec<Need> {
    let mut needs = vec![Need::Storage];
    let archive = |column: &Column| matches!(column.spec, KernelSpec::Src(_) | KernelSpec::Debian { .. });
    if plan.columns.iter().any(archive) {
        needs.push(Need::Archive);
    }
    if plan.columns.iter().any(|column| column.spec.has_source()) {
        needs.push(Need::Source);
    }
    match plan.toolchain {
        Toolchain::Image => {
            needs.push(Need::Sandbox);
            if !BuildRoot::is_cached(ctx) {
                needs.push(Need::BuildRoot);
            }
        }
        Toolchain::Host => {
            needs.push(Need::HostBoot);
            let builds = plan.columns.iter().any(|column| column.spec.has_source());
            if builds {
                needs.push(Need::HostBuild);
            }
            // `auto` uses vng for kernels that are built here, and would only notice after the build that it
            // is missing.
            if plan.boot == BootChoice::Vng || (plan.boot == BootChoice::Auto && builds) {
                needs.push(Need::HostVng);
            }
        }
    }
    if !Runner::is_cached(ctx) {
        needs.push(Need::Runner);
    }
    needs
}

/// The variants of a plan with their fragments, read and validated.
fn configurations(ctx: &Context, plan: &Plan) -> Result<Vec<Configuration>> {
    for path in &plan.config {
        std::fs::read_to_string(path).map_err(|error| {
            Error::usage(format!("--config {} cannot be read", path.display())).why(error)
        })?;
    }
    let base = plan.kconfig.as_ref().map(|path| match std::fs::read_to_string(path) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(Error::usage(format!("--kconfig {} cannot be read", path.display())).why(error)),
    });
    let base = base.transpose()?;
    let mut read: Vec<Configuration> = Vec::new();
    for column in &plan.columns {
        let name = column.variant.as_deref();
        if let Some(name) = name.filter(|_| !read.iter().any(|one| one.is(name))) {
            let mut variant = variant::load(&ctx.project.join("kconfig"), name)?;
            variant.make.extend(plan.make_words.iter().cloned());
            let fragments: Vec<_> = variant.fragments.iter().chain(&plan.config).cloned().collect();
            let mut requests = config::read(&fragments)?;
            if let Some((path, text)) = &base {
                let left_out = requests.put_on(&path.display().to_string(), text)?;
                if !left_out.is_empty() && read.is_empty() {
                    ctx.bus.note(format!("{}: left out: {}", path.display(), left_out.join(", ")));
                }
            }
            read.push(Configuration { variant, requests });
        }
        let variant = read.iter().find(|one| one.is(name)).map(|one| &one.variant);
        crate::cmdline::check_cmdline(plan, column, variant)?;
    }
    Ok(read)
}

/// Resolves each kernel once, and determines the name of its column: it must be the same in each shard of a
/// matrix, or they could not be merged.
fn resolve<'a>(
    ctx: &Context,
    named: &[KernelSpec],
    columns: impl Iterator<Item = &'a Column> + Clone,
) -> Result<Vec<Kernel>> {
    let mut specs: Vec<&KernelSpec> = Vec::new();
    for spec in named.iter().chain(columns.clone().map(|column| &column.spec)) {
        if !specs.contains(&spec) {
            specs.push(spec);
        }
    }
    let (mut known, mut resolved) = (Vec::new(), Vec::new());
    for spec in specs {
        match source::resolve(ctx, spec) {
            Ok(one) => {
                known.push(spec);
                resolved.push(one);
            }
            Err(error) if columns.clone().any(|column| column.spec == *spec) => return Err(error),
            // Another machine may have it.
            Err(_) => (),
        }
    }
    let ids = source::unique_ids(&resolved);
    let kernels = known.into_iter().zip(resolved).zip(ids);
    let kernel = |((spec, mut resolved), id): ((&KernelSpec, Resolved), String)| {
        let label = Some(id.clone()).filter(|id| *id != resolved.id);
        resolved.id = id;
        Kernel { spec: spec.clone(), resolved, label, fetched: Arc::default() }
    };
    Ok(kernels.map(kernel).collect())
}
