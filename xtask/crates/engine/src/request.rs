// SPDX-License-Identifier: MIT OR Apache-2.0
//! The request for a run, as data: made from the command line, a job of a matrix, a bisection or the mutant
//! runner. It is validated by `Plan`.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use vmtest_protocol::{Effort, SelfTest};

use vmtest_host::accel::AccelChoice;
use vmtest_host::doctor::Toolchain;

/// A run as requested. Values that only `Plan` can validate are kept as typed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Specs of kernels; empty for the default kernel.
    pub kernels: Vec<String>,
    /// Paths or names of series, in order.
    pub patches: Vec<PathBuf>,
    /// Put the unpatched kernel before each patched one.
    pub with_base: bool,
    /// A column for each patch.
    pub each_patch: bool,
    /// Leave out the column without patches; only with `each_patch`.
    #[serde(default)]
    pub without_base: bool,
    /// Use only this many patches of the series; `None`: all.
    pub first_n: Option<u32>,
    /// Variants; empty for the default one.
    pub variants: Vec<String>,
    /// Suites to run.
    pub suites: Vec<Suite>,
    /// Also run tests on the tree's deny lists.
    pub ignore_denylist: bool,
    /// Tree whose own tests run, in place of that of each kernel.
    #[serde(default)]
    pub suite_tree: Option<String>,
    /// Globs of subtests; empty for all.
    pub tests: Vec<String>,
    /// How much to run.
    pub effort: Effort,
    /// Rounds in one boot; `None`: not requested.
    pub repeat: Option<u32>,
    /// Repeat until a failure.
    pub until_fail: bool,
    /// How often failed or lost tests are retried; `None`: never.
    pub retries: Option<u32>,
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
    /// `[KERNEL=]GLOB` of skips that do not count.
    pub allow_skip: Vec<String>,
    /// A whole `.config` as the base; `None`: `allnoconfig`.
    pub kconfig: Option<PathBuf>,
    /// Variables for make, `W=1`.
    pub make: Vec<String>,
    /// Additional config fragments.
    pub config: Vec<PathBuf>,
    /// Additional kernel parameters.
    pub append: Vec<String>,
    /// Sysctls as `name=value`.
    pub sysctls: Vec<String>,
    /// Virtual CPUs; `None`: the default for the boot.
    pub cpus: Option<u32>,
    /// QEMU's CPU model; `None`: the variant's.
    pub cpu_model: Option<String>,
    /// Memory of a guest, with its unit; `None`: the variant's.
    pub memory: Option<String>,
    /// Limits as `PHASE=TIME`.
    pub timeouts: Vec<String>,
    /// Jobs of make; `None`: from the number of cores.
    pub make_jobs: Option<u32>,
    /// Most guests at once; `None`: from the number of cores.
    pub vms: Option<u32>,
    /// Start nothing after the first bad boot.
    pub fail_fast: bool,
    /// The purpose of the guests.
    pub purpose: Purpose,
    /// Directory of the host for a guest without tests, `DIR` or `DIR:rw`; `None`: the tree that is tested, if any.
    #[serde(default)]
    pub share: Option<String>,
    /// Checks of each patch that need no guest; only with `each_patch`.
    #[serde(default)]
    pub checks: Vec<CheckName>,
    /// Build every kernel and boot none.
    #[serde(default)]
    pub build_only: bool,
    /// How the suite is damaged on purpose; `None`: not.
    #[serde(skip)]
    pub self_test: Option<SelfTest>,
}

/// A check of a patch that needs no guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckName {
    /// New compiler warnings of W=1 in the files that the patch touches.
    Warnings,
    /// scripts/checkpatch.pl --strict of the tree.
    Checkpatch,
    /// Types and functions whose BTF changed.
    Btf,
    /// Headers of user space that changed incompatibly, by scripts/check-uapi.sh of the tree.
    Uapi,
    /// Functions whose machine code changed.
    Functions,
}

impl CheckName {
    /// All of them, in the order of the report.
    pub const ALL: [CheckName; 5] =
        [CheckName::Warnings, CheckName::Checkpatch, CheckName::Btf, CheckName::Uapi, CheckName::Functions];

    /// Its name on the command line and in the record.
    pub fn name(self) -> &'static str {
        match self {
            CheckName::Warnings => "warnings",
            CheckName::Checkpatch => "checkpatch",
            CheckName::Btf => "btf",
            CheckName::Uapi => "uapi",
            CheckName::Functions => "functions",
        }
    }
}

