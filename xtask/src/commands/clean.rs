// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask clean`: removes exactly what is named, of what this harness made, and nothing that is in use.

use std::fmt::Write as _;

use crate::commands::{cache, print};
use crate::error::{Error, Result};
use crate::workdir::{Cache, Inventory, Prune, keep_newest, prune, runs_dir};

/// Remove runs, the cache, or both: only what this harness made, and nothing that is in use.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove the directories of finished runs (not those of --out)
    #[arg(long)]
    runs: bool,
    /// With --runs: keep this many of the newest
    #[arg(long, value_name = "N", requires = "runs", default_value_t = 0)]
    keep: u32,
    /// Remove everything from the cache; it can be made again, which takes time and a network
    #[arg(long)]
    cache: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Removes what was asked for.
///
/// # Errors
/// Class `Usage` when nothing was, and host errors of the file system.
pub fn run(args: &Args) -> Result<()> {
    let Args { runs, keep, cache: whole_cache, dry_run } = args;
    if !runs && !whole_cache {
        return Err(Error::usage("`clean` removes what is named, and nothing is")
            .next("name --runs, --cache or both; --dry-run shows what would go"));
    }
    let mut text = String::new();
    if *runs {
        let place = runs_dir()?;
        let removed = keep_newest(&place, usize::try_from(*keep).unwrap_or(usize::MAX), false, *dry_run)?;
        let word = if *dry_run { "would remove" } else { "removed" };
        for name in &removed {
            let _ = writeln!(text, "{word} run {name}");
        }
        let _ = writeln!(text, "{} runs in {}", removed.len(), place.display());
    }
    // A cache that is not there is not made to be emptied.
    if *whole_cache && Cache::place()?.exists() {
        let cache = Cache::open()?;
        let inventory = Inventory::of(&cache)?;
        let foreign = inventory.foreign.clone();
        text.push_str(&cache::told(&prune(&cache, inventory, Prune::All, *dry_run)?, *dry_run));
        for name in foreign {
            let _ = writeln!(text, "not ours, stays: {name}");
        }
    }
    print(&text)
}
