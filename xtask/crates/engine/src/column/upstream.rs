// SPDX-License-Identifier: MIT OR Apache-2.0
//! The second boot of a column: the tree's own tests, chosen, built, run and judged.

use std::fmt::Write as _;

use vmtest_protocol::{TestName, Upstream, UpstreamTest};

use crate::bootable::Bootable;
use crate::column::attempts::{Attempts, Guest, Joins};
use crate::column::boot::{self, BootRequest, Guests};
use crate::column::{Built, choose_boot};
use crate::launch;
use crate::plan::{Column, UpstreamPlan};
use crate::resources::Resources;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::write_file;
use vmtest_base::similar;
use vmtest_guest::judge::{CellBase, Chosen, ExternalSuite, SuiteInput, make_cell, notrun};
use vmtest_guest::observed::Limits;
use vmtest_guest::spec::{Boot, Task};
use vmtest_host::store::RunDir;
use vmtest_kernel::build::MODULES;
use vmtest_kernel::patched::PatchedTree;
use vmtest_kernel::source::Fetched;
use vmtest_record::column::ColumnResult;
use vmtest_record::outcome::Outcome;
use vmtest_record::run::{Cell, Kernel};
use vmtest_suite::choice::{self, Choice};
use vmtest_suite::upstream::{self, Bundle, FILES, Index};

/// Name of the suite on the command line.
const SUITE: &str = "upstream";
/// One test may use this fraction of a guest's time limit.
const SHARE_OF_RUN: u32 = 4;

/// Runs the tree's own tests on the kernel of a column.
pub fn boot(
    resources: &Resources<'_>,
    column: &Column,
    built: &Built,
    wanted: &UpstreamPlan,
    run_dir: &RunDir,
) -> ColumnResult {
    let upstream = UpstreamColumn { resources, column, wanted, run_dir };
    let done = match &built.bootable {
        Ok(bootable) => match upstream.run(bootable) {
            Err(_) if bootable.source_is_gone() => {
                crate::column::material(resources, column).and_then(|_| upstream.run(bootable))
            }
            done => done,
        },
        Err(error) => Err(error.clone()),
    };
    done.unwrap_or_else(|error| {
        resources.bad();
        let planned = asked(resources.plan.filter.globs());
        let cells = notrun(&upstream.base(&built.kernel.id), &planned, error.class, &error.to_string());
        ColumnResult {
            kernel: built.kernel.clone(),
            boot: None,
            again: Vec::new(),
            cells,
            splats: Vec::new(),
        }
    })
}

/// The requested tests, if the tests of the tree are unknown.
fn asked(globs: &[String]) -> Vec<TestName> {
    let default = choice::DEFAULT.map(str::to_owned);
    let globs = if globs.is_empty() { &default[..] } else { globs };
    let name = |glob: &String| {
        let (test, subtest) = glob.split_once('/').unwrap_or((glob, ""));
        TestName { test: test.to_owned(), subtest: subtest.to_owned() }
    };
    globs.iter().map(name).collect()
}

/// Warns about requested tests that a tree does not have, for the time before its kernel is built. Other
/// mistakes are for the column.
pub fn warn_of_absent(resources: &Resources<'_>, tree: &PatchedTree, wanted: &UpstreamPlan) {
    // Nobody typed the default selection.
    if resources.plan.filter.is_empty() {
        return;
    }
    let Ok(index) = tests_of(resources, wanted, tree).and_then(|tree| Index::of(resources.ctx, &tree)) else {
        return;
    };
    for name in choose(resources, &index, wanted).map(|choice| choice.absent).unwrap_or_default() {
        if let Ok(why) = why_absent(resources, &index, &name) {
            resources.ctx.bus.warn(format!("{}: {}: {why}", tree.id(), name.path()));
        }
    }
}

/// The tree whose tests run on the kernel that `tree` is the source of.
fn tests_of(resources: &Resources<'_>, wanted: &UpstreamPlan, tree: &PatchedTree) -> Result<PatchedTree> {
    let Some(spec) = &wanted.tree else { return Ok(tree.clone()) };
    match resources.prepared.fetch(resources.ctx, spec)? {
        Fetched::Source(tree) => Ok(PatchedTree::unpatched(tree)),
        Fetched::Range { base, series } => PatchedTree::patched(resources.ctx, base, &series),
        Fetched::Prebuilt(_) => Err(Error::usage(format!("{spec} has no tests in its source"))),
    }
}

