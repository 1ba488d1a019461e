// SPDX-License-Identifier: MIT OR Apache-2.0
//! Splats that do not fail a run: a file of titles, each with a reason and an expiry date. Pure, except for
//! reading the file.
//!
//! How it could be wrong: a pattern that is wider than intended hides other warnings. So a pattern that
//! matches two unrelated warnings is rejected, allowed splats are shown in every report, and no entry can
//! allow the death of a kernel.

use std::path::Path;

use regex::Regex;
use serde::Deserialize;
use vmtest_protocol::taint;

use crate::console_rules::Severity;
use crate::run::{AllowRecord, SplatRecord};
use vmtest_base::date;
use vmtest_base::error::{Error, Result};
use vmtest_base::files::read_text;

/// The allowed splats; none by default.
#[derive(Debug, Default)]
pub struct Allowed {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    title: Regex,
    reason: String,
    expires: String,
    expired: bool,
}

/// Warnings with unrelated causes. A pattern that matches two of them is too wide.
const UNLIKE: [&str; 9] = [
    "WARNING: CPU: 0 PID: 1 at kernel/bpf/trampoline.c:42 bpf_tramp_image_put+0x1/0x2",
    "WARNING: possible circular locking dependency detected",
    "BUG: KASAN: slab-use-after-free in sk_psock_get+0x1/0x2",
    "UBSAN: array-index-out-of-bounds in net/core/filter.c:9:5",
    "INFO: task kworker/u8:1:77 blocked for more than 120 seconds.",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "refcount_t: addition on 0",
    "unregister_netdevice: waiting for lo to become free. Usage count = 2",
    "Out of memory: Killed process 99 (cc1)",
];

/// Why a pattern is too wide; `None` if it is acceptable.
fn too_wide(pattern: &Regex) -> Option<String> {
    let fits: Vec<&str> = UNLIKE.into_iter().filter(|title| pattern.is_match(title)).collect();
    let everything = fits.len() == UNLIKE.len() || pattern.is_match("");
    match &fits[..] {
        _ if everything => Some(format!("title {:?} fits everything", pattern.as_str())),
        [one, other, ..] => Some(format!(
            "title {:?} matches unrelated kernel warnings, such as {one:?} and {other:?}; name one of them, \
             with its file or function, and write an entry for each",
            pattern.as_str()
        )),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    allow: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    title: String,
    reason: String,
    expires: String,
}

impl Allowed {
    /// Loads the file of `--allow-splats`.
    ///
    /// # Errors
    /// Class `Usage` for an invalid file.
    pub fn load(path: &Path) -> Result<Allowed> {
        Allowed::parse(&read_text(path)?, &date::today())
            .map_err(|why| Error::usage(format!("--allow-splats {} cannot be used", path.display())).why(why))
    }

    /// Allows exactly these titles. Used to judge a run again with what was allowed then.
    pub fn exactly(titles: &[String]) -> Allowed {
        let entry = |title: &String| {
            let title = Regex::new(&format!("^(?:{})$", regex::escape(title))).ok()?;
            Some(Entry { title, reason: "allowed then".to_owned(), expires: String::new(), expired: false })
        };
        Allowed { entries: titles.iter().filter_map(entry).collect() }
    }

    fn parse(text: &str, today: &str) -> std::result::Result<Allowed, String> {
        let File { allow } = toml::from_str(text).map_err(|error| error.to_string())?;
        if allow.is_empty() {
            return Err("it has no [[allow]] entry".to_owned());
        }
        let entry = |Line { title, reason, expires }: Line| {
            let pattern = Regex::new(&title).map_err(|error| format!("title {title:?}: {error}"))?;
            if title.trim().is_empty() {
                return Err(format!("title {title:?} fits everything"));
            }
            if reason.trim().is_empty() {
                return Err(format!("{title:?} has no reason"));
            }
            if !date::is_date(&expires) {
                return Err(format!(
                    "{title:?} expires at {expires:?}, which is not a date: write YYYY-MM-DD"
                ));
            }
            if let Some(why) = too_wide(&pattern) {
                return Err(why);
            }
            // The expiry day itself still counts.
            Ok(Entry { title: pattern, reason, expired: expires.as_str() < today, expires })
        };
        Ok(Allowed { entries: allow.into_iter().map(entry).collect::<std::result::Result<_, _>>()? })
    }

    /// Why a splat with this title does not count; `None` if it counts.
    pub fn allows(&self, title: &str) -> Option<&str> {
        // A kernel with the oops taint bit died, even if nothing else showed it.
        let died = taint::named(title) & taint::DIED != 0;
        if died || crate::console_rules::severity(title) == Some(Severity::Death) {
            return None;
        }
        let entry = self.entries.iter().find(|entry| !entry.expired && entry.title.is_match(title));
        entry.map(|entry| entry.reason.as_str())
    }

    /// How each entry was used in a run with these splats.
    pub fn records(&self, splats: &[SplatRecord]) -> Vec<AllowRecord> {
        let record = |entry: &Entry| {
            let fits =
                splats.iter().filter(|splat| splat.severity == "splat" && entry.title.is_match(&splat.title));
            let state = if entry.expired { "expired" } else { "unused" };
            let state = if !entry.expired && fits.clone().any(|splat| splat.allowed.is_some()) {
                "used"
            } else {
                state
            };
            AllowRecord {
                title: entry.title.as_str().to_owned(),
                reason: entry.reason.clone(),
                expires: entry.expires.clone(),
                state: state.to_owned(),
                splats: fits.count() as u64,
            }
        };
        self.entries.iter().map(record).collect()
    }
}

#[cfg(test)]
mod tests;
