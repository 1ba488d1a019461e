// SPDX-License-Identifier: MIT OR Apache-2.0
//! The features of this kernel, and what the tests therefore expect of it.

use crate::btf;
use crate::coverage::GCOV;
use std::collections::BTreeMap;
use std::path::Path;

/// The features read from the kernel.
#[derive(Debug, Default)]
pub struct Features {
    /// Values and functions found in its BTF.
    pub btf: btf::Found,
    /// Why the BTF could not be read; if so, no feature is known to be absent.
    pub btf_error: Option<String>,
    /// `net.core.bpf_jit_enable`; `None` without CONFIG_BPF_JIT.
    pub jit: Option<i64>,
    /// The kernel's mitigation status for retbleed; empty if it does not report one.
    pub retbleed: String,
    /// `uname -r`.
    pub release: String,
    /// Properties of the machine and settings of the kernel, by our own names. The host compares them with
    /// the conditions of a variant: an emulator may present a CPU without the feature.
    pub system: BTreeMap<String, String>,
}

/// Files from which [`Features::system`] is read, by name.
const SYSTEM: [(&str, &str); 5] = [
    ("fail-nth", "/proc/thread-self/fail-nth"),
    ("net.core.bpf_jit_harden", "/proc/sys/net/core/bpf_jit_harden"),
    ("vulnerabilities.retbleed", "/sys/devices/system/cpu/vulnerabilities/retbleed"),
    ("vulnerabilities.spectre_v2", "/sys/devices/system/cpu/vulnerabilities/spectre_v2"),
    ("version", "/proc/version"),
];

/// CPU flags that a variant may require. The kernel clears a flag that it does not use.
const FLAGS: [&str; 2] = ["ibt", "user_shstk"];

fn system() -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    let mut system: BTreeMap<String, String> = SYSTEM
        .into_iter()
        .map(|(name, path)| (name.to_owned(), read(path).unwrap_or_else(|_| "absent".to_owned())))
        .collect();
    let gcov = if Path::new(GCOV).exists() { "yes" } else { "absent" };
    system.insert("gcov".to_owned(), gcov.to_owned());
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    for flag in FLAGS {
        system.insert(format!("cpu.{flag}"), flag_of(&cpuinfo, flag).to_owned());
    }
    system
}

/// `yes`, `no`, or `unknown` if no line lists the flags.
fn flag_of(cpuinfo: &str, flag: &str) -> &'static str {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    match line {
        Some((_, flags)) if flags.split_whitespace().any(|word| word == flag) => "yes",
        Some(_) => "no",
        None => "unknown",
    }
}

/// Attach type of the feature under test.
pub const FSESSION: &str = "BPF_TRACE_FSESSION";
/// Attach type of sessions that are older than it.
pub const KPROBE_SESSION: &str = "BPF_TRACE_KPROBE_SESSION";
/// The same for functions in user space.
pub const UPROBE_SESSION: &str = "BPF_TRACE_UPROBE_SESSION";
/// Attach type of a session on many functions at once; newer than the other.
pub const FSESSION_MULTI: &str = "BPF_TRACE_FSESSION_MULTI";
const MAX_LINKS: &str = "BPF_MAX_TRAMP_LINKS";
/// A neighbouring enumerator in the series for 6.18; mainline has no such limit.
const MAX_COOKIES: &str = "BPF_MAX_TRAMP_COOKIES";
/// The places in a trampoline's image where a detached program is jumped over, so that the image can be kept
/// until the calls in flight have left it.
const SKIPS: (&str, &str) = ("bpf_tramp_image", "skips");
/// What a map of tail callees requires of each of them. The series for 6.18 has it, and mainline does not.
const OWNER_COOKIE: (&str, &str) = ("bpf_map_owner", "call_session_cookie");
/// Returns a pointer to the session's cookie.
pub const COOKIE: &str = "bpf_session_cookie";
/// Tells a session whether it is in its entry or its exit run.
pub const IS_RETURN: &str = "bpf_session_is_return";
/// A pair of kfuncs that every program may call.
pub const RCU_KFUNCS: [&str; 2] = ["bpf_rcu_read_lock", "bpf_rcu_read_unlock"];
/// A target that only test runs call.
pub const TARGET: &str = "bpf_fentry_test1";
/// A target that also accepts fmod_ret programs.
pub const MODIFY_TARGET: &str = "bpf_modify_return_test";
/// Functions that trampolines themselves use; each kernel has some of them, and does not allow tracing
/// programs on them.
pub const DENIED: [&str; 3] = ["migrate_disable", "rcu_read_unlock_strict", "__rcu_read_lock"];
/// The hook of an LSM program.
pub const LSM_HOOK: &str = "bpf_lsm_task_getpgid";
/// A function of the same kind as the target, in which programs must not sleep.
pub const NO_SLEEP: &str = "bpf_fentry_test2";
/// A function with a task as its argument.
pub const OF_TASK: &str = "wake_up_new_task";
/// A kfunc that takes a trusted task only.
pub const TRUSTED_TASK: &str = "bpf_task_acquire";
/// The target of an iterator program.
pub const ITERATOR: &str = "bpf_iter_bpf_link";
/// A function that never returns.
pub const NORETURN: &str = "do_exit";
/// A function that cannot be traced.
pub const NOTRACE: &str = "bpf_spin_lock";