fn why_absent(resources: &Resources<'_>, index: &Index, name: &TestName) -> Result<String> {
    let own = if resources.plan.own { &resources.runner()?.0.listed[..] } else { &[] };
    let own = own.iter().map(|listed| listed.name.test.as_str());
    let meant = similar::closest(&name.test, index.tests.keys().map(String::as_str).chain(own));
    let meant = meant.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
    Ok(format!("no such test in the tree's prog_tests/{meant}"))
}

fn choose(resources: &Resources<'_>, index: &Index, wanted: &UpstreamPlan) -> Result<Choice> {
    let filter = &resources.plan.filter;
    let own = match resources.plan.own {
        true => resources.runner()?.0.known(filter)?.globs().to_vec(),
        false => Vec::new(),
    };
    let elsewhere = |glob: &str| own.iter().any(|known| known == glob);
    let measures = |file: &str| index.measures(file);
    choice::choose(filter.globs(), index.offer(&measures), wanted.ignore_deny_list, &elsewhere)
}

struct UpstreamColumn<'a> {
    resources: &'a Resources<'a>,
    column: &'a Column,
    wanted: &'a UpstreamPlan,
    run_dir: &'a RunDir,
}

impl UpstreamColumn<'_> {
    fn base(&self, kernel: &str) -> CellBase {
        boot::base(self.resources, self.column, kernel, Boot::Vng.name(), SUITE)
    }

    fn run(&self, bootable: &Bootable) -> Result<ColumnResult> {
        let resources = self.resources;
        let Some((tree, kernel_key)) = &bootable.tree else {
            return Err(Error::usage("a finished kernel has no tests in its source"));
        };
        let (boot, boot_reason) = choose_boot(resources.plan.boot, bootable);
        if boot == Boot::Direct {
            return Err(Error::host("test_progs cannot be booted directly")
                .why(format!("it needs the build root's libraries; {boot_reason}")));
        }
        let base = self.base(&bootable.kernel.id);
        let tree = &tests_of(resources, self.wanted, tree)?;
        let index = Index::of(resources.ctx, tree)?;
        let choice = choose(resources, &index, self.wanted)?;
        let Choice { chosen, denied, absent } = &choice;
        let mut cells = self.apart(&base, denied, chosen.is_empty());
        cells.extend(self.absent(&base, absent, &index)?);
        if chosen.is_empty() {
            resources.bad();
            return Ok(self.without_a_boot(&bootable.kernel, cells));
        }
        let log_dir = self.run_dir.dir(&format!("builds/{}", bootable.kernel.key))?;
        self.say_what_is_dropped(bootable, &index, &log_dir)?;
        if index.wants_modules(chosen) && !bootable.dir.join(MODULES).is_dir() {
            resources.ctx.bus.warn(format!(
                "{}: some of the selected tests need bpf_testmod, which this kernel does not have; use --variant upstream",
                bootable.kernel.id
            ));
        }
        let bundle = {
            let _one = resources.make();
            let from = upstream::Ingredients {
                tree,
                index: &index,
                kernel: &bootable.dir,
                kernel_key,
                tools: resources.tools()?,
                make: resources.plan.make,
                log_dir: &log_dir,
            };
            upstream::ensure(resources.ctx, from, chosen)?
        };
        cells.extend(broken(&base, chosen, &bundle));
        let built: Vec<Chosen> = chosen
            .iter()
            .filter(|test| !bundle.broken.iter().any(|one| one.file == test.file))
            .cloned()
            .collect();
        if built.is_empty() {
            resources.bad();
            return Ok(self.without_a_boot(&bootable.kernel, cells));
        }
        self.boot(bootable, boot_reason, &bundle, &built, cells)
    }

    /// Cells of tests that do not run because the tree denies them. They count only if nothing else was
    /// chosen: a column without any evidence is not a pass.
    fn apart(&self, base: &CellBase, denied: &[(TestName, String)], alone: bool) -> Vec<Cell> {
        let class = if alone { Class::Incomplete } else { Class::Pass };
        let denied = denied.iter().map(|(name, why)| {
            let found = (Outcome::Notrun, why.clone(), class);
            Cell { required: alone, ..make_cell(base, name, found, (None, 1), false) }
        });
        denied.collect()
    }

    /// Cells of tests that the tree does not have. They always count.
    fn absent(&self, base: &CellBase, absent: &[TestName], index: &Index) -> Result<Vec<Cell>> {
        let cell = |name: &TestName| {
            let why = why_absent(self.resources, index, name)?;
            let found = (Outcome::Missing, why, Class::Incomplete);
            Ok(make_cell(base, name, found, (None, 1), false))
        };
        absent.iter().map(cell).collect()
    }

    fn without_a_boot(&self, kernel: &Kernel, cells: Vec<Cell>) -> ColumnResult {
        ColumnResult { kernel: kernel.clone(), boot: None, again: Vec::new(), cells, splats: Vec::new() }
    }

    /// Warns about options that the tree requires for all of its tests and that this kernel does not have.
    fn say_what_is_dropped(
        &self,
        bootable: &Bootable,
        index: &Index,
        log_dir: &std::path::Path,
    ) -> Result<()> {
        let Some(config) = &bootable.config else { return Ok(()) };
        let dropped = index.dropped(config);
        let mut text = String::new();
        for (option, wish, got) in &dropped {
            let _ = writeln!(text, "CONFIG_{option}: the tree's config wants {wish}, this kernel has {got}");
        }
        let file = log_dir.join("suite-options.txt");
        write_file(&file, text)?;
        self.resources.ctx.bus.note(format!(
            "{}: of the {} options in the tree's own config for its BPF tests, {} differ: {}",
            bootable.kernel.id,
            index.options.len(),
            dropped.len(),
            file.display()
        ));
        Ok(())
    }

    fn boot(
        &self,
        bootable: &Bootable,
        boot_reason: String,
        bundle: &Bundle,
        built: &[Chosen],
        apart: Vec<Cell>,
    ) -> Result<ColumnResult> {
        let base = self.base(&bootable.kernel.id);
        let guests = Guests::admit(self.resources, bootable, (Boot::Vng, boot_reason), base, self.run_dir)?;
        let limits = launch::limits(self.resources, bootable, self.resources.accel.kind);
        let guest = |tests: &[Chosen], attempt| self.guest(&guests, limits, bundle, tests, attempt);
        let mut attempts = Attempts::new(guest(built, None)?);
        // A test runs again as a whole, as it was chosen: on its own, a subtest has another number and may
        // depend on what earlier ones left behind.
        attempts.again(self.resources, self.column, Joins::Tests, None, |lost, attempt| {
            let tests: Vec<Chosen> =
                built.iter().filter(|test| lost.iter().any(|name| name.test == test.name)).cloned().collect();
            if tests.is_empty() { Vec::new() } else { vec![guest(&tests, Some(attempt))] }
        });
        Ok(attempts.finish(self.resources, self.column, apart))
    }

    /// Boots one guest that runs these tests.
    fn guest(
        &self,
        guests: &Guests<'_>,
        limits: Limits,
        bundle: &Bundle,
        chosen: &[Chosen],
        attempt: Option<u32>,
    ) -> Result<Guest> {
        let ctx = self.resources.ctx;
        let tests = |test: &Chosen| UpstreamTest { name: test.name.clone(), subtests: test.subtests.clone() };
        let deny = |test: &Chosen| {
            test.deny.iter().map(|pattern| format!("{}/{pattern}", test.name)).collect::<Vec<_>>()
        };
        let files = bundle.dir.join(FILES);
        let wishes = Upstream {
            bundle: boot::seen_in_guest(self.resources, &files)?,
            program: None,
            tests: chosen.iter().map(tests).collect(),
            deny: chosen.iter().flat_map(deny).collect(),
            limit_s: u32::try_from((limits.run / SHARE_OF_RUN).as_secs()).unwrap_or(u32::MAX).max(1),
        };
        let task = Task::Upstream { bundle: files, wishes };
        let expected = chosen.len() as u64;
        let outcome = guests.boot(BootRequest { task, expected, attempt, part: 0 })?;
        let known = upstream::known(ctx, &bundle.key);
        let suite = ExternalSuite::Upstream { chosen: chosen.to_vec(), known: known.clone() };
        let guest = guests.judge(outcome, SuiteInput::External(&suite));
        upstream::keep_known(ctx, &bundle.key, known, &guest.reported)?;
        Ok(guest)
    }
}

/// Cells of tests that do not compile.
fn broken(base: &CellBase, chosen: &[Chosen], bundle: &Bundle) -> Vec<Cell> {
    let cell = |test: &Chosen| {
        let one = bundle.broken.iter().find(|one| one.file == test.file)?;
        let name = TestName { test: test.name.clone(), subtest: String::new() };
        let found = (Outcome::Notrun, format!("it does not compile: {}", one.why), Class::SuiteBuild);
        let mut cell = make_cell(base, &name, found, (None, 1), false);
        cell.log = one.detail.join("\n");
        Some(cell)
    };
    chosen.iter().filter_map(cell).collect()
}
