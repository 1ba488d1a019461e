// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses values of options. Pure.

use std::time::Duration;

use globset::GlobMatcher;
use vmtest_protocol::TestName;

use vmtest_base::error::{Error, Result};
use vmtest_base::{duration, size};
use vmtest_host::accel::Kind;
use vmtest_kernel::reserved;
use vmtest_suite::own::compile;

/// A limit that `--timeout` can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// From start to the first byte.
    FirstByte,
    /// From start to the runner's `hello`.
    Boot,
    /// Without a byte.
    Idle,
    /// From start to end.
    Run,
    /// From the runner's last event to QEMU's exit.
    Shutdown,
    /// One make, of a kernel or of a suite.
    Build,
}

impl Limit {
    const ALL: [(&'static str, Limit); 6] = [
        ("first-byte", Limit::FirstByte),
        ("boot", Limit::Boot),
        ("idle", Limit::Idle),
        ("run", Limit::Run),
        ("shutdown", Limit::Shutdown),
        ("build", Limit::Build),
    ];

    /// Seconds under KVM, and when emulated. An emulated guest is 3 to 30 times slower, mostly at boot.
    pub(super) fn default(self, accel: Kind) -> Duration {
        let (kvm, tcg) = match self {
            Limit::FirstByte => (10, 30),
            Limit::Boot => (30, 120),
            Limit::Idle => (60, 180),
            Limit::Run => (300, 1200),
            Limit::Shutdown => (10, 30),
            // A distribution's whole configuration takes an hour on two cores.
            Limit::Build => (7200, 7200),
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
    pub(super) fn parse(text: &str) -> Result<AllowSkip> {
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

    /// Whether this cell may be skipped.
    pub fn allows(&self, kernel: &str, name: &TestName) -> bool {
        self.kernel.as_ref().is_none_or(|glob| glob.is_match(kernel))
            && (self.test.is_match(name.path()) || self.test.is_match(&name.test))
    }
}

/// A QEMU CPU model, optionally with flags (`max,-avx`). vng passes it to a shell unquoted.
///
/// # Errors
/// Class `Usage` for anything else.
pub(super) fn cpu_model(text: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,+=".contains(c);
    if text.is_empty() || !text.chars().all(plain) {
        return Err(Error::usage(format!("--cpu-model `{text}` is not a QEMU CPU model"))
            .next("`qemu-system-x86_64 -cpu help` lists them; flags follow with commas: max,-avx"));
    }
    Ok(text.to_owned())
}

/// One kernel parameter: parameters are separated by spaces, so it cannot contain one. The kernel may also
/// treat a non-ASCII byte as a space.
///
/// # Errors
/// Class `Usage`, also for a [reserved](vmtest_kernel::reserved) parameter.
pub fn parameter(word: &str) -> Result<String> {
    if let Some(reserved) = reserved::in_cmdline(word) {
        return Err(reserved.refused(format!("--append `{}`", word.escape_debug())));
    }
    let bad = |c: char| !c.is_ascii_graphic() || "\"'`$\\;&|<>(){}*?!#~".contains(c);
    if word.is_empty() || word.chars().any(bad) {
        return Err(Error::usage(format!("--append `{}` is not one kernel parameter", word.escape_debug()))
            .why("it is empty, or contains a space, a quote or another character at which a shell or the kernel splits")
            .next("give each parameter its own --append"));
    }
    Ok(word.to_owned())
}

/// A sysctl and its value.
///
/// # Errors
/// Class `Usage`, also for a [reserved](vmtest_kernel::reserved) sysctl.
pub fn sysctl(text: &str) -> Result<String> {
    if let Some(reserved) = text.split_once('=').and_then(|(name, value)| reserved::of_sysctl(name, value)) {
        return Err(reserved.refused(format!("--sysctl `{}`", text.escape_debug())));
    }
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
pub(super) fn mebibytes(text: &str) -> Result<u32> {
    let wrong = || {
        Error::usage(format!("--memory `{}` is not a size", text.escape_debug()))
            .next("write 512M or 2G, at least 128M and at most 1024G")
    };
    let found = size::parse_mebibytes(text).and_then(|size| u32::try_from(size).ok());
    found.filter(|size| (128..=1_048_576).contains(size)).ok_or_else(wrong)
}

pub(super) fn timeout(text: &str) -> Result<(Limit, Duration)> {
    let names = Limit::ALL.map(|(name, _)| name).join(", ");
    let wrong = |why: &str| {
        Error::usage(format!("--timeout `{}` is not PHASE=TIME", text.escape_debug()))
            .why(why)
            .next(format!("valid phases: {names}"))
    };
    let (name, time) = text.split_once('=').ok_or_else(|| wrong("there is no `=`"))?;
    let found = Limit::ALL.into_iter().find(|(known, _)| *known == name);
    let (_, limit) = found.ok_or_else(|| wrong("unknown phase"))?;
    let time = duration::parse(time).map_err(|why| wrong(&why))?;
    if time.is_zero() {
        return Err(wrong("the time must be at least 1 second"));
    }
    Ok((limit, time))
}