impl Default for Request {
    /// The request of `cargo xtask vmtest` without options.
    fn default() -> Request {
        Request {
            kernels: Vec::new(),
            patches: Vec::new(),
            with_base: false,
            each_patch: false,
            without_base: false,
            first_n: None,
            variants: Vec::new(),
            suites: vec![Suite::Own],
            ignore_denylist: false,
            suite_tree: None,
            tests: Vec::new(),
            effort: Effort::Normal,
            repeat: None,
            until_fail: false,
            retries: None,
            allow_flaky: false,
            allow_splats: None,
            boot: BootChoice::Auto,
            accel: AccelChoice::Auto,
            toolchain: Toolchain::Image,
            allow_skip: Vec::new(),
            kconfig: None,
            make: Vec::new(),
            config: Vec::new(),
            append: Vec::new(),
            sysctls: Vec::new(),
            cpus: None,
            cpu_model: None,
            memory: None,
            timeouts: Vec::new(),
            make_jobs: None,
            vms: None,
            fail_fast: false,
            purpose: Purpose::Test,
            share: None,
            checks: Vec::new(),
            build_only: false,
            self_test: None,
        }
    }
}

impl Request {
    /// The equivalent options of `vmtest`, each followed by its value; defaults are omitted.
    pub fn words(&self) -> Vec<String> {
        // A new field is a compile error here until it is handled.
        let Request {
            kernels,
            patches,
            with_base,
            each_patch,
            // Like `checks`.
            without_base: _,
            first_n,
            variants,
            suites,
            ignore_denylist,
            suite_tree,
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
            // `review` has a command line of its own.
            checks: _,
            build_only: _,
            self_test,
        } = self;
        let default = Request::default();
        let mut words = Words::default();
        words.each("--kernel", kernels);
        words.each("--patches", patches.iter().map(|path| path.display()));
        words.flag("--with-base", *with_base);
        words.flag("--each-patch", *each_patch);
        words.each("--first-n", first_n);
        words.each("--variant", variants);
        if *suites != default.suites {
            words.each("--suite", suites.iter().cloned().map(String::from));
        }
        words.flag("--ignore-denylist", *ignore_denylist);
        words.each("--suite-tree", suite_tree);
        words.each("--test", tests);
        words.each("--effort", Some(effort.name()).filter(|_| *effort != default.effort));
        words.each("--repeat", repeat);
        words.flag("--until-fail", *until_fail);
        words.each("--retries", retries);
        words.flag("--allow-flaky", *allow_flaky);
        words.each("--allow-splats", allow_splats.iter().map(|path| path.display()));
        words.choice("--boot", *boot, default.boot);
        words.choice("--accel", *accel, default.accel);
        words.choice("--toolchain", *toolchain, default.toolchain);
        words.each("--allow-skip", allow_skip);
        words.each("--kconfig", kconfig.iter().map(|path| path.display()));
        words.0.extend(make.iter().cloned());
        words.each("--config", config.iter().map(|path| path.display()));
        words.each("--append", append);
        words.each("--sysctl", sysctls);
        words.each("--cpus", cpus);
        words.each("--cpu-model", cpu_model);
        words.each("--memory", memory);
        words.each("--timeout", timeouts);
        words.each("--make-jobs", make_jobs);
        words.each("--vms", vms);
        words.flag("--fail-fast", *fail_fast);
        match purpose {
            Purpose::Test => (),
            Purpose::Exec(command) => words.each("--exec", [command]),
            Purpose::Shell => words.flag("--shell", true),
            Purpose::Gdb => words.flag("--gdb", true),
        }
        words.each("--share", share);
        words.0.extend(self_test.map(|how| format!("--self-test={}", how.name())));
        words.0
    }
}

/// A command line under construction.
#[derive(Default)]
struct Words(Vec<String>);

impl Words {
    fn each(&mut self, option: &str, values: impl IntoIterator<Item: std::fmt::Display>) {
        self.0.extend(values.into_iter().flat_map(|value| [option.to_owned(), value.to_string()]));
    }

    fn flag(&mut self, option: &str, given: bool) {
        self.0.extend(given.then(|| option.to_owned()));
    }

    fn choice<T: ValueEnum + PartialEq>(&mut self, option: &str, value: T, default: T) {
        let named = value.to_possible_value().filter(|_| value != default);
        self.each(option, named.iter().map(|value| value.get_name()));
    }
}

/// Suites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Suite {
    /// This project's own.
    Own,
    /// `test_progs` of the tree under test, with only the chosen tests.
    Upstream,
    /// A program below selftests/suites/.
    Program(String),
}

impl From<String> for Suite {
    /// Accepts any word; whether there is such a program depends on the checkout.
    fn from(word: String) -> Suite {
        match word.as_str() {
            "own" => Suite::Own,
            "upstream" => Suite::Upstream,
            _ => Suite::Program(word),
        }
    }
}

impl From<Suite> for String {
    fn from(suite: Suite) -> String {
        match suite {
            Suite::Own => "own".to_owned(),
            Suite::Upstream => "upstream".to_owned(),
            Suite::Program(name) => name,
        }
    }
}

/// Ways to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootChoice {
    /// vng for what is built here, direct for images.
    #[default]
    Auto,
    /// Through virtme-ng.
    Vng,
    /// QEMU microvm with an initramfs.
    Direct,
}

/// What the guests are for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Run the suite.
    #[default]
    Test,
    /// Run one command.
    Exec(String),
    /// An interactive shell.
    Shell,
    /// Wait for a debugger, then run the suite.
    Gdb,
}
