// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel parameters, sysctls and kconfig options that only the harness may set: one table that is checked
//! for every input (`--append`, `--sysctl`, `--config`, variants, matrix files). Pure.
//!
//! A kernel's warnings are evidence, and so is the way it dies. A parameter that keeps warnings from the
//! console, or keeps a dead kernel running, could make a test pass although something went wrong. Parameters
//! that make a kernel louder or die sooner are allowed (`panic_on_warn=1`, `softlockup_panic=1`), and so are
//! those that turn off a detector (`nosoftlockup`), which is no worse than a kernel built without KASAN.
//!
//! Limits: a parameter that silences the kernel may be missing from the table. So our own parameters come
//! last on the command line, and a guest whose console does not show the runner's last message never passes
//! (`verdict`).

use vmtest_base::error::Error;
use vmtest_protocol::param;

/// Why a parameter may not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// The parameter, sysctl or option that it sets, as the kernel reads it.
    name: String,
    why: &'static str,
    next: &'static str,
}

impl Reserved {
    /// The error; `given` says where the parameter came from (`--append`).
    pub fn refused(self, given: impl std::fmt::Display) -> Error {
        Error::usage(format!("{given} cannot be used: {} is reserved for the harness", self.name))
            .why(self.why)
            .next(self.next)
    }
}

/// A group of names with the same reason.
struct Group {
    /// In lower case, with `_` instead of `-`. A trailing `*` matches any rest.
    names: &'static [&'static str],
    why: &'static str,
    next: &'static str,
}

const CONSOLE: &str =
    "kernel warnings are evidence: all of them must reach the console, and nothing may suppress them";
const LOUD: &str = "leave it out; the console goes to console.log of the run, not to the terminal";
const DEATH: &str = "a kernel that dies must end its guest at once, or its death is not detected: each boots with panic=-1 oops=panic reboot=t";
const SOONER: &str =
    "leave it out; options that make a kernel die sooner are allowed, for example panic_on_warn=1";

const PARAMETERS: [Group; 4] = [
    Group {
        names: &[
            "quiet",
            "loglevel",
            "ignore_loglevel",
            "printk.*",
            "console",
            "console_msg_format",
            "earlyprintk",
            "earlycon",
        ],
        why: CONSOLE,
        next: LOUD,
    },
    Group { names: &["panic", "panic_*", "oops", "pause_on_oops", "reboot"], why: DEATH, next: SOONER },
    Group {
        names: &["vmtest.*"],
        why: "the harness uses these to control its runner",
        next: "use the matching option: --test, --effort, --provoke, --sysctl, --exec ..",
    },
    Group {
        names: &["bootconfig", ""],
        why: "it would add unchecked parameters, or drop those that follow",
        next: "pass each parameter separately",
    },
];

const SYSCTLS: [Group; 3] = [
    Group { names: &["kernel.printk*"], why: CONSOLE, next: LOUD },
    Group { names: &["kernel.panic*"], why: DEATH, next: SOONER },
    Group {
        names: &["kernel.tainted", "kernel.sysrq"],
        why: "the harness uses these to see what went wrong and to examine a hung kernel",
        next: "leave it out",
    },
];

/// Options that remove the console or the warnings if off, and options that add or override parameters if on.
const OFF: [&str; 5] = ["PRINTK", "PRINTK_TIME", "BUG", "SERIAL_8250_CONSOLE", "TTY"];
const ON: [&str; 3] = ["CMDLINE_OVERRIDE", "BOOT_CONFIG_EMBED", "BOOT_CONFIG_FORCE"];

/// Why a text may not be on the kernel's command line; `None` if it may. Checks each word in it.
pub fn in_cmdline(text: &str) -> Option<Reserved> {
    // The kernel removes quotes, and also splits at some bytes of multi-byte characters.
    text.split(|c: char| !c.is_ascii_graphic()).filter(|word| !word.is_empty()).find_map(in_word)
}

fn in_word(word: &str) -> Option<Reserved> {
    let word = word.replace(['"', '\''], "");
    let (name, value) = word.split_once('=').map_or((&*word, None), |(name, value)| (name, Some(value)));
    let name = as_read(name);
    // `sysctl.kernel.printk=1`, `sysctl/kernel/printk=1`: sysctls set at boot.
    if let Some(sysctl) = name.strip_prefix("sysctl").filter(|rest| rest.starts_with(['.', '/'])) {
        return of_sysctl(sysctl, value.unwrap_or_default());
    }
    // `--` and `-`: the rest of the line is for init.
    let name = if name.chars().all(|c| c == '_') { "" } else { &*name };
    if name.starts_with("panic_on_") && value.is_none_or(is_on) {
        return None;
    }
    // It tries more, and what then fails counts.
    if [param::PROVOKE, param::COVERAGE].contains(&name) && value == Some("1") {
        return None;
    }
    let called = if name.is_empty() { &*word } else { name };
    find(&PARAMETERS, name, called)
}

/// Why a sysctl may not be set to this value; `None` if it may.
pub fn of_sysctl(name: &str, value: &str) -> Option<Reserved> {
    // Like a path below /proc/sys: a dot is a slash, and repeated slashes count as one.
    let parts: Vec<&str> = name.split(['.', '/']).filter(|part| !part.is_empty()).collect();
    let name = as_read(&parts.join("."));
    if name.starts_with("kernel.panic_on_") && is_on(value) {
        return None;
    }
    find(&SYSCTLS, &name, &name)
}

/// Why a kconfig option may not have this value; `None` if it may. `option` is without `CONFIG_`; `value` is
/// as written in a fragment.
pub fn of_option(option: &str, value: &str) -> Option<Reserved> {
    let reserved = |why, next| Some(Reserved { name: format!("CONFIG_{option}"), why, next });
    match option {
        "CMDLINE" => in_cmdline(value.trim_matches('"')),
        _ if OFF.contains(&option) && value == "n" => reserved(CONSOLE, "leave it as it is"),
        _ if ON.contains(&option) && value != "n" => {
            reserved("the kernel would not use the harness' command line unchanged", "leave it off")
        }
        _ => None,
    }
}

/// Normalizes a name like the kernel does: `-` is `_`. Also ignores case, which the kernel does not: an
/// unknown parameter would be useless anyway.
fn as_read(name: &str) -> String {
    name.replace('-', "_").to_lowercase()
}

/// Whether a number is not 0, in any base.
fn is_on(value: &str) -> bool {
    let value = value.trim().to_lowercase();
    let digits = value.strip_prefix("0x").unwrap_or(&value);
    let digits = digits.split(',').next().unwrap_or_default();
    digits.bytes().all(|c| c.is_ascii_hexdigit()) && digits.bytes().any(|c| c != b'0')
}

fn find(groups: &[Group], name: &str, called: &str) -> Option<Reserved> {
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *pattern,
    };
    let group = groups.iter().find(|group| group.names.iter().any(fits))?;
    Some(Reserved { name: format!("`{called}`"), why: group.why, next: group.next })
}

#[cfg(test)]
mod tests;
