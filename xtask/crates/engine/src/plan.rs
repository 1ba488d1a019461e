// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the command line to what will be done. Pure: impossible combinations are rejected by name before any
//! work.

mod columns;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use vmtest_protocol::{Effort, SelfTest, TestName};

use crate::request::{BootChoice, CheckName, Purpose, Request, Suite};
use crate::share::Share;
use vmtest_base::error::{Error, Result};
use vmtest_guest::events::MAX_EVENTS;
use vmtest_guest::judge::Rounds;
use vmtest_guest::observed::Limits;
use vmtest_host::accel::{AccelChoice, Kind};
use vmtest_host::doctor::Toolchain;
use vmtest_kernel::b4;
use vmtest_kernel::maintained::Named;
use vmtest_kernel::make_mark::Make;
use vmtest_kernel::series::Series;
use vmtest_kernel::spec::KernelSpec;
use vmtest_record::run::Role;
use vmtest_suite::choice;
use vmtest_suite::own::TestFilter;

pub use crate::plan::columns::SeriesColumns;
pub use crate::plan::columns::Upto;
pub use crate::plan::columns::expand;
pub use crate::plan::values::AllowSkip;
pub use crate::plan::values::Limit;
pub use crate::plan::values::parameter;
pub use crate::plan::values::sysctl;

/// Kernel of a run that does not name one.
pub const DEFAULT_KERNEL: &str = "src:6.18";
/// Short name of the series on top of [`DEFAULT_KERNEL`], in a run that names neither kernel nor series.
pub const DEFAULT_SERIES: &str = "fsession";
/// Variant of a run that does not name one.
pub const DEFAULT_VARIANT: &str = "default";
/// Memory of a guest if neither the command line nor the variant specifies it.
pub const DEFAULT_MEMORY_MIB: u32 = 512;

/// One kernel in one variant: a column of the matrix, and one boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The kernel.
    pub spec: KernelSpec,
    /// The variant; `None` for a kernel that is not built here.
    pub variant: Option<String>,
    /// Name of the column if the kernel's own name would be ambiguous; `None` otherwise.
    pub label: Option<String>,
    /// How many patches of the series are on top.
    pub upto: Upto,
    /// Another series on top of that, if any.
    pub on_top: Option<Arc<Series>>,
    /// Its role, if it is only there for comparison.
    pub role: Option<Role>,
    /// How the suite is damaged on purpose; `None`: not.
    pub self_test: Option<SelfTest>,
}

/// How often subtests run in one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// As requested; `None`: once, or [`MAX_ROUNDS`] with `until_fail`.
    pub rounds: Option<u32>,
    /// Stop at the first failure, or when four fifths of the run limit are over.
    pub until_fail: bool,
}

/// Most rounds of a boot.
pub const MAX_ROUNDS: u32 = 1000;

impl Repeat {
    /// Number of rounds of a boot with this many subtests. Until a failure, as many as the event channel
    /// allows.
    ///
    /// # Errors
    /// Class `Usage` for more than can be reported.
    pub fn rounds(self, subtests: usize) -> Result<u32> {
        // Each subtest has a start, an end and at most one event between; the first round has more.
        let can = (MAX_EVENTS - 60_000) / (3 * subtests.max(1));
        let can = u32::try_from(can).unwrap_or(u32::MAX).clamp(1, MAX_ROUNDS);
        match self.rounds {
            Some(rounds) if rounds > can => Err(Error::usage(format!("--repeat {rounds} is too large"))
                .why(format!("{subtests} subtests can be run {can} times in one boot"))
                .next("select fewer subtests with --test, or lower --repeat")),
            Some(rounds) => Ok(rounds),
            None if self.until_fail => Ok(can),
            None => Ok(1),
        }
    }

    /// How often every subtest must run.
    pub fn wanted(self) -> Rounds {
        if self.until_fail { Rounds::UntilFail } else { Rounds::Exactly(self.rounds.unwrap_or(1)) }
    }

