// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what was typed to what will be done. Pure: impossible combinations are refused by name before any work.

mod columns;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globset::GlobMatcher;
use vmtest_protocol::{Effort, TestName};

use crate::cli::{BootArg, EffortArg, Suite, VmtestArgs};
use crate::error::{Error, Result};
use crate::host::Toolchain;
use crate::kernel::maintained::Named;
use crate::kernel::series::Series;
use crate::kernel::spec::KernelSpec;
use crate::result::Role;
use crate::suite::{TestFilter, compile};
use crate::vm::accel::{AccelChoice, Kind};
use crate::vm::session::Limits;

pub use columns::{Columns, Upto, expand};

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
    /// Whether expectations are turned round.
    pub self_test: bool,
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

/// A limit that `--timeout` can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Start to the first byte.
    FirstByte,
    /// Start to the runner's hello.
    Boot,
    /// Without a byte.
    Idle,
    /// Start to end.
    Run,
    /// The runner's last word to QEMU's end.
    Shutdown,
}

impl Limit {
    const ALL: [(&'static str, Limit); 5] = [
        ("first-byte", Limit::FirstByte),
        ("boot", Limit::Boot),
        ("idle", Limit::Idle),
        ("run", Limit::Run),
        ("shutdown", Limit::Shutdown),
    ];

    /// Seconds under KVM, and when emulated. An emulated guest is 3 to 30 times slower, most at boot.
    fn default(self, accel: Kind) -> Duration {
        let (kvm, tcg) = match self {
            Limit::FirstByte => (10, 30),
            Limit::Boot => (30, 120),
            Limit::Idle => (60, 180),
            Limit::Run => (300, 1200),
            Limit::Shutdown => (10, 30),
        };
        Duration::from_secs(if accel == Kind::Kvm { kvm } else { tcg })
    }
}

/// A skip that does not count against the run.
#[derive(Debug, Clone)]
pub struct AllowSkip {
    kernel: Option<GlobMatcher>,
    test: GlobMatcher,
}

impl AllowSkip {
    fn parse(text: &str) -> Result<AllowSkip> {
        let (kernel, test) = match text.split_once('=') {
            Some((kernel, test)) => (Some(compile(kernel)?.compile_matcher()), test),
            None => (None, text),
        };
        if test.is_empty() {
            return Err(Error::usage(format!("--allow-skip `{text}` names no test"))
                .next("write [KERNEL=]GLOB, for example 'debian:6.19*=*'"));
        }
        Ok(AllowSkip { kernel, test: compile(test)?.compile_matcher() })
    }

    /// Whether it allows this cell to be skipped.
    pub fn allows(&self, kernel: &str, name: &TestName) -> bool {
        self.kernel.as_ref().is_none_or(|glob| glob.is_match(kernel))
            && (self.test.is_match(name.path()) || self.test.is_match(&name.test))
    }
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
        let units = units(kernels, variants, patches, config)?;
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
        refuse_columns(columns, *first_n, &purpose, &units, &patches)?;
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
            self_test: *self_test,
            boot: *boot,
            accel: *accel,
            toolchain: *toolchain,
            allow_skip: allow_skip.iter().map(|text| AllowSkip::parse(text)).collect::<Result<_>>()?,
            config: config.clone(),
            append: append.iter().map(|word| parameter(word)).collect::<Result<_>>()?,
            sysctls: sysctls.iter().map(|text| sysctl(text)).collect::<Result<_>>()?,
            cpus: *cpus,
            memory_mib: memory.as_deref().map(mebibytes).transpose()?,
            timeouts: timeouts.iter().map(|text| timeout(text)).collect::<Result<_>>()?,
            make_jobs: make_jobs.map_or(cores + 1, |jobs| jobs as usize),
            vms: vms.map_or((cores / 2).max(1), |vms| vms as usize),
            fail_fast: *fail_fast,
            purpose,
        })
    }

    /// Limits of a guest on this accelerator.
    pub fn limits(&self, accel: Kind) -> Limits {
        let of = |limit: Limit| self.timeouts.get(&limit).copied().unwrap_or(limit.default(accel));
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
            let unit =
                Unit { spec: spec.clone(), variant, label: None, upto: Upto::All, on_top: None, role: None };
            if units.contains(&unit) {
                return Err(Error::usage(format!("{} is asked for twice", unit.spec)));
            }
            units.push(unit);
        }
    }
    Ok(units)
}

