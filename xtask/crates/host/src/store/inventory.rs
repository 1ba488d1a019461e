// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contents of the cache: each entry with its size and time of last use, and which to remove first.
//! Entries are recognized by their kind and the format of their names, so that an unrelated directory is
//! never taken for one.

use crate::store::CacheKind;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::store::cache::Cache;
use crate::store::walk::{is_dir, walk};
use vmtest_base::error::{Error, Result};
use vmtest_base::event::Bus;
use vmtest_base::interrupt;
use vmtest_base::size::{self, GIB};

/// Whether an entry of this kind can have this name.
fn is_entry_name(kind: CacheKind, name: &str) -> bool {
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let key = |text: &str| hex(text, 20);
    let commit = |text: &str| hex(text, 40) || hex(text, 64);
    let prefixed = |prefix: &str| name.strip_prefix(prefix);
    match kind {
        CacheKind::Source => {
            let of_a_repository = |(id, lineage): (&str, &str)| commit(id) && key(lineage);
            prefixed("git-")
                .is_some_and(|name| commit(name) || name.split_once('-').is_some_and(of_a_repository))
                || prefixed("tar-").is_some_and(key)
                || ["debian-tarball-", "debian-package-"].into_iter().any(|form| prefixed(form).is_some())
        }
        CacheKind::Image => prefixed("debian-").is_some() || prefixed("file-").is_some_and(key),
        CacheKind::GitPatches => name.split_once('-').is_some_and(|(a, b)| commit(a) && commit(b)),
        CacheKind::Apt => name == "host" || key(name),
        CacheKind::Ccache | CacheKind::Objects => {
            key(name) || name.split_once('-').is_some_and(|(a, b)| key(a) && key(b))
        }
        _ => key(name),
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    pub kind: CacheKind,
    /// Its name within its kind.
    pub name: String,
    /// Disk usage. A file that is linked into several entries counts only for the first of them.
    pub bytes: u64,
    /// Seconds since 1970.
    pub last_use: u64,
    /// Whether a process is making or using it.
    pub in_use: bool,
    /// Bytes of files with only one link.
    #[serde(skip)]
    own: u64,
    /// Files with several links: device and inode.
    #[serde(skip)]
    shared: Vec<(u64, u64)>,
}

impl Entry {
    /// Time since its last use.
    pub fn age(&self) -> Duration {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(self.last_use);
        SystemTime::now().duration_since(then).unwrap_or_default()
    }
}

/// Everything in the cache.
#[derive(Debug, Default, Serialize)]
pub struct Inventory {
    /// All entries, by kind and then least recently used first.
    pub entries: Vec<Entry>,
    /// Names in the cache's directories that are not ours.
    pub foreign: Vec<String>,
    /// Files with several links: bytes, and how many entries have them.
    #[serde(skip)]
    links: HashMap<(u64, u64), (u64, u32)>,
}

impl Inventory {
    /// Reads the whole cache, which takes some seconds for a large one.
    ///
    /// # Errors
    /// If interrupted.
    pub fn of(cache: &Cache) -> Result<Inventory> {
        let mut inventory = Inventory::default();
        for &kind in CacheKind::ALL {
            let mut of_kind = Vec::new();
            for name in names(&cache.path(kind, "")) {
                if !is_entry_name(kind, &name) {
                    inventory.foreign.push(format!("{kind}/{name}"));
                    continue;
                }
                of_kind.extend(inventory.measure(cache, kind, name)?);
            }
            of_kind.sort_by_key(|entry: &Entry| entry.last_use);
            inventory.entries.extend(of_kind);
        }
        let known =
            |name: &String| CacheKind::named(name).is_some() || ["tmp", "locks"].contains(&name.as_str());
        inventory.foreign.extend(names(cache.root()).into_iter().filter(|name| !known(name)));
        Ok(inventory)
    }

    fn measure(&mut self, cache: &Cache, kind: CacheKind, name: String) -> Result<Option<Entry>> {
        let path = cache.path(kind, &name);
        let Ok(top) = path.symlink_metadata() else { return Ok(None) };
        let mut entry = Entry {
            kind,
            last_use: u64::try_from(top.mtime()).unwrap_or(0),
            in_use: cache.is_used(kind, &name),
            name,
            bytes: 0,
            own: 0,
            shared: Vec::new(),
        };
        let mut met = HashSet::new();
        walk(&path, |stat| {
            interrupt::check()?;
            let bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            if is_dir(stat) || stat.st_nlink < 2 {
                entry.own += bytes;
                return Ok(());
            }
            let id = (stat.st_dev, stat.st_ino);
            if met.insert(id) {
                entry.shared.push(id);
                let link = self.links.entry(id).or_insert((bytes, 0));
                entry.bytes += if link.1 == 0 { bytes } else { 0 };
                link.1 += 1;
            }
            Ok(())
        })?;
        entry.bytes += entry.own;
        Ok(Some(entry))
    }

    /// Bytes of all entries.
    pub fn total(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// Number of entries and bytes by kind.
    pub fn by_kind(&self) -> BTreeMap<CacheKind, (u64, u64)> {
        let mut kinds = BTreeMap::new();
        for entry in &self.entries {
            let (count, bytes): &mut (u64, u64) = kinds.entry(entry.kind).or_default();
            (*count, *bytes) = (*count + 1, *bytes + entry.bytes);
        }
        kinds
    }
}

/// What to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// The least recently used entries, until at most this many bytes are left.
    ToSize(u64),
    /// Entries that were not used for this long.
    OlderThan(Duration),
    All,
}

/// What was removed, or would be.
#[derive(Debug, Default, Serialize)]
pub struct Pruned {
    /// Removed entries, as `kind/name`, in order of removal.
    pub removed: Vec<String>,
    /// Bytes that were freed on disk.
    pub freed: u64,
    /// Bytes that are left.
    pub left: u64,
    /// Entries that were not removed because they are in use.
    pub in_use: Vec<String>,
}

/// Removes unused entries, the least recently used first. With `dry_run`, only lists them.
///
/// # Errors
/// If interrupted, and those of the file system.
pub fn prune(cache: &Cache, mut inventory: Inventory, what: Prune, dry_run: bool) -> Result<Pruned> {
    let mut pruned = Pruned { left: inventory.total(), ..Pruned::default() };
    let mut entries = std::mem::take(&mut inventory.entries);
    entries.sort_by_key(|entry| entry.last_use);
    for entry in entries {
        interrupt::check()?;
        let goes = match what {
            Prune::ToSize(size) => pruned.left > size,
            Prune::OlderThan(age) => entry.age() >= age,
            Prune::All => true,
        };
        if !goes {
            continue;
        }
        let name = format!("{}/{}", entry.kind, entry.name);
        // Check again now: whether it is in use may have changed since it was measured.
        let doomed = match dry_run {
            true => None,
            false => cache.take_away(entry.kind, &entry.name)?,
        };
        if doomed.is_none() && (!dry_run || entry.in_use) {
            pruned.in_use.push(name);
            continue;
        }
        doomed.into_iter().for_each(crate::store::cache::Doomed::remove);
        let mut freed = entry.own;
        for id in &entry.shared {
            // The space is freed only when the last entry that links the file is removed.
            if let Some((bytes, holders)) = inventory.links.get_mut(id) {
                *holders -= 1;
                freed += if *holders == 0 { *bytes } else { 0 };
            }
        }
        pruned.freed += freed;
        pruned.left = pruned.left.saturating_sub(freed);
        pruned.removed.push(name);
    }
    if !dry_run {
        cache.remove_leftovers_now();
    }
    Ok(pruned)
}

/// Bytes that runs keep free unless `VMTEST_KEEP_FREE` says otherwise: roughly an object directory with its source
/// and the build root.
pub const ROOM: u64 = 8 * GIB;
/// More bytes that are free once entries had to be removed, so that the next run need not remove any.
const SPARE: u64 = 4 * GIB;
/// Entries used after this are kept, however full the disk is: the run that made them may still need them.
const RECENT: Duration = Duration::from_secs(15 * 60);

/// Bytes that unprivileged users can still write at `path`.
///
/// # Errors
/// What the file system returns.
pub fn free_space(path: &Path) -> nix::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

/// Removes the least recently used entries if less than `VMTEST_KEEP_FREE` (a size like `2G`, [`ROOM`] by default,
/// 0 to remove nothing) is free on the cache's disk. Entries in use and entries used a moment ago stay, so there may
/// still be too little room afterwards; so may a cache that cannot be written. The check of the host decides whether
/// that is enough.
///
/// # Errors
/// If interrupted, and class `Usage` if the variable is not a size.
pub fn make_room(cache: &Cache, bus: &Bus) -> Result<()> {
    let room = match std::env::var("VMTEST_KEEP_FREE") {
        Ok(value) if !value.is_empty() => size::parse(&value)
            .map_err(|hint| Error::usage(format!("VMTEST_KEEP_FREE is `{value}`: {hint}")))?,
        _ => ROOM,
    };
    let free = || free_space(cache.root()).unwrap_or(u64::MAX);
    if let Err(error) = make_room_until(cache, bus, room, free) {
        interrupt::check()?;
        bus.warn(format!("cannot make room in {}: {}", cache.root().display(), error.summary()));
    }
    Ok(())
}

fn make_room_until(cache: &Cache, bus: &Bus, room: u64, free: impl Fn() -> u64) -> Result<()> {
    let before = free();
    if before >= room {
        return Ok(());
    }
    let mut entries: Vec<(Duration, CacheKind, String)> = Vec::new();
    for &kind in CacheKind::ALL {
        for name in names(&cache.path(kind, "")).into_iter().filter(|name| is_entry_name(kind, name)) {
            let used = cache.path(kind, &name).symlink_metadata().and_then(|stat| stat.modified());
            let age = used.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            entries.push((age, kind, name));
        }
    }
    entries.retain(|(age, ..)| *age >= RECENT);
    entries.sort_unstable_by_key(|(age, ..)| std::cmp::Reverse(*age));
    let (mut removed, mut youngest) = (0, Duration::ZERO);
    for (age, kind, name) in entries {
        interrupt::check()?;
        if free() >= room.saturating_add(SPARE) {
            break;
        }
        if let Some(doomed) = cache.take_away(kind, &name)? {
            doomed.remove();
            (removed, youngest) = (removed + 1, age);
        }
    }
    if removed > 0 {
        bus.note(format!(
            "only {} free in {}: removed the {removed} entries unused for longest (at least {} min); {} free now",
            size::format(before),
            cache.root().display(),
            youngest.as_secs() / 60,
            size::format(free()),
        ));
    }
    Ok(())
}

/// Sorted names in a directory; empty if it does not exist.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