    /// Text for messages; empty for a plain run. `run`: the run limit.
    pub fn text(self, run: Duration) -> String {
        let rounds = self.rounds.unwrap_or(MAX_ROUNDS);
        match (self.until_fail, self.rounds) {
            (false, None | Some(1)) => String::new(),
            (false, Some(rounds)) => format!("{rounds} times in one boot"),
            (true, _) => format!(
                "until a failure: at most {rounds} times in one boot, nothing is started after {} s",
                self.time(run).as_secs()
            ),
        }
    }

    /// When the runner stops starting subtests: the guest must end by itself before the run limit.
    pub fn time(self, run: Duration) -> Duration {
        run * 4 / 5
    }
}

/// What will be done.
#[derive(Debug)]
pub struct Plan {
    /// Columns in command line order: one for each kernel and variant, until [`expand`] adds more.
    pub columns: Vec<Column>,
    /// Which columns a kernel with a series becomes.
    pub series_columns: SeriesColumns,
    /// Use only this many patches of the series; `None`: all.
    pub first_n: Option<usize>,
    /// Series in command line order.
    pub patches: Vec<Named>,
    /// Whether our own suite runs.
    pub own: bool,
    /// How the tree's own tests are chosen, if they run.
    pub upstream: Option<UpstreamPlan>,
    /// Programs of selftests/suites/ that run, by name.
    pub programs: Vec<String>,
    /// The chosen subtests.
    pub filter: TestFilter,
    /// How much to run.
    pub effort: Effort,
    /// How often each subtest runs.
    pub repeat: Repeat,
    /// How often failed or lost tests are retried.
    pub retries: u32,
    /// Whether a pass on a retry counts as a pass.
    pub allow_flaky: bool,
    /// File of splats that do not count.
    pub allow_splats: Option<PathBuf>,
    /// How guests are booted.
    pub boot: BootChoice,
    /// The accelerator.
    pub accel: AccelChoice,
    /// Whose build tools are used.
    pub toolchain: Toolchain,
    /// Skips that do not count.
    pub allow_skip: Vec<AllowSkip>,
    /// A whole `.config` as the base; `None`: `allnoconfig`.
    pub kconfig: Option<PathBuf>,
    /// Variables for make.
    pub make_words: Vec<String>,
    /// Additional config fragments.
    pub config: Vec<PathBuf>,
    /// Additional kernel parameters.
    pub append: Vec<String>,
    /// Sysctls as `name=value`.
    pub sysctls: Vec<String>,
    /// Virtual CPUs; `None`: the default for the boot.
    pub cpus: Option<u32>,
    /// QEMU's CPU model; `None`: the variant's, or else the default for the accelerator.
    pub cpu_model: Option<String>,
    /// Memory; `None`: the variant's, or else [`DEFAULT_MEMORY_MIB`].
    pub memory_mib: Option<u32>,
    /// Limits that replace the scaled defaults.
    pub timeouts: BTreeMap<Limit, Duration>,
    /// How make is run.
    pub make: Make,
    /// Most guests at once.
    pub vms: usize,
    /// Start nothing after the first bad boot.
    pub fail_fast: bool,
    /// The purpose of the guests.
    pub purpose: Purpose,
    /// Directory of the host for a guest without tests.
    pub share: Option<Share>,
    /// Checks of each patch that need no guest.
    pub checks: Vec<CheckName>,
    /// Build every kernel and boot none.
    pub build_only: bool,
}

/// How the tree's own tests are chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamPlan {
    /// Also run tests on the tree's deny lists.
    pub ignore_deny_list: bool,
    /// The tree that they are from; `None`: that of each kernel.
    pub tree: Option<KernelSpec>,
}