const VALUES: [&str; 6] = [FSESSION, FSESSION_MULTI, KPROBE_SESSION, UPROBE_SESSION, MAX_LINKS, MAX_COOKIES];

impl Features {
    /// Reads BTF, sysctl and release.
    pub fn read() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let jit = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
        let found = std::fs::read("/sys/kernel/btf/vmlinux")
            .map_err(|err| format!("/sys/kernel/btf/vmlinux: {err}"))
            .and_then(|bytes| {
                let [lock, unlock] = RCU_KFUNCS;
                let mut funcs =
                    vec![COOKIE, IS_RETURN, lock, unlock, TARGET, MODIFY_TARGET, LSM_HOOK, NORETURN, NOTRACE];
                funcs.extend([NO_SLEEP, OF_TASK, TRUSTED_TASK, ITERATOR]);
                funcs.extend(DENIED);
                let members = [SKIPS, OWNER_COOKIE];
                btf::find(&bytes, &btf::Wanted { values: &VALUES, funcs: &funcs, members: &members })
            });
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
            system: system(),
        }
    }

    /// The features for the host: name to value.
    pub fn as_map(&self) -> BTreeMap<String, String> {
        let or_absent = |value: Option<String>| value.unwrap_or_else(|| "absent".to_owned());
        let value = |name: &str| or_absent(self.btf.values.get(name).map(i64::to_string));
        let params =
            |name: &str| or_absent(self.btf.funcs.get(name).map(|f| format!("{} parameters", f.params)));
        let mut map = BTreeMap::from([
            (COOKIE.to_owned(), params(COOKIE)),
            (IS_RETURN.to_owned(), params(IS_RETURN)),
            ("net.core.bpf_jit_enable".to_owned(), or_absent(self.jit.map(|jit| jit.to_string()))),
        ]);
        map.extend(VALUES.map(|name| (name.to_owned(), value(name))));
        for member in [SKIPS, OWNER_COOKIE] {
            let there = match self.member(member) {
                Some(true) => "present",
                Some(false) => "absent",
                None => "no such struct",
            };
            map.insert(format!("{}.{}", member.0, member.1), there.to_owned());
        }
        map.extend(self.system.clone());
        if let Some(err) = &self.btf_error {
            map.insert("btf_error".to_owned(), err.clone());
        }
        map
    }

    /// Whether its BTF has this enumerator.
    pub fn has(&self, value: &str) -> bool {
        self.btf.values.contains_key(value)
    }

    /// Whether a struct has a member; `None` if the BTF has no such struct.
    fn member(&self, (owner, member): (&str, &str)) -> Option<bool> {
        self.btf.members.get(&format!("{owner}.{member}")).copied()
    }

    /// BTF ID of one of the functions that were searched for.
    pub fn func_id(&self, name: &str) -> Result<u32, String> {
        self.btf.funcs.get(name).map(|f| f.id).ok_or_else(|| format!("BTF has no function {name}"))
    }

    /// BTF ID of [`TARGET`].
    pub fn target_id(&self) -> Result<u32, String> {
        self.func_id(TARGET)
    }

    /// Whether programs are compiled: there is a JIT and it is enabled.
    pub fn jit_is_on(&self) -> bool {
        self.jit.is_some_and(|jit| jit != 0)
    }

    /// The same in words.
    pub fn jit_state(&self) -> String {
        self.jit.map_or("there is no JIT (CONFIG_BPF_JIT)".to_owned(), |jit| {
            format!("net.core.bpf_jit_enable is {jit}")
        })
    }
}

