// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this kernel has, what the tests therefore expect of it, and whether fsession programs can be tested at all.

use crate::{bpf, btf};
use nix::errno::Errno;
use std::collections::BTreeMap;

/// What was read from the kernel.
#[derive(Debug, Default)]
pub struct Features {
    /// Values and functions found in its BTF.
    pub btf: btf::Found,
    /// Why the BTF could not be read; then nothing is known to be absent.
    pub btf_error: Option<String>,
    /// `net.core.bpf_jit_enable`; `None` without CONFIG_BPF_JIT.
    pub jit: Option<i64>,
    /// How the kernel handles that vulnerability of the CPU; empty if it does not say.
    pub retbleed: String,
    /// `uname -r`.
    pub release: String,
}

/// Whether fsession programs can be tested here.
#[derive(Debug)]
pub enum Support {
    /// They load.
    Yes,
    /// The kernel lacks them and says so as it must: every subtest is a skip, for this reason.
    No(String),
    /// They should load, or should be refused in another way: every subtest fails, for this reason; with a log.
    Broken(String, String),
}

const FSESSION: &str = "BPF_TRACE_FSESSION";
const MAX_LINKS: &str = "BPF_MAX_TRAMP_LINKS";
const KFUNCS: [&str; 2] = ["bpf_session_cookie", "bpf_session_is_return"];
/// Target of the program that is loaded to find out.
const PROBED: &str = "bpf_fentry_test1";

impl Features {
    /// Reads BTF, sysctl and release.
    pub fn read() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let jit = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
        let found = std::fs::read("/sys/kernel/btf/vmlinux")
            .map_err(|err| format!("/sys/kernel/btf/vmlinux: {err}"))
            .and_then(|bytes| btf::find(&bytes, &[FSESSION, MAX_LINKS], &[KFUNCS[0], KFUNCS[1], PROBED]));
        let retbleed = std::fs::read_to_string("/sys/devices/system/cpu/vulnerabilities/retbleed");
        let (btf, btf_error) = match found {
            Ok(found) => (found, None),
            Err(err) => (btf::Found::default(), Some(err)),
        };
        let jit = jit.ok().and_then(|text| text.trim().parse().ok());
        Self {
            btf,
            btf_error,
            jit,
            retbleed: retbleed.unwrap_or_default(),
            release: release.trim().to_owned(),
        }
    }

    /// For the host: name to value.
    pub fn as_map(&self) -> BTreeMap<String, String> {
        let or_absent = |value: Option<String>| value.unwrap_or_else(|| "absent".to_owned());
        let value = |name: &str| or_absent(self.btf.values.get(name).map(i64::to_string));
        let params =
            |name: &str| or_absent(self.btf.funcs.get(name).map(|f| format!("{} parameters", f.params)));
        let mut map = BTreeMap::from([
            (FSESSION.to_owned(), value(FSESSION)),
            (MAX_LINKS.to_owned(), value(MAX_LINKS)),
            (KFUNCS[0].to_owned(), params(KFUNCS[0])),
            (KFUNCS[1].to_owned(), params(KFUNCS[1])),
            ("net.core.bpf_jit_enable".to_owned(), or_absent(self.jit.map(|jit| jit.to_string()))),
        ]);
        if let Some(err) = &self.btf_error {
            map.insert("btf_error".to_owned(), err.clone());
        }
        map
    }

    /// BTF id of bpf_fentry_test1, a target that nobody calls but a test run.
    pub fn target_id(&self) -> Result<u32, String> {
        self.btf.funcs.get(PROBED).map(|f| f.id).ok_or_else(|| format!("BTF has no function {PROBED}"))
    }

    /// Tries to load a program that does nothing and calls no kfunc, and holds the answer against the BTF.
    pub fn support(&self) -> Support {
        if let Some(err) = &self.btf_error {
            return Support::Broken(err.clone(), String::new());
        }
        let Some(target) = self.btf.funcs.get(PROBED) else {
            return Support::Broken(
                format!("BTF has no function {PROBED}: CONFIG_NET and CONFIG_BPF_EVENTS are needed"),
                String::new(),
            );
        };
        match self.btf.values.get(FSESSION) {
            None | Some(&bpf::FSESSION) => {}
            Some(other) => {
                return Support::Broken(
                    format!("{FSESSION} is {other} here, and {} in the runner's libbpf", bpf::FSESSION),
                    String::new(),
                );
            }
        }
        let (result, log) = bpf::load_minimal(bpf::AttachType::Fsession, target.id);
        match (self.btf.values.contains_key(FSESSION), result) {
            (true, Ok(_)) => Support::Yes,
            (true, Err(Errno::EOPNOTSUPP)) => Support::No(format!(
                "the JIT does not support fsession: load is -EOPNOTSUPP, log {:?}",
                log.trim()
            )),
            (true, Err(errno)) => Support::Broken(
                format!(
                    "BTF has {FSESSION}, but a program of that type that does nothing is refused: {errno}"
                ),
                log,
            ),
            (false, Err(Errno::EINVAL)) if says_nothing(&log) => Support::No(format!(
                "BTF has no {FSESSION}, and such a program is refused with -EINVAL and an empty log"
            )),
            (false, Ok(_)) => {
                Support::Broken(format!("BTF has no {FSESSION}, but such a program loads"), log)
            }
            (false, Err(errno)) => Support::Broken(
                format!(
                    "BTF has no {FSESSION}, but such a program is not refused with -EINVAL and an empty log: {errno}"
                ),
                log,
            ),
        }
    }
}