impl Plan {
    /// Makes a plan from a request.
    ///
    /// # Errors
    /// Class `Usage` for an invalid request.
    pub fn new(request: &Request) -> Result<Plan> {
        // A new field is a compile error here until it is handled.
        let Request {
            kernels,
            patches,
            with_base,
            each_patch,
            without_base,
            first_n,
            variants,
            suites: _,
            ignore_denylist: _,
            suite_tree: _,
            tests,
            effort,
            repeat,
            until_fail,
            retries,
            allow_flaky,
            allow_splats,
            boot,
            accel,
            toolchain,
            allow_skip,
            kconfig,
            make,
            config,
            append,
            sysctls,
            cpus,
            cpu_model,
            memory,
            timeouts,
            make_jobs,
            vms,
            fail_fast,
            purpose,
            share,
            checks,
            build_only,
            self_test,
        } = request;
        let mut columns = columns(kernels, variants, patches, config)?;
        refuse_build(kconfig.as_deref(), make, &columns)?;
        columns.iter_mut().for_each(|column| column.self_test = *self_test);
        refuse_purpose(purpose, columns.len())?;
        let (own, upstream, programs) = chosen_suites(request, &columns)?;
        let series_columns = match (with_base, each_patch) {
            // clap rejects both together.
            (_, true) if *without_base => SeriesColumns::EachPatchOnly,
            (_, true) => SeriesColumns::EachPatch,
            (true, false) => SeriesColumns::WithBase,
            (false, false) => SeriesColumns::Whole,
        };
        let patches = series(kernels, patches, *toolchain)?;
        columns::refuse(series_columns, *first_n, purpose, &columns, &patches)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let timeouts: BTreeMap<Limit, Duration> =
            timeouts.iter().map(|text| values::timeout(text)).collect::<Result<_>>()?;
        let how = Make {
            jobs: make_jobs.map_or(cores + 1, |jobs| jobs as usize),
            limit: timeouts.get(&Limit::Build).copied().unwrap_or_else(|| Limit::Build.default(Kind::Tcg)),
        };
        Ok(Plan {
            columns,
            patches,
            series_columns,
            first_n: first_n.map(|count| count as usize),
            own,
            upstream,
            programs,
            filter: TestFilter::new(tests)?,
            effort: *effort,
            repeat: Repeat { rounds: *repeat, until_fail: *until_fail },
            retries: retries.unwrap_or(0),
            allow_flaky: *allow_flaky,
            allow_splats: allow_splats.clone(),
            boot: *boot,
            accel: *accel,
            toolchain: *toolchain,
            allow_skip: allow_skip.iter().map(|text| AllowSkip::parse(text)).collect::<Result<_>>()?,
            kconfig: kconfig.clone(),
            make_words: make.clone(),
            config: config.clone(),
            append: append.iter().map(|word| values::parameter(word)).collect::<Result<_>>()?,
            sysctls: sysctls.iter().map(|text| values::sysctl(text)).collect::<Result<_>>()?,
            cpus: *cpus,
            cpu_model: cpu_model.as_deref().map(values::cpu_model).transpose()?,
            memory_mib: memory.as_deref().map(values::mebibytes).transpose()?,
            timeouts,
            make: how,
            vms: vms.map_or((cores / 2).max(1), |vms| vms as usize),
            fail_fast: *fail_fast,
            purpose: purpose.clone(),
            share: share.as_deref().map(Share::parse).transpose()?,
            checks: checks.clone(),
            build_only: *build_only,
        })
    }