/// Options about parts of a series, where there is no series or the rest asks for something else.
fn refuse_columns(
    columns: Columns,
    first_n: Option<u32>,
    purpose: &Purpose,
    units: &[Unit],
    patches: &[Named],
) -> Result<()> {
    let option = match (columns, first_n) {
        (Columns::EachPatch, _) => "--each-patch",
        (Columns::WithBase, _) => "--with-base",
        (Columns::Whole, Some(_)) => "--first-n",
        (Columns::Whole, None) => return Ok(()),
    };
    let has_series = |unit: &Unit| !patches.is_empty() || matches!(unit.spec, KernelSpec::GitRange { .. });
    if !units.iter().any(has_series) {
        return Err(Error::usage(format!("{option} needs a series"))
            .why("a kernel that is named is taken as it is, and no patches are named")
            .next("add --patches, take a range git:PATH@A..B as the kernel, or leave out --kernel"));
    }
    if columns != Columns::Whole && *purpose != Purpose::Test {
        return Err(Error::usage(format!("{option} makes several guests"))
            .why("--shell, --exec and --gdb look inside one")
            .next("to look at a kernel with part of a series, take --first-n"));
    }
    if columns == Columns::EachPatch && units.len() > 1 {
        return Err(Error::usage("--each-patch is for one kernel in one variant")
            .why(format!("{} kernels and variants are asked for", units.len()))
            .next("test them in several runs"));
    }
    Ok(())
}

/// What a kernel gets on top. A kernel that is named is taken as it is: only who names nothing gets the project's own.
fn series(kernels: &[String], patches: &[PathBuf]) -> Vec<Named> {
    if kernels.is_empty() && patches.is_empty() {
        return vec![Named::Maintained(DEFAULT_SERIES)];
    }
    patches.iter().cloned().map(Named::Typed).collect()
}

/// One kernel parameter: it travels between spaces, so it cannot hold one.
fn parameter(word: &str) -> Result<String> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || "\"'`$\\;&|<>(){}*?!#~".contains(c);
    if word.is_empty() || word.chars().any(bad) {
        return Err(Error::usage(format!("--append `{}` is not one kernel parameter", word.escape_debug()))
            .why("it is empty, or holds a space, a quote or another character that a shell or the kernel would split at")
            .next("give each parameter its own --append"));
    }
    Ok(word.to_owned())
}

fn sysctl(text: &str) -> Result<String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-/=,:".contains(c);
    match text.split_once('=') {
        Some((name, value))
            if !name.is_empty() && !value.is_empty() && text.chars().all(fine) && !text.contains("..") =>
        {
            Ok(text.to_owned())
        }
        _ => Err(Error::usage(format!("--sysctl `{}` is not NAME=VALUE", text.escape_debug()))
            .next("for example --sysctl net.core.bpf_jit_harden=2")),
    }
}

/// `512`, `512M`, `2G`.
fn mebibytes(text: &str) -> Result<u32> {
    let wrong = || {
        Error::usage(format!("--memory `{}` is not a size", text.escape_debug()))
            .next("write 512M or 2G, at least 128M and at most 1024G")
    };
    let (digits, factor) = match text.strip_suffix(['M', 'm']) {
        Some(digits) => (digits, 1),
        None => text.strip_suffix(['G', 'g']).map_or((text, 1), |digits| (digits, 1024)),
    };
    let size: u32 = digits.parse().map_err(|_| wrong())?;
    size.checked_mul(factor).filter(|size| (128..=1_048_576).contains(size)).ok_or_else(wrong)
}

fn timeout(text: &str) -> Result<(Limit, Duration)> {
    let names = Limit::ALL.map(|(name, _)| name).join(", ");
    let wrong = |why: &str| {
        Error::usage(format!("--timeout `{}` is not PHASE=SECONDS", text.escape_debug()))
            .why(why)
            .next(format!("phases are {names}"))
    };
    let (name, seconds) = text.split_once('=').ok_or_else(|| wrong("there is no `=`"))?;
    let found = Limit::ALL.into_iter().find(|(known, _)| *known == name);
    let (_, limit) = found.ok_or_else(|| wrong("there is no such phase"))?;
    let seconds: u32 = seconds.parse().map_err(|_| wrong("the time is not a whole number"))?;
    if seconds == 0 {
        return Err(wrong("nothing ends within 0 seconds"));
    }
    Ok((limit, Duration::from_secs(seconds.into())))
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
        assert_eq!(plan.limits(Kind::Tcg).idle, Duration::from_secs(7));
        assert!(plan.limits(Kind::Tcg).boot > plan.limits(Kind::Kvm).boot);
    }
}
