// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask cache`: shows the entries of the cache, their size and when they were last used; `--prune`
//! removes the least recently used ones.

use std::fmt::Write as _;
use std::time::Duration;

use crate::commands::print;
use vmtest_base::error::{Error, Result};
use vmtest_base::{duration, size};
use vmtest_host::store::{Cache, Inventory, Prune, Pruned, prune};

const EXAMPLES: &str = "\
Examples:
  cargo xtask cache                  list the cache, oldest entry first
  cargo xtask cache --prune 20G      shrink it to 20G
  cargo xtask cache --prune 14d --dry-run
  cargo xtask cache --json";

/// Show the cache and prune entries unused for a long time
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Remove the least recently used entries until at most SIZE is left (20G), or all entries unused for AGE
    /// (12h, 7d, 2w). Entries in use are kept
    #[arg(long, value_name = "SIZE|AGE", value_parser = size_or_age)]
    prune: Option<Prune>,
    /// Show what --prune would remove without removing it
    #[arg(long)]
    dry_run: bool,
}

/// Shows the cache, and prunes it if requested.
///
/// # Errors
/// When there is no place for a cache, or the file system returns an error.
pub fn run(args: &Args) -> Result<()> {
    let Args { json, prune: what, dry_run } = args;
    let cache = Cache::open()?;
    let inventory = Inventory::of(&cache)?;
    let text = match what {
        None if *json => listing_json(&cache, &inventory)?,
        None => listing(&cache, &inventory),
        Some(what) => {
            let pruned = prune(&cache, inventory, *what, *dry_run)?;
            if *json { to_json(&pruned)? } else { told(&pruned, *dry_run) }
        }
    };
    print(&text)
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::host("cannot write the cache's content as JSON").why(error))?;
    Ok(text + "\n")
}

fn listing_json(cache: &Cache, inventory: &Inventory) -> Result<String> {
    let kinds: Vec<_> = inventory
        .by_kind()
        .into_iter()
        .map(|(kind, (count, bytes))| serde_json::json!({"kind": kind, "entries": count, "bytes": bytes}))
        .collect();
    to_json(&serde_json::json!({
        "schema": 1, "root": cache.root(), "bytes": inventory.total(), "kinds": kinds,
        "entries": inventory.entries, "foreign": inventory.foreign,
    }))
}

/// Two tables: kinds, then entries, the next to be pruned first.
fn listing(cache: &Cache, inventory: &Inventory) -> String {
    let mut text = String::new();
    for (kind, (count, bytes)) in inventory.by_kind() {
        let _ = writeln!(text, "{kind:12} {:>10} {count:>5}  {}", size::format(bytes), kind.about());
    }
    let mut entries: Vec<_> = inventory.entries.iter().collect();
    entries.sort_by_key(|entry| entry.last_use);
    if !entries.is_empty() {
        let _ = writeln!(text, "\n{:>10}  {:>8}  entry", "size", "unused");
    }
    for entry in entries {
        let state = if entry.in_use { "  (in use)" } else { "" };
        let _ = writeln!(
            text,
            "{:>10}  {:>8}  {}/{}{state}",
            size::format(entry.bytes),
            ago(entry.age()),
            entry.kind,
            entry.name
        );
    }
    for name in &inventory.foreign {
        let _ = writeln!(text, "not created by vmtest, never removed: {name}");
    }
    let _ = writeln!(text, "\n{} in {}", size::format(inventory.total()), cache.root().display());
    text
}

/// A summary of what was removed.
pub(super) fn told(pruned: &Pruned, dry_run: bool) -> String {
    let word = if dry_run { "would remove" } else { "removed" };
    let mut text = String::new();
    for name in &pruned.removed {
        let _ = writeln!(text, "{word} {name}");
    }
    for name in &pruned.in_use {
        let _ = writeln!(text, "in use, kept: {name}");
    }
    let freed = if dry_run { "would be freed" } else { "freed" };
    let _ = writeln!(
        text,
        "{} entries, {} {freed}, {} left",
        pruned.removed.len(),
        size::format(pruned.freed),
        size::format(pruned.left)
    );
    text
}

fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn size_or_age(text: &str) -> std::result::Result<Prune, String> {
    // A plain number could be either.
    if let Some(age) =
        duration::parse(text).ok().filter(|_| text.ends_with(|c: char| c.is_ascii_alphabetic()))
    {
        return Ok(Prune::OlderThan(age));
    }
    size::parse(text)
        .map(Prune::ToSize)
        .map_err(|_| "neither a size (500M, 20G) nor an age (30m, 12h, 7d, 2w)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_told_apart() {
        assert_eq!(size_or_age("20G"), Ok(Prune::ToSize(20 << 30)));
        assert_eq!(size_or_age("500 MB"), Ok(Prune::ToSize(500 << 20)));
        assert_eq!(size_or_age("0"), Ok(Prune::ToSize(0)));
        assert_eq!(size_or_age("7d"), Ok(Prune::OlderThan(Duration::from_secs(7 * 86_400))));
        assert_eq!(size_or_age("30min"), Ok(Prune::OlderThan(Duration::from_secs(1_800))));
        for wrong in ["", "7", "d", "-1d", "99999999999T", "1x", "all"] {
            assert!(size_or_age(wrong).is_err(), "{wrong}");
        }
    }
}