/// Whether a verifier's log holds no message: the count of instructions is added to any log that was asked for.
fn says_nothing(log: &str) -> bool {
    log.lines().all(|line| line.is_empty() || line.starts_with("processed 0 insns"))
}

/// What differs between kernels that have the feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Most programs with a session cookie on one target; `None` where only the number of links counts.
    pub cookie_limit: Option<u32>,
    /// BPF_MAX_TRAMP_LINKS: programs on one target, an fsession counting twice.
    pub max_links: Option<u32>,
    /// Whether each call of the kernel is accounted for, which takes room in a trampoline.
    pub call_depth_tracking: bool,
    /// Major and minor version, for bugs that are known to be in some.
    pub version: (u32, u32),
}

impl Profile {
    /// The cookie limit cannot be read from anywhere. It belongs to the series for long-term kernels; mainline got
    /// the feature in 7.0 without it.
    pub fn of(features: &Features) -> Self {
        let mut numbers =
            features.release.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self {
            cookie_limit: (version < (7, 0)).then_some(4),
            max_links: features.btf.values.get(MAX_LINKS).and_then(|&value| u32::try_from(value).ok()),
            call_depth_tracking: features.retbleed.contains("Stuffing"),
            version,
        }
    }

    /// For the host: name to value.
    pub fn as_map(&self) -> BTreeMap<String, String> {
        let text = |value: Option<u32>| value.map_or("none".to_owned(), |value| value.to_string());
        BTreeMap::from([
            ("cookie_limit".to_owned(), text(self.cookie_limit)),
            ("max_links".to_owned(), text(self.max_links)),
            ("call_depth_tracking".to_owned(), self.call_depth_tracking.to_string()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_any_release() {
        let version = |release: &str| {
            Profile::of(&Features { release: release.to_owned(), ..Features::default() }).version
        };
        assert_eq!(version("7.3.4"), (7, 3));
        assert_eq!(version("7.0.13+deb13-cloud-amd64"), (7, 0));
        assert_eq!(version("6.18-rc1"), (6, 18));
        assert_eq!(version("7.10-rc1"), (7, 10));
        assert_eq!(version(""), (0, 0));
    }

    #[test]
    fn an_empty_log_may_hold_a_count_but_no_message() {
        assert!(
            says_nothing("") && says_nothing("processed 0 insns (limit 1000000) max_states_per_insn 0\n")
        );
        assert!(!says_nothing("attach_btf_id 1 is not a function\nprocessed 0 insns (limit 1000000)\n"));
    }

    #[test]
    fn only_the_long_term_series_limits_cookies() {
        let limit = |release: &str| {
            Profile::of(&Features { release: release.to_owned(), ..Features::default() }).cookie_limit
        };
        assert_eq!(limit("6.18.15"), Some(4));
        assert_eq!(limit("7.0.13+deb13-cloud-amd64"), None);
        assert_eq!(limit("10.1.0"), None);
    }
}