/// What differs between kernels that have the feature.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Most programs with a session cookie on one target; `None` if only the number of links is limited.
    pub cookie_limit: Option<u32>,
    /// BPF_MAX_TRAMP_LINKS: programs on one target, an fsession counting twice.
    pub max_links: Option<u32>,
    /// Whether each call in the kernel is accounted for, which takes space in a trampoline.
    pub call_depth_tracking: bool,
    /// What a call in flight loses when links on its target change; `None` if BTF has no trampoline images.
    pub in_flight: Option<InFlight>,
    /// Whether a map of tail callees has a field that keeps sessions with a cookie from those without; `None`
    /// if BTF has no owners of maps.
    pub compares_cookies_of_callees: Option<bool>,
    /// Prototype of the session kfuncs: `(void)` or `(void *ctx)`; `None` if it differs or they are absent.
    pub kfunc_prototype: Option<&'static str>,
}

/// The exit runs that a call loses when links on its target change between its entry and its exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFlight {
    /// Those of every program on the target.
    OfEveryProgram,
    /// Those of a program that is detached. Its exit can also run without its entry, and then sees 0.
    OfTheDetached,
}

impl Profile {
    /// Limits are read from BTF. A kernel with an undeclared limit fails the test of the cookie after the
    /// last one, and so does one that does not enforce its declared limit.
    pub fn of(features: &Features) -> Self {
        let params = |name: &str| features.btf.funcs.get(name).map(|func| func.params);
        let limit = |name: &str| features.btf.values.get(name).and_then(|&value| u32::try_from(value).ok());
        Self {
            cookie_limit: limit(MAX_COOKIES),
            max_links: limit(MAX_LINKS),
            call_depth_tracking: features.retbleed.contains("Stuffing"),
            in_flight: features.member(SKIPS).map(|skips| match skips {
                true => InFlight::OfTheDetached,
                false => InFlight::OfEveryProgram,
            }),
            compares_cookies_of_callees: features.member(OWNER_COOKIE),
            kfunc_prototype: match (params(COOKIE), params(IS_RETURN)) {
                (Some(0), Some(0)) => Some("(void)"),
                (Some(1), Some(1)) => Some("(void *ctx)"),
                _ => None,
            },
        }
    }

    /// The rule about cookies that the tests use, and why.
    pub fn cookie_rule(&self) -> String {
        match self.cookie_limit {
            Some(limit) => format!("profile: at most {limit}, as BTF's {MAX_COOKIES} says"),
            None => format!("profile: no limit, as BTF has no {MAX_COOKIES}"),
        }
    }

    /// The rule about calls in flight that the tests use.
    pub fn in_flight_rule(&self) -> &'static str {
        match self.in_flight {
            Some(InFlight::OfEveryProgram) => "exit runs of every program are lost",
            Some(InFlight::OfTheDetached) => "exit runs of the detached program are lost",
            None => "unknown: BTF has no struct bpf_tramp_image",
        }
    }

    /// The profile for the host: name to value.
    pub fn as_map(&self) -> BTreeMap<String, String> {
        let text = |value: Option<u32>| value.map_or("none".to_owned(), |value| value.to_string());
        BTreeMap::from([
            ("cookie_limit".to_owned(), text(self.cookie_limit)),
            ("max_links".to_owned(), text(self.max_links)),
            ("call_depth_tracking".to_owned(), self.call_depth_tracking.to_string()),
            ("in_flight".to_owned(), self.in_flight_rule().to_owned()),
            ("kfunc_prototype".to_owned(), self.kfunc_prototype.unwrap_or("none").to_owned()),
        ])
    }
}

#[cfg(test)]
mod tests;
