// SPDX-License-Identifier: MIT OR Apache-2.0
//! The private apt root in the cache: configuration, lists and downloads.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xshell::{Shell, cmd};

use crate::source::archive::index::{Index, read_packages, read_sources};
use crate::source::{had_space, succeeded};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::event::Phase;
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::interrupt;
use vmtest_base::key::{Key, hash_file};
use vmtest_host::context::Context;
use vmtest_host::debian_mirror::{KEYRING, OTHER_WAYS, SUITES, mirror, sources_list};
use vmtest_host::process::{Finished, Job};
use vmtest_host::store::CacheKind;

/// An older index is updated.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// After a failed update, an old index is used for this long before the mirror is tried again: a matrix
/// resolves many specs, and each would wait for the network.
const RETRY: Duration = Duration::from_secs(600);

/// The private apt root for one mirror.
pub(super) struct Archive<'a> {
    pub(super) ctx: &'a Context,
    root: PathBuf,
}

impl<'a> Archive<'a> {
    pub(super) fn new(ctx: &'a Context) -> Archive<'a> {
        // One root per mirror, so that an index is never used for another one.
        let name = match ctx.mirror() {
            None => "host".to_owned(),
            Some(mirror) => Key::of("mirror 1").field("uri", mirror).finish().to_string(),
        };
        Archive { ctx, root: ctx.cache.path(CacheKind::Apt, &name) }
    }

    /// The index, updated if it is missing or old. Without a network an old one is used.
    pub(super) fn index(&self) -> Result<Index> {
        let stored = self.stored();
        if let Some(index) = &stored {
            if self.is_recent("index.json", FRESH) || self.is_recent("failed", RETRY) {
                return Ok(index.clone());
            }
        }
        let name = self.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _lock = self.ctx.cache.lock(&self.ctx.bus, CacheKind::Apt, &name)?;
        // Another run may have updated it while this one waited.
        if let Some(index) = self.stored().filter(|_| self.is_recent("index.json", FRESH)) {
            return Ok(index);
        }
        match (self.update(), stored) {
            (Err(error), Some(index)) if error.class == Class::Host => {
                write_file(&self.root.join("failed"), error.to_string())?;
                let age = now().saturating_sub(index.read_at) / 3600;
                self.ctx.bus.warn(format!(
                    "using the archive index from {age} hours ago, because it cannot be updated: {}",
                    error.summary()
                ));
                Ok(index)
            }
            (updated, _) => updated,
        }
    }

    fn stored(&self) -> Option<Index> {
        serde_json::from_str(&read_text(&self.root.join("index.json")).ok()?).ok()
    }

    fn is_recent(&self, name: &str, limit: Duration) -> bool {
        let modified = fs::metadata(self.root.join(name)).and_then(|stat| stat.modified());
        modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < limit))
    }

    /// Downloads and reads the archive's lists.
    fn update(&self) -> Result<Index> {
        require_tools()?;
        let shell =
            Shell::new().map_err(|error| Error::host("cannot use the working directory").why(error))?;
        let mirror = mirror(self.ctx, &shell)?;
        self.configure(&shell, &mirror)?;
        let phase = self.ctx.bus.phase("index", "Debian archive");
        let done = self.apt_get(&self.root, &["update".to_owned()], &phase, 0)?;
        // Otherwise lists that did not fit on the disk would look like suites missing from the mirror.
        had_space(&done, "cannot read the Debian archive's lists")?;
        let is_message = |line: &&String| line.starts_with("E: ") || line.starts_with("W: ");
        let messages: Vec<String> = done.tail.iter().filter(is_message).cloned().collect();
        let mut index = Index { mirror, read_at: now(), ..Index::default() };
        let mut unusable = Vec::new();
        for (suite, name) in SUITES {
            interrupt::check()?;
            // One stale or missing suite must not hide the others.
            if !self.read_suite(suite, name, &mut index)? {
                unusable.push(unusable_suite(suite, name, &messages));
            }
        }
        self.check_usable(&index, messages, done.success())?;
        for text in unusable {
            self.ctx.bus.warn(text);
        }
        self.keep(&index)?;
        phase.finish();
        Ok(index)
    }

    /// Adds the kernels of one suite; `false` if its lists are incomplete.
    fn read_suite(&self, suite: &str, name: &str, index: &mut Index) -> Result<bool> {
        let lists = self.root.join("lists");
        let mut found = 0;
        for file in fs::read_dir(&lists).on("cannot list", &lists)? {
            let path = file.on("cannot list", &lists)?.path();
            let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some((_, list)) = file_name.split_once(&format!("_dists_{suite}_main_")) else {
                continue;
            };
            match list {
                "source_Sources" => read_sources(&read_text(&path)?, name, index),
                "binary-amd64_Packages" => read_packages(&read_text(&path)?, name, index),
                _ => continue,
            }
            found += 1;
        }
        Ok(found == 2)
    }

    /// Refuses to replace the stored index by an incomplete one. If the network is down, apt only warns and
    /// exits with 0, and its old lists contain nothing that the stored index does not have.
    fn check_usable(&self, index: &Index, messages: Vec<String>, success: bool) -> Result<()> {
        let unreachable = messages.iter().any(|line| line.contains("Failed to fetch"));
        let nothing = index.sources.is_empty() && index.images.is_empty();
        if (unreachable && (nothing || self.stored().is_some())) || (nothing && !success) {
            return Err(Error::host("cannot read the Debian archive's lists").detail(messages).next(format!(
                "check the network and the mirror {}, choose another with --mirror URL or VMTEST_DEBIAN_MIRROR, \
                 {OTHER_WAYS}",
                index.mirror
            )));
        }
        if nothing {
            return Err(Error::host("cannot find kernels in the Debian archive")
                .why(format!("the lists of {} contain none", index.mirror))
                .next(format!(
                    "choose another mirror with --mirror URL or VMTEST_DEBIAN_MIRROR, {OTHER_WAYS}"
                )));
        }
        Ok(())
    }

    /// Stores the index, and removes the notes about the previous one.
    fn keep(&self, index: &Index) -> Result<()> {
        let text = serde_json::to_string_pretty(index)
            .map_err(|error| Error::host("cannot write the index of kernels").why(error))?;
        // The mirror may have these files by now.
        let _ = fs::remove_file(self.root.join("absent"));
        let _ = fs::remove_file(self.root.join("failed"));
        write_file(&self.root.join("index.json"), text)
    }

    /// Writes a configuration that takes only network settings from the host's.
    fn configure(&self, shell: &Shell, mirror: &str) -> Result<()> {
        let root = &self.root;
        for dir in ["lists/partial", "cache/archives/partial", "none"] {
            create_dir(&root.join(dir))?;
        }
        self.ctx.cache.hold(root);
        let mut conf = configuration(root);
        conf.push_str(&network_settings(shell));
        // Readable only by the user: a proxy URL may contain a password.
        let path = root.join("apt.conf");
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(conf.as_bytes())).on("cannot write", &path)?;
        write_file(&root.join("sources.list"), sources_list(mirror))
    }

    /// Runs apt-get, and reports its progress from its status descriptor.
    fn apt_get(&self, dir: &Path, args: &[String], phase: &Phase, total: u64) -> Result<Finished> {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", self.root.join("apt.conf")).env("LC_ALL", "C");
        command.args(["-q", "-o", "APT::Status-Fd=1"]).args(args).current_dir(dir);
        let mut done = Job::new(command)
            .on_line(|_, line| {
                if let Some((percent, detail)) = download_status(line) {
                    // Without a size, report the percentage.
                    let (at, of) = if total == 0 {
                        (percent, 100.0)
                    } else {
                        (percent / 100.0 * total as f64, total as f64)
                    };
                    phase.progress(at as u64, of as u64, detail);
                }
            })
            .run()?;
        done.tail.retain(|line| download_status(line).is_none());
        Ok(done)
    }

    /// Downloads with apt into an empty scratch directory. Returns the only file that arrived, or `None` if
    /// the mirror does not have a file that it lists. `sha256` is its hash in the index.
    pub(super) fn download(
        &self,
        into: &Path,
        args: &[String],
        size: u64,
        sha256: Option<&str>,
        what: &str,
    ) -> Result<Option<PathBuf>> {
        let phase = self.ctx.bus.phase("download", what);
        let done = self.apt_get(into, args, &phase, size)?;
        if is_gone(&done) {
            return Ok(None);
        }
        let done = succeeded(done, format!("cannot download {what}")).map_err(|error| match error.next {
            Some(_) => error,
            None => error.next(format!(
                "run it again, choose a mirror with --mirror URL or VMTEST_DEBIAN_MIRROR, {OTHER_WAYS}"
            )),
        })?;
        let mut files = Vec::new();
        for entry in fs::read_dir(into).on("cannot list", into)? {
            files.push(entry.on("cannot list", into)?.path());
        }
        let [file] = files.as_slice() else {
            return Err(Error::host(format!("cannot download {what}"))
                .why(format!("apt left {} files instead of one", files.len()))
                .detail(done.tail));
        };
        // apt has verified it, but the file is kept for months, so check again that the written copy is
        // complete.
        if let Some(expected) =
            sha256.filter(|expected| !hash_file(file).is_ok_and(|hash| hash == **expected))
        {
            return Err(Error::host(format!("cannot download {what}"))
                .why(format!(
                    "the download is not the file that the archive lists: its SHA-256 is not {expected}"
                ))
                .next(format!(
                    "run it again, choose a mirror with --mirror URL or VMTEST_DEBIAN_MIRROR, {OTHER_WAYS}"
                )));
        }
        phase.finish();
        Ok(Some(file.clone()))
    }

    /// Hashes of the files that the mirror lists but does not have.
    pub(super) fn absent(&self) -> Vec<String> {
        read_text(&self.root.join("absent")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Adds one to [`Archive::absent`].
    pub(super) fn remember_absent(&self, sha256: &str) -> Result<()> {
        let mut all = self.absent();
        all.push(sha256.to_owned());
        write_file(&self.root.join("absent"), all.join("\n"))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Checks that this host can read and verify the archive.
fn require_tools() -> Result<()> {
    for tool in ["apt-get", "dpkg-deb"] {
        if vmtest_host::process::find_program(tool).is_none() {
            return Err(Error::host("cannot read the Debian archive")
                .why(format!("`{tool}` is not installed"))
                .next(format!("install the packages `apt` and `dpkg`, {OTHER_WAYS}")));
        }
    }
    if !Path::new(KEYRING).exists() {
        return Err(Error::host("cannot read the Debian archive")
            .why(format!("{KEYRING} is missing, so nothing could be verified"))
            .next(format!("install the package `debian-archive-keyring`, {OTHER_WAYS}")));
    }
    Ok(())
}

/// A message about a suite without usable lists.
fn unusable_suite(suite: &str, name: &str, messages: &[String]) -> String {
    let about =
        |line: &&str| line.contains(&format!("dists/{suite}/")) || line.contains(&format!(" {suite} "));
    let why: Vec<&str> = messages.iter().map(String::as_str).filter(about).collect();
    let why = if why.is_empty() { "not found".to_owned() } else { why.join("; ") };
    format!("the mirror offers no usable suite {suite} ({name}): {why}")
}

/// apt's configuration for the private root.
fn configuration(root: &Path) -> String {
    let at = root.display();
    let mut conf = format!(
        "Dir::Etc::Parts \"{at}/none\";\nDir::Etc::Main \"/dev/null\";\n\
         Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"{at}/none\";\n\
         Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"{at}/none\";\n\
         Dir::State \"{at}\";\nDir::State::lists \"{at}/lists\";\nDir::State::status \"/dev/null\";\n\
         Dir::Cache \"{at}/cache\";\n\
         APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
         Acquire::Languages \"none\";\nAcquire::GzipIndexes \"false\";\nAcquire::Retries \"2\";\n\
         Acquire::http::Timeout \"30\";\nAcquire::https::Timeout \"30\";\n"
    );
    if nix::unistd::geteuid().is_root() {
        // apt's own user may not be able to access the cache.
        conf.push_str("APT::Sandbox::User \"root\";\n");
    }
    conf
}

/// The host's apt settings for the network.
fn network_settings(shell: &Shell) -> String {
    let host = cmd!(shell, "apt-config dump").quiet().ignore_stderr().env("LC_ALL", "C").read();
    let wanted = ["Acquire::http::", "Acquire::https::", "Acquire::ForceIPv"];
    let host = host.unwrap_or_default();
    let lines = host.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Percentage and message of a line like `dlstatus:1:43.2150:Retrieving file 1 of 1`.
fn download_status(line: &str) -> Option<(f64, &str)> {
    let mut parts = line.strip_prefix("dlstatus:")?.splitn(3, ':').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next().unwrap_or_default()))
}

/// Whether apt-get failed because the mirror no longer has a listed file, or the lists no longer have a
/// version.
fn is_gone(done: &Finished) -> bool {
    let says = |line: &String| {
        ["404  Not Found", "Unable to locate package", "File not found"]
            .iter()
            .any(|text| line.contains(text))
    };
    !done.success() && done.tail.iter().any(says)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines_of_apt_are_read() {
        let line = "dlstatus:1:43.2150:Retrieving file 1 of 1 (3s remaining)";
        assert_eq!(download_status(line), Some((43.215, "Retrieving file 1 of 1 (3s remaining)")));
        assert_eq!(download_status("Get:1 http://mirror.example/debian trixie InRelease [140 kB]"), None);
    }

    #[test]
    fn a_suite_that_is_missing_says_what_apt_said_of_it() {
        let said = ["W: http://mirror.example/debian/dists/testing/InRelease: expired".to_owned()];
        assert!(unusable_suite("testing", "testing", &said).ends_with("InRelease: expired"));
        assert!(unusable_suite("trixie", "stable", &said).ends_with("not found"));
    }
}