    /// Limits of a guest on this accelerator, with a variant that is `slowdown` times slower. An explicit
    /// limit is not scaled.
    pub fn limits(&self, accel: Kind, slowdown: u32) -> Limits {
        // A stress test at full effort is silent for a minute.
        let effort = if self.effort == Effort::Soak { 3 } else { 1 };
        let longer = |limit: Limit| match limit {
            Limit::FirstByte | Limit::Boot | Limit::Shutdown | Limit::Build => 1,
            Limit::Idle => effort,
            Limit::Run => effort * self.repeat.rounds.unwrap_or(1),
        };
        let of = |limit: Limit| {
            let scaled = || limit.default(accel) * slowdown * longer(limit);
            self.timeouts.get(&limit).copied().unwrap_or_else(scaled)
        };
        Limits {
            first_byte: of(Limit::FirstByte),
            boot: of(Limit::Boot),
            idle: of(Limit::Idle),
            run: of(Limit::Run),
            shutdown: of(Limit::Shutdown),
        }
    }

    /// Whether this cell may be skipped.
    pub fn may_skip(&self, kernel: &str, name: &TestName) -> bool {
        self.allow_skip.iter().any(|allow| allow.allows(kernel, name))
    }
}

fn columns(
    kernels: &[String],
    variants: &[String],
    patches: &[PathBuf],
    config: &[PathBuf],
) -> Result<Vec<Column>> {
    let default = [DEFAULT_KERNEL.to_owned()];
    let kernels = if kernels.is_empty() { &default[..] } else { kernels };
    let mut columns: Vec<Column> = Vec::new();
    for kernel in kernels {
        let spec: KernelSpec = kernel.parse()?;
        if !spec.has_source() {
            let refused = [
                ("--patches", !patches.is_empty()),
                ("--variant", !variants.is_empty()),
                ("--config", !config.is_empty()),
            ];
            if let Some((option, _)) = refused.iter().find(|(_, given)| *given) {
                return Err(Error::usage(format!("{option} cannot be applied to {spec}"))
                    .why("it is a finished kernel: it has no source to patch or configure")
                    .next("use src:, tree:, git: or tar:, or run the finished kernels in a second run"));
            }
        }
        let names: Vec<Option<String>> = if !spec.has_source() {
            vec![None]
        } else if variants.is_empty() {
            vec![Some(DEFAULT_VARIANT.to_owned())]
        } else {
            variants.iter().cloned().map(Some).collect()
        };
        for variant in names {
            let column = Column {
                spec: spec.clone(),
                variant,
                label: None,
                upto: Upto::All,
                on_top: None,
                role: None,
                self_test: None,
            };
            if columns.contains(&column) {
                return Err(Error::usage(format!("{} is given twice", column.spec)));
            }
            columns.push(column);
        }
    }
    Ok(columns)
}

/// Rejects options about a build for a kernel that is not built.
fn refuse_build(kconfig: Option<&Path>, make: &[String], columns: &[Column]) -> Result<()> {
    let option = kconfig.map(|_| "--kconfig").or(make.first().map(String::as_str));
    let finished = columns.iter().find(|column| !column.spec.has_source());
    let (Some(option), Some(Column { spec, .. })) = (option, finished) else { return Ok(()) };
    Err(Error::usage(format!("{option} cannot be applied to {spec}"))
        .why("it is a finished kernel: it has no source to configure or build")
        .next("use src:, tree:, git: or tar:, or run the finished kernels in a second run"))
}

/// Rejects an empty command, and an interactive guest if there is more than one.
fn refuse_purpose(purpose: &Purpose, columns: usize) -> Result<()> {
    if matches!(purpose, Purpose::Exec(command) if command.trim().is_empty()) {
        return Err(Error::usage("--exec needs a command"));
    }
    if *purpose != Purpose::Test && columns > 1 {
        return Err(Error::usage("--shell, --exec and --gdb look inside one guest")
            .why(format!("{columns} kernels and variants are requested")));
    }
    Ok(())
}

