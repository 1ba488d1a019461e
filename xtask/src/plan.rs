// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what was typed to what will be done. Pure: impossible combinations are refused by name before any work.

mod columns;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vmtest_protocol::{Effort, SelfTest, TestName};

use crate::cli::{BootArg, EffortArg, SelfTestArg, Suite, VmtestArgs};
use crate::error::{Error, Result};
use crate::host::Toolchain;
use crate::kernel::maintained::Named;
use crate::kernel::series::Series;
use crate::kernel::spec::KernelSpec;
use crate::result::Role;
use crate::suite::TestFilter;
use crate::vm::accel::{AccelChoice, Kind};
use crate::vm::session::Limits;

pub use columns::{Columns, Upto, expand};
pub use values::{AllowSkip, Limit};

/// Kernel of a run that names none.
pub const DEFAULT_KERNEL: &str = "src:6.18";
/// Short name of the series on top of [`DEFAULT_KERNEL`], in a run that names neither kernel nor series.
pub const DEFAULT_SERIES: &str = "fsession";
/// Variant of a run that names none.
pub const DEFAULT_VARIANT: &str = "default";
/// Memory of a guest when neither the command line nor the variant says.
pub const DEFAULT_MEMORY_MIB: u32 = 512;

/// One kernel in one variant: a column of the matrix, and one boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Which kernel.
    pub spec: KernelSpec,
    /// Which variant; `None` for a kernel that is not built here.
    pub variant: Option<String>,
    /// Name of its column where the kernel's own would also be another's; `None` elsewhere.
    pub label: Option<String>,
    /// How much of the series is on top.
    pub upto: Upto,
    /// Another series on top of that; `None`: no.
    pub on_top: Option<Arc<Series>>,
    /// What it is for, where it is only there to compare with.
    pub role: Option<Role>,
    /// What of the suite is damaged on purpose; `None`: nothing.
    pub self_test: Option<SelfTest>,
}

/// What the guests are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Run the suite.
    Test,
    /// Run one command.
    Exec(String),
    /// An interactive shell.
    Shell,
    /// Wait for a debugger, then run the suite.
    Gdb,
}

/// What will be done.
#[derive(Debug)]
pub struct Plan {
    /// Columns, in the order asked for: one for each kernel and variant, until [`expand`] makes more of them.
    pub units: Vec<Unit>,
    /// Which columns a kernel with a series becomes.
    pub columns: Columns,
    /// Only so many patches of the series; `None`: all.
    pub first_n: Option<usize>,
    /// Series, in the order asked for.
    pub patches: Vec<Named>,
    /// Which subtests.
    pub filter: TestFilter,
    /// How much.
    pub effort: Effort,
    /// How guests start.
    pub boot: BootArg,
    /// What they run on.
    pub accel: AccelChoice,
    /// Whose tools.
    pub toolchain: Toolchain,
    /// Skips that do not count.
    pub allow_skip: Vec<AllowSkip>,
    /// Further fragments.
    pub config: Vec<PathBuf>,
    /// Further kernel parameters.
    pub append: Vec<String>,
    /// `name=value`.
    pub sysctls: Vec<String>,
    /// Virtual CPUs; `None`: what suits the boot.
    pub cpus: Option<u32>,
    /// QEMU's CPU model; `None`: the variant's, else what suits the accelerator.
    pub cpu_model: Option<String>,
    /// Memory; `None`: the variant's, else [`DEFAULT_MEMORY_MIB`].
    pub memory_mib: Option<u32>,
    /// Limits that replace the scaled defaults.
    pub timeouts: BTreeMap<Limit, Duration>,
    /// Jobs of make.
    pub make_jobs: usize,
    /// Guests at once.
    pub vms: usize,
    /// Start nothing after the first bad boot.
    pub fail_fast: bool,
    /// What the guests are for.
    pub purpose: Purpose,
}

