// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask clean`: removes exactly what is named, if this harness created it and it is not in use.

use std::fmt::Write as _;

use crate::commands::{cache, print};
use vmtest_base::error::{Error, Result};
use vmtest_base::places::runs_dir;
use vmtest_host::store::{Cache, Inventory, Prune, keep_newest, prune};

const EXAMPLES: &str = "\
Examples:
  cargo xtask clean --runs --keep 10
  cargo xtask clean --runs --cache --dry-run";

/// Remove runs, the cache or both; never anything in use or not created by vmtest
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Remove the directories of finished runs (not those of --out)
    #[arg(long)]
    runs: bool,
    /// With --runs: keep the N newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep: u32,
    /// Remove everything from the cache; rebuilding it takes time and a network
    #[arg(long)]
    cache: bool,
    /// Show what would be removed without removing it
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// Removes what was requested.
///
/// # Errors
/// Class `Usage` if nothing was requested, and host errors of the file system.
pub fn run(args: &Args) -> Result<()> {
    let Args { runs, keep, cache: whole_cache, dry_run, json } = args;
    if !runs && !whole_cache {
        return Err(Error::usage("`clean` needs to know what to remove")
            .next("use --runs, --cache or both; --dry-run shows what would be removed"));
    }
    let mut text = String::new();
    let mut data = serde_json::json!({ "schema": 1, "dry_run": dry_run });
    if *runs {
        let place = runs_dir()?;
        let removed = keep_newest(&place, usize::try_from(*keep).unwrap_or(usize::MAX), false, *dry_run)?;
        let word = if *dry_run { "would remove" } else { "removed" };
        for name in &removed {
            let _ = writeln!(text, "{word} run {name}");
        }
        let _ = writeln!(text, "{} runs in {}", removed.len(), place.display());
        data["runs"] = serde_json::json!({ "place": place, "removed": removed });
    }
    // Do not create a cache only to empty it.
    if *whole_cache && Cache::place()?.exists() {
        let cache = Cache::open()?;
        let inventory = Inventory::of(&cache)?;
        let foreign = inventory.foreign.clone();
        let pruned = prune(&cache, inventory, Prune::All, *dry_run)?;
        text.push_str(&cache::told(&pruned, *dry_run));
        data["cache"] = serde_json::json!({ "root": cache.root(), "pruned": pruned, "foreign": foreign });
        for name in foreign {
            let _ = writeln!(text, "not created by vmtest, kept: {name}");
        }
    }
    if *json { print(&format!("{data:#}\n")) } else { print(&text) }
}