/// The suites of a request: our own, how the tree's own are chosen, which programs. Rejects options that do
/// not fit them.
fn chosen_suites(request: &Request, columns: &[Column]) -> Result<(bool, Option<UpstreamPlan>, Vec<String>)> {
    let suites = &request.suites;
    let own = suites.contains(&Suite::Own);
    let tree: Option<KernelSpec> = request.suite_tree.as_deref().map(str::parse).transpose()?;
    if let Some(spec) = tree.as_ref().filter(|spec| !spec.has_source()) {
        return Err(Error::usage(format!("--suite-tree {spec} has no tests in its source"))
            .why("it is a finished kernel")
            .next("use src:, tree:, git: or tar:"));
    }
    let plan = UpstreamPlan { ignore_deny_list: request.ignore_denylist, tree };
    let upstream = suites.contains(&Suite::Upstream).then_some(plan);
    let mut programs: Vec<String> = Vec::new();
    for suite in suites {
        if let Suite::Program(name) = suite {
            if !programs.contains(name) {
                programs.push(name.clone());
            }
        }
    }
    let foreign = upstream.as_ref().map(|_| "upstream").or(programs.first().map(String::as_str));
    if let Some(name) = foreign {
        refuse_foreign(name, columns, &request.purpose, request.self_test.is_some(), request.boot)?;
        if request.repeat.is_some() || request.until_fail {
            return Err(Error::usage(format!("--suite {name} runs once"))
                .why("--repeat and --until-fail are for the own suite"));
        }
    }
    let tests = &request.tests;
    if let (false, None, Some(name), false) = (own, &upstream, programs.first(), tests.is_empty()) {
        let why = format!("--suite {name} runs as a whole");
        return Err(Error::usage("--test does not apply here").why(why));
    }
    if upstream.is_some() {
        choice::check(tests)?;
    } else {
        let options =
            [("--ignore-denylist", request.ignore_denylist), ("--suite-tree", request.suite_tree.is_some())];
        if let Some((option, _)) = options.iter().find(|(_, given)| *given) {
            return Err(Error::usage(format!("{option} applies only to the tree's own tests"))
                .next("add --suite upstream"));
        }
    }
    Ok((own, upstream, programs))
}

/// Rejects what is not possible with suites that are programs in the guest.
fn refuse_foreign(
    name: &str,
    columns: &[Column],
    purpose: &Purpose,
    self_test: bool,
    boot: BootChoice,
) -> Result<()> {
    if let Some(column) = columns.iter().find(|column| !column.spec.has_source()) {
        return Err(Error::usage(format!("--suite {name} cannot be run on {}", column.spec))
            .why("it boots through vng, and upstream's tests need source; this is a finished kernel")
            .next("use src:, tree:, git: or tar:, or run the finished kernels in a second run"));
    }
    let other = match purpose {
        Purpose::Test => None,
        Purpose::Exec(_) => Some("--exec"),
        Purpose::Shell => Some("--shell"),
        Purpose::Gdb => Some("--gdb"),
    };
    if let Some(option) = other {
        return Err(Error::usage(format!("{option} runs at most one suite"))
            .why(format!("--suite {name} is also given")));
    }
    if self_test {
        return Err(Error::usage("--self-test damages the own suite")
            .why(format!("--suite {name} has expectations of its own")));
    }
    if boot == BootChoice::Direct {
        return Err(Error::usage(format!("--suite {name} cannot be booted directly"))
            .why("it needs the build root's shell and libraries, which only a boot through vng provides")
            .next("leave out --boot direct"));
    }
    Ok(())
}

/// The series on top of a kernel. A kernel that is named is used as is: only without any names it gets the
/// project's own series.
fn series(kernels: &[String], patches: &[PathBuf], toolchain: Toolchain) -> Result<Vec<Named>> {
    if kernels.is_empty() && patches.is_empty() {
        return Ok(vec![Named::Maintained(DEFAULT_SERIES)]);
    }
    let named =
        |path: &PathBuf| match path.to_str().filter(|_| b4::is_meant(path)).map(b4::remote).transpose()? {
            Some(Some(remote)) => Ok(Named::Mail(remote, toolchain)),
            _ => Ok(Named::Typed(path.clone())),
        };
    patches.iter().map(named).collect()
}