impl Plan {
    /// Makes sense of the arguments.
    ///
    /// # Errors
    /// Class `Usage`.
    pub fn new(args: &VmtestArgs) -> Result<Plan> {
        // A new option is a compile error here until it is handled.
        let VmtestArgs {
            kernels,
            patches,
            with_base,
            each_patch,
            first_n,
            variants,
            suite: Suite::Own,
            tests,
            effort,
            boot,
            accel,
            toolchain,
            allow_skip,
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
            json: _,
            out: _,
            dry_run: _,
            list: _,
            shell,
            exec,
            gdb,
            self_test,
            mirror: _,
        } = args;
        let mut units = units(kernels, variants, patches, config)?;
        let self_test = self_test.map(SelfTestArg::meant);
        units.iter_mut().for_each(|unit| unit.self_test = self_test);
        let purpose = match (exec, shell, gdb) {
            (Some(command), _, _) if command.trim().is_empty() => {
                return Err(Error::usage("--exec names no command"));
            }
            (Some(command), _, _) => Purpose::Exec(command.clone()),
            (None, true, _) => Purpose::Shell,
            (None, false, true) => Purpose::Gdb,
            (None, false, false) => Purpose::Test,
        };
        if purpose != Purpose::Test && units.len() > 1 {
            return Err(Error::usage("--shell, --exec and --gdb look inside one guest")
                .why(format!("{} kernels and variants are asked for", units.len())));
        }
        let columns = match (with_base, each_patch) {
            // clap refuses both.
            (_, true) => Columns::EachPatch,
            (true, false) => Columns::WithBase,
            (false, false) => Columns::Whole,
        };
        let patches = series(kernels, patches);
        columns::refuse(columns, *first_n, &purpose, &units, &patches)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Plan {
            units,
            patches,
            columns,
            first_n: first_n.map(|count| count as usize),
            filter: TestFilter::new(tests)?,
            effort: match effort {
                EffortArg::Quick => Effort::Quick,
                EffortArg::Normal => Effort::Normal,
            },
            boot: *boot,
            accel: *accel,
            toolchain: *toolchain,
            allow_skip: allow_skip.iter().map(|text| AllowSkip::parse(text)).collect::<Result<_>>()?,
            config: config.clone(),
            append: append.iter().map(|word| values::parameter(word)).collect::<Result<_>>()?,
            sysctls: sysctls.iter().map(|text| values::sysctl(text)).collect::<Result<_>>()?,
            cpus: *cpus,
            cpu_model: cpu_model.as_deref().map(values::cpu_model).transpose()?,
            memory_mib: memory.as_deref().map(values::mebibytes).transpose()?,
            timeouts: timeouts.iter().map(|text| values::timeout(text)).collect::<Result<_>>()?,
            make_jobs: make_jobs.map_or(cores + 1, |jobs| jobs as usize),
            vms: vms.map_or((cores / 2).max(1), |vms| vms as usize),
            fail_fast: *fail_fast,
            purpose,
        })
    }

    /// Limits of a guest on this accelerator, whose variant makes it `slowdown` times slower. One that was asked for is
    /// not scaled.
    pub fn limits(&self, accel: Kind, slowdown: u32) -> Limits {
        let of = |limit: Limit| self.timeouts.get(&limit).copied().unwrap_or(limit.default(accel) * slowdown);
        Limits {
            first_byte: of(Limit::FirstByte),
            boot: of(Limit::Boot),
            idle: of(Limit::Idle),
            run: of(Limit::Run),
            shutdown: of(Limit::Shutdown),
        }
    }

    /// Whether a skip of this cell counts.
    pub fn may_skip(&self, kernel: &str, name: &TestName) -> bool {
        self.allow_skip.iter().any(|allow| allow.allows(kernel, name))
    }
}

fn units(
    kernels: &[String],
    variants: &[String],
    patches: &[PathBuf],
    config: &[PathBuf],
) -> Result<Vec<Unit>> {
    let default = [DEFAULT_KERNEL.to_owned()];
    let kernels = if kernels.is_empty() { &default[..] } else { kernels };
    let mut units: Vec<Unit> = Vec::new();
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
                    .why("it is a finished kernel: there is no source here to patch or configure")
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
            let unit = Unit {
                spec: spec.clone(),
                variant,
                label: None,
                upto: Upto::All,
                on_top: None,
                role: None,
                self_test: None,
            };
            if units.contains(&unit) {
                return Err(Error::usage(format!("{} is asked for twice", unit.spec)));
            }
            units.push(unit);
        }
    }
    Ok(units)
}

/// What a kernel gets on top. A kernel that is named is taken as it is: only who names nothing gets the project's own.
fn series(kernels: &[String], patches: &[PathBuf]) -> Vec<Named> {
    if kernels.is_empty() && patches.is_empty() {
        return vec![Named::Maintained(DEFAULT_SERIES)];
    }
    patches.iter().cloned().map(Named::Typed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::error::Class;
    use clap::Parser;

    fn plan(words: &[&str]) -> Result<Plan> {
        let cli = Cli::try_parse_from(["xtask", "vmtest"].iter().chain(words)).expect("clap accepts it");
        match cli.command {
            Command::Vmtest(args) => Plan::new(&args),
            _ => unreachable!("vmtest was typed"),
        }
    }

    #[test]
    fn kernels_times_variants_are_units_and_images_have_none() {
        let all = plan(&[
            "--kernel",
            "src:7.3",
            "--kernel",
            "tree:/l",
            "--variant",
            "default",
            "--variant",
            "nojit",
        ]);
        assert_eq!(all.expect("a plan").units.len(), 4);
        let mixed = plan(&["--kernel", "debian:7.0.13", "--kernel", "src:7.3"]).expect("a plan");
        assert_eq!(
            mixed.units.iter().map(|unit| unit.variant.as_deref()).collect::<Vec<_>>(),
            [None, Some("default")]
        );
    }

    #[test]
    fn the_series_of_the_project_is_the_default_only_where_nothing_is_named() {
        let of = |words: &[&str]| {
            let plan = plan(words).expect("a plan");
            (plan.units[0].spec.to_string(), plan.patches)
        };
        let typed = vec![Named::Typed("my".into())];
        assert_eq!(of(&[]), (DEFAULT_KERNEL.to_owned(), vec![Named::Maintained(DEFAULT_SERIES)]));
        assert_eq!(of(&["--patches", "my"]), (DEFAULT_KERNEL.to_owned(), typed.clone()));
        assert_eq!(of(&["--kernel", "src:6.18"]), ("src:6.18".to_owned(), vec![]));
        assert_eq!(of(&["--kernel", "src:7.3", "--patches", "my"]), ("src:7.3".to_owned(), typed));
    }

    #[test]
    fn impossible_combinations_are_refused_by_name() {
        for (words, named) in [
            (&["--kernel", "debian:7.0.13", "--patches", "x"][..], "--patches"),
            (&["--kernel", "image:x", "--variant", "nojit"], "--variant"),
            (&["--kernel", "image:x", "--config", "f"], "--config"),
            (&["--kernel", "src:7.3", "--kernel", "src:7.3"], "twice"),
            (&["--shell", "--kernel", "src:7.3", "--kernel", "src:6.18"], "--shell"),
            (&["--append", "a b"], "--append"),
            (&["--append", "x=$(reboot)"], "--append"),
            (&["--sysctl", "net.core.x"], "--sysctl"),
            (&["--sysctl", "../x=1"], "--sysctl"),
            (&["--cpu-model", "max $(reboot)"], "--cpu-model"),
            (&["--cpu-model", ""], "--cpu-model"),
            (&["--memory", "lots"], "--memory"),
            (&["--memory", "64M"], "--memory"),
            (&["--timeout", "boot"], "--timeout"),
            (&["--timeout", "build=3"], "--timeout"),
            (&["--timeout", "boot=0"], "--timeout"),
            (&["--allow-skip", "debian:*="], "--allow-skip"),
            (&["--allow-skip", "["], "glob"),
            (&["--exec", " "], "--exec"),
            (&["--kernel", "src:6.18", "--with-base"], "--with-base needs a series"),
            (&["--kernel", "src:6.18", "--each-patch"], "--each-patch needs a series"),
            (&["--kernel", "debian:7.0.13", "--first-n", "2"], "--first-n needs a series"),
            (&["--each-patch", "--exec", "true"], "--each-patch makes several guests"),
            (&["--with-base", "--gdb"], "--with-base makes several guests"),
            (&["--each-patch", "--variant", "default", "--variant", "nojit"], "one kernel in one variant"),
            (
                &["--each-patch", "--patches", "x", "--kernel", "src:7.3", "--kernel", "src:6.18"],
                "--each-patch is",
            ),
        ] {
            let error = plan(words).expect_err(named);
            assert_eq!(error.class, Class::Usage, "{words:?}");
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn an_allowed_skip_is_bound_to_its_kernel() {
        let plan = plan(&["--allow-skip", "debian:6.19*=*"]).expect("a plan");
        let name = TestName { test: "basic".into(), subtest: "x".into() };
        assert!(plan.may_skip("debian:6.19.11", &name));
        assert!(!plan.may_skip("debian:7.0.13", &name));
    }

    #[test]
    fn limits_are_scaled_and_overridden() {
        let plan = plan(&["--timeout", "idle=7", "--memory", "2G"]).expect("a plan");
        assert_eq!(plan.memory_mib, Some(2048));
        assert_eq!(plan.limits(Kind::Tcg, 1).idle, Duration::from_secs(7));
        assert!(plan.limits(Kind::Tcg, 1).boot > plan.limits(Kind::Kvm, 1).boot);
        assert_eq!(plan.limits(Kind::Kvm, 3).run, plan.limits(Kind::Kvm, 1).run * 3);
        assert_eq!(plan.limits(Kind::Tcg, 3).idle, Duration::from_secs(7));
    }
}
