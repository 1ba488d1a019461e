// SPDX-License-Identifier: MIT OR Apache-2.0
//! `src:` and `debian:`: kernels of the Debian archive through a private apt root in the cache. apt downloads and
//! verifies every byte with the archive's keyring; the host's own apt state is only asked for its mirror and proxies.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xshell::{Shell, cmd};

use super::archive_index::{
    Form, ImageRelease, Index, SUITES, SourceRelease, compare_versions, matches, pick_mirror, read_packages,
    read_sources,
};
use super::source::{Prebuilt, Resolved, SourceTree, release_of, succeeded, unpack};
use super::spec::{DEFAULT_FLAVOUR, KernelSpec};
use crate::context::Context;
use crate::error::{Class, Error, IoContext, Result};
use crate::event::Phase;
use crate::interrupt;
use crate::proc::{Finished, Job};
use crate::workdir::{Key, create_dir, read_text, write_file};

/// An index older than this is read again.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// After a failed update an older index serves this long before the mirror is asked again: a matrix resolves many
/// specs, and each would wait for the network.
const RETRY: Duration = Duration::from_secs(600);
/// What the archive's releases are signed with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The version that the project's own series is made for, in the first word of this file.
const SERIES_BASE: &str = "patches/fsession-6.18/base";

const OTHER_WAYS: &str =
    "or name a kernel that needs no archive: tree:PATH, tar:FILE, git:PATH@REV, image:FILE";

/// The private apt root for one mirror.
struct Archive<'a> {
    ctx: &'a Context,
    root: PathBuf,
}

impl<'a> Archive<'a> {
    fn new(ctx: &'a Context) -> Archive<'a> {
        // One root for each mirror that is named, so that an index never speaks for another mirror.
        let name = match &ctx.mirror {
            None => "host".to_owned(),
            Some(mirror) => Key::of("mirror 1").field("uri", mirror).finish().to_string(),
        };
        Archive { ctx, root: ctx.cache.path("apt", &name) }
    }

    fn stored(&self) -> Option<Index> {
        serde_json::from_str(&read_text(&self.root.join("index.json")).ok()?).ok()
    }

    /// The index, read again when it is missing or old. Without a network an old one serves.
    fn index(&self) -> Result<Index> {
        let recent = |name: &str, limit| {
            let modified = fs::metadata(self.root.join(name)).and_then(|stat| stat.modified());
            modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < limit))
        };
        let stored = self.stored();
        if let Some(index) = &stored {
            if recent("index.json", FRESH) || recent("failed", RETRY) {
                return Ok(index.clone());
            }
        }
        let name = self.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _lock = self.ctx.cache.lock(&self.ctx.bus, &format!("apt-{name}"))?;
        if let Some(index) = self.stored().filter(|_| recent("index.json", FRESH)) {
            return Ok(index);
        }
        let error = match self.update() {
            Ok(index) => return Ok(index),
            Err(error) => error,
        };
        match stored {
            Some(index) if error.class == Class::Host => {
                write_file(&self.root.join("failed"), error.to_string())?;
                let age = now().saturating_sub(index.read_at) / 3600;
                self.ctx.bus.warn(format!(
                    "using the archive's index of {age} hours ago, since it cannot be read again: {}",
                    error.summary()
                ));
                Ok(index)
            }
            _ => Err(error),
        }
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.root.join("apt.conf")).env("LC_ALL", "C");
        command
    }

    /// Runs apt-get, which tells how far it came on a file descriptor of choice.
    fn apt_get(&self, dir: &Path, args: &[&str], phase: &Phase, total: u64) -> Result<Finished> {
        let mut command = self.apt("apt-get");
        command.args(["-q", "-o", "APT::Status-Fd=1"]).args(args).current_dir(dir);
        let mut done = Job::new(command)
            .on_line(|_, line| {
                if let Some((percent, detail)) = download_status(line) {
                    // Without a size percent is the unit.
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

    /// Reads the archive's lists.
    fn update(&self) -> Result<Index> {
        let ctx = self.ctx;
        for tool in ["apt-get", "dpkg-deb"] {
            if crate::proc::find_program(tool).is_none() {
                return Err(Error::host("cannot read the Debian archive")
                    .why(format!("there is no `{tool}` on this host"))
                    .next(format!("install the packages `apt` and `dpkg`, {OTHER_WAYS}")));
            }
        }
        if !Path::new(KEYRING).exists() {
            return Err(Error::host("cannot read the Debian archive")
                .why(format!("{KEYRING} is missing, so nothing could be verified"))
                .next(format!("install the package `debian-archive-keyring`, {OTHER_WAYS}")));
        }
        let shell =
            Shell::new().map_err(|error| Error::host("cannot use the working directory").why(error))?;
        let mirror = mirror(ctx, &shell)?;
        self.configure(&shell, &mirror)?;
        let phase = ctx.bus.phase("index", "Debian archive");
        let done = self.apt_get(&self.root, &["update"], &phase, 0)?;
        let complaints: Vec<String> = done
            .tail
            .iter()
            .filter(|line| line.starts_with("E: ") || line.starts_with("W: "))
            .cloned()
            .collect();
        let mut index = Index { mirror, read_at: now(), ..Index::default() };
        let lists = self.root.join("lists");
        let mut lacking = Vec::new();
        for (suite, name) in SUITES {
            interrupt::check()?;
            let mut found = 0;
            for file in fs::read_dir(&lists).on("cannot list", &lists)? {
                let path = file.on("cannot list", &lists)?.path();
                let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let Some((_, list)) = file_name.split_once(&format!("_dists_{suite}_main_")) else {
                    continue;
                };
                match list {
                    "source_Sources" => read_sources(&read_text(&path)?, name, &mut index),
                    "binary-amd64_Packages" => read_packages(&read_text(&path)?, name, &mut index),
                    _ => continue,
                }
                found += 1;
            }
            if found < 2 {
                // One stale or missing suite must not hide the others.
                let why: Vec<&str> = complaints
                    .iter()
                    .filter(|line| {
                        line.contains(&format!("dists/{suite}/")) || line.contains(&format!(" {suite} "))
                    })
                    .map(String::as_str)
                    .collect();
                let why = if why.is_empty() { "it is not there".to_owned() } else { why.join("; ") };
                lacking.push(format!("the mirror offers no usable suite {suite} ({name}): {why}"));
            }
        }
        // apt counts a network that is down as a warning and ends with 0. Lists that it kept from before say nothing
        // that the stored index does not.
        let unreachable = complaints.iter().any(|line| line.contains("Failed to fetch"));
        let nothing = index.sources.is_empty() && index.images.is_empty();
        if (unreachable && (nothing || self.stored().is_some())) || (nothing && !done.success()) {
            return Err(Error::host("cannot read the Debian archive's lists").detail(complaints).next(format!(
                "check the network and the mirror {}, choose another with --mirror URL or VMTEST_DEBIAN_MIRROR, \
                 {OTHER_WAYS}",
                index.mirror
            )));
        }
        if nothing {
            return Err(Error::host("cannot find kernels in the Debian archive")
                .why(format!("the lists of {} name none", index.mirror))
                .next(format!(
                    "choose another mirror with --mirror URL or VMTEST_DEBIAN_MIRROR, {OTHER_WAYS}"
                )));
        }
        let text = serde_json::to_string_pretty(&index)
            .map_err(|error| Error::host("cannot write the index of kernels").why(error))?;
        for text in lacking {
            ctx.bus.warn(text);
        }
        // What the mirror lacked yesterday it may have today.
        let _ = fs::remove_file(self.root.join("absent"));
        let _ = fs::remove_file(self.root.join("failed"));
        write_file(&self.root.join("index.json"), text)?;
        phase.finish();
        Ok(index)
    }

    /// Writes a configuration that takes nothing from the host's but proxies and TLS settings.
    fn configure(&self, shell: &Shell, mirror: &str) -> Result<()> {
        let root = &self.root;
        for dir in ["lists/partial", "cache/archives/partial", "none"] {
            create_dir(&root.join(dir))?;
        }
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
            // The cache may lie where apt's own user cannot go.
            conf.push_str("APT::Sandbox::User \"root\";\n");
        }
        let host = cmd!(shell, "apt-config dump")
            .quiet()
            .ignore_stderr()
            .env("LC_ALL", "C")
            .read()
            .unwrap_or_default();
        for line in host.lines() {
            if ["Acquire::http::", "Acquire::https::", "Acquire::ForceIPv"]
                .iter()
                .any(|name| line.starts_with(name))
            {
                conf.push_str(line);
                conf.push('\n');
            }
        }
        // Not for everyone: a proxy's address may hold a password.
        let path = root.join("apt.conf");
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(conf.as_bytes())).on("cannot write", &path)?;
        write_file(&root.join("sources.list"), sources_list(mirror))
    }

    /// Sources for `wanted` in the order to try, those that the mirror turned out to lack left out.
    fn absent(&self) -> Vec<String> {
        read_text(&self.root.join("absent")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn remember_absent(&self, sha256: &str) -> Result<()> {
        let mut all = self.absent();
        all.push(sha256.to_owned());
        write_file(&self.root.join("absent"), all.join("\n"))
    }

    /// Downloads with apt into a scratch directory and gives the one file that arrived.
    fn download(&self, into: &Path, args: &[&str], size: u64, what: &str) -> Result<Download> {
        let phase = self.ctx.bus.phase("download", what);
        let done = self.apt_get(into, args, &phase, size)?;
        if done.success() {
            let mut files = Vec::new();
            for entry in fs::read_dir(into).on("cannot list", into)? {
                files.push(entry.on("cannot list", into)?.path());
            }
            let [file] = files.as_slice() else {
                return Err(Error::host(format!("cannot download {what}"))
                    .why(format!("apt left {} files where one was asked for", files.len()))
                    .detail(done.tail));
            };
            phase.finish();
            return Ok(Download::File(file.clone()));
        }
        // The list names a file that the mirror has no more, or a version that went with another list.
        let gone = done.tail.iter().any(|line| {
            line.contains("404  Not Found")
                || line.contains("Unable to locate package")
                || line.contains("File not found")
        });
        if gone {
            return Ok(Download::Absent);
        }
        succeeded(done, format!("cannot download {what}")).map(|_| Download::Absent).map_err(|error| {
            if error.next.is_some() {
                error
            } else {
                error.next(format!(
                    "run it again, choose a mirror with --mirror URL or VMTEST_DEBIAN_MIRROR, {OTHER_WAYS}"
                ))
            }
        })
    }
}

enum Download {
    File(PathBuf),
    Absent,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn sources_list(mirror: &str) -> String {
    let mut text = String::new();
    for (suite, _) in SUITES {
        text.push_str(&format!(
            "deb [ arch=amd64 lang=none target=Packages signed-by={KEYRING} ] {mirror} {suite} main\n\
             deb-src [ lang=none target=Sources signed-by={KEYRING} ] {mirror} {suite} main\n"
        ));
    }
    text
}

/// Percent and message of a line like `dlstatus:1:43.2150:Retrieving file 1 of 1`.
fn download_status(line: &str) -> Option<(f64, &str)> {
    let mut parts = line.strip_prefix("dlstatus:")?.splitn(3, ':').skip(1);
    Some((parts.next()?.parse().ok()?, parts.next().unwrap_or_default()))
}

/// The mirror to ask: the one that was named, else the one that this host's apt uses.
fn mirror(ctx: &Context, shell: &Shell) -> Result<String> {
    match &ctx.mirror {
        Some(mirror) if mirror.contains(':') && !mirror.contains(char::is_whitespace) => Ok(mirror.clone()),
        Some(mirror) => Err(Error::usage(format!("`{mirror}` is no mirror"))
            .next("give a URL that holds dists/ and pool/, as in an apt source")),
        None => host_mirror(shell),
    }
}

/// A line for apt's sources list that names one Debian suite, verified with Debian's own keys; the build root is made from
/// it.
///
/// # Errors
/// When there is no mirror to ask.
pub fn sources_line(ctx: &Context, suite: &str) -> Result<String> {
    let shell = Shell::new().map_err(|error| Error::host("cannot use the working directory").why(error))?;
    Ok(format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror(ctx, &shell)?))
}

/// The Debian mirror that this host uses.
fn host_mirror(shell: &Shell) -> Result<String> {
    let format = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)";
    let targets =
        cmd!(shell, "apt-get indextargets --format {format}").quiet().ignore_stderr().env("LC_ALL", "C");
    let targets = targets.read().unwrap_or_default();
    pick_mirror(&targets).ok_or_else(|| {
        Error::host("cannot choose a Debian mirror")
            .why("this host's apt uses none")
            .next(format!(
                "name one with --mirror URL or VMTEST_DEBIAN_MIRROR (and install `debian-archive-keyring`), {OTHER_WAYS}"
            ))
    })
}

/// The version that the project's series is for, where it is one of those that `wanted` may mean.
fn preferred(ctx: &Context, wanted: &str) -> Option<String> {
    let text = read_text(&ctx.project.join(SERIES_BASE)).ok()?;
    let base = text.split_whitespace().next()?;
    matches(base, wanted).then(|| base.to_owned())
}

fn source_entry(release: &SourceRelease) -> String {
    let form = match release.form {
        Form::Tarball => "tarball",
        Form::Package(_) => "package",
    };
    format!("debian-{form}-{}-{}", release.upstream, &release.sha256[..12.min(release.sha256.len())])
}

/// Upstream version and form of an entry of [`source_entry`].
fn parse_source_entry(name: &str) -> Option<(&str, &str)> {
    let (form, rest) = name.strip_prefix("debian-")?.split_once('-')?;
    let (upstream, _) = rest.rsplit_once('-')?;
    Some((upstream, form))
}

/// A source in the cache that is exactly this version: no index and no network is needed for it.
fn cached_source(ctx: &Context, upstream: &str) -> Option<String> {
    let names = entries(ctx, "source");
    // "package" < "tarball": the plain tarball is preferred.
    names
        .into_iter()
        .filter(|name| parse_source_entry(name).is_some_and(|(found, _)| found == upstream))
        .max()
}

/// The newest version in the cache that `wanted` may mean, for a host that cannot ask the archive.
fn newest_cached_source(ctx: &Context, wanted: &str) -> Option<String> {
    let names = entries(ctx, "source");
    let versions = names.iter().filter_map(|name| Some(parse_source_entry(name)?.0));
    versions.filter(|found| matches(found, wanted)).max_by(|a, b| compare_versions(a, b)).map(str::to_owned)
}

fn entries(ctx: &Context, kind: &str) -> Vec<String> {
    let names = fs::read_dir(ctx.cache.path(kind, "")).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn describe(release: &SourceRelease) -> String {
    match &release.form {
        Form::Tarball => format!("upstream tarball of linux {} in {}", release.version, release.suite),
        Form::Package(name) => {
            format!("package {name} {} in {}, with Debian's patches", release.version, release.suite)
        }
    }
}

/// What a `src:` spec means.
enum Choice {
    /// An entry of the cache.
    Cached { entry: String, upstream: String },
    /// Releases to try, in this order; never empty.
    Try { releases: Vec<SourceRelease>, why: &'static str },
}

fn choose_source(archive: &Archive<'_>, wanted: &str) -> Result<Choice> {
    let ctx = archive.ctx;
    let base = preferred(ctx, wanted);
    let exact = base.as_deref().unwrap_or(wanted);
    if let Some(entry) = cached_source(ctx, exact) {
        return Ok(Choice::Cached { entry, upstream: exact.to_owned() });
    }
    let index = match (archive.index(), newest_cached_source(ctx, wanted)) {
        (Ok(index), _) => index,
        (Err(error), Some(upstream)) if error.class == Class::Host => {
            ctx.bus.warn(format!("src:{wanted} is what the cache has of it: {}", error.summary()));
            let entry = cached_source(ctx, &upstream).unwrap_or_default();
            return Ok(Choice::Cached { entry, upstream });
        }
        (Err(error), _) => return Err(error),
    };
    let absent = archive.absent();
    let present = |found: Vec<&SourceRelease>| -> Vec<SourceRelease> {
        found.into_iter().filter(|release| !absent.contains(&release.sha256)).cloned().collect()
    };
    let mut releases = Vec::new();
    let mut why = "newest of that series";
    if let Some(base) = &base {
        releases = present(index.sources_for(base));
        if releases.is_empty() {
            ctx.bus.note(format!("{SERIES_BASE} names {base}, which the archive has no more"));
        } else {
            why = "base of the project's series";
        }
    }
    for release in present(index.sources_for(wanted)) {
        if !releases.contains(&release) {
            releases.push(release);
        }
    }
    if releases.is_empty() {
        let mut here: Vec<&str> = index.sources.iter().map(|release| release.upstream.as_str()).collect();
        here.sort_by(|a, b| compare_versions(b, a));
        here.dedup();
        return Err(Error::host(format!("cannot find source of kernel {wanted} in the Debian archive"))
            .why(format!("{} lists {}", index.mirror, here.join(", ")))
            .next("take one of these, a tarball as tar:FILE, or a repository as git:PATH@REV; `cargo xtask sources` shows all"));
    }
    if releases[0].upstream == wanted {
        why = "as asked";
    }
    Ok(Choice::Try { releases, why })
}

/// What `src:WANTED` means.
///
/// # Errors
/// When the archive cannot be asked, or has no such version.
pub fn resolve_source(ctx: &Context, wanted: &str) -> Result<Resolved> {
    match choose_source(&Archive::new(ctx), wanted)? {
        Choice::Cached { upstream, entry } => Ok(Resolved {
            id: format!("src:{upstream}"),
            description: format!("kernel {upstream} of the Debian archive, cached ({entry})"),
            cached: true,
        }),
        Choice::Try { releases, why } => {
            let first = &releases[0];
            Ok(Resolved {
                id: format!("src:{}", first.upstream),
                description: format!("{}; {why}", describe(first)),
                cached: ctx.cache.get("source", &source_entry(first)).is_some(),
            })
        }
    }
}

/// Gets `src:WANTED`: the first of its candidates that the mirror really has.
///
/// # Errors
/// When nothing fits, or a download or the disk fails.
pub fn fetch_source(ctx: &Context, wanted: &str) -> Result<SourceTree> {
    let archive = Archive::new(ctx);
    let tree = |upstream: &str, entry: &str, dir| SourceTree {
        id: format!("src:{upstream}"),
        dir,
        key: Key::of("source archive 1").field("entry", entry).finish(),
        lineage: Key::of("archive lineage 1").field("version", upstream).finish(),
        base_commit: None,
    };
    let releases = match choose_source(&archive, wanted)? {
        Choice::Cached { entry, upstream } => {
            return Ok(tree(&upstream, &entry, ctx.cache.path("source", &entry)));
        }
        Choice::Try { releases, why } => {
            ctx.bus.note(format!("src:{wanted} is {}; {why}", describe(&releases[0])));
            releases
        }
    };
    for release in &releases {
        interrupt::check()?;
        let id = format!("src:{}", release.upstream);
        let entry = source_entry(release);
        let mut absent = false;
        let made = ctx.cache.get_or_make(&ctx.bus, "source", &entry, |dir| {
            let scratch = ctx.cache.scratch()?;
            let what = describe(release);
            let file = match &release.form {
                Form::Tarball => {
                    let package = format!("linux={}", release.version);
                    let args = ["source", "--download-only", "--tar-only", &package];
                    archive.download(scratch.path(), &args, release.size, &what)?
                }
                Form::Package(name) => {
                    let package = format!("{name}={}", release.version);
                    archive.download(scratch.path(), &["download", &package], release.size, &what)?
                }
            };
            let Download::File(file) = file else {
                absent = true;
                return Err(Error::host(format!("cannot download {what}")).why("the mirror answers 404"));
            };
            interrupt::check()?;
            match &release.form {
                Form::Tarball => unpack(ctx, &file, dir, &id),
                Form::Package(_) => {
                    let pick = |members: &[&str]| {
                        let found = members
                            .iter()
                            .find(|name| name.contains("/usr/src/linux-source-") && name.contains(".tar."))?;
                        Some(vec![((*found).to_owned(), "source.tar")])
                    };
                    extract(&file, scratch.path(), pick)?;
                    unpack(ctx, &scratch.path().join("source.tar"), dir, &id)
                }
            }
        });
        match made {
            Ok((dir, _)) => return Ok(tree(&release.upstream, &entry, dir)),
            Err(_) if absent => {
                ctx.bus.note(format!("the mirror lists {} and does not have it", describe(release)));
                archive.remember_absent(&release.sha256)?;
            }
            Err(error) => return Err(error.within(format!("cannot get src:{wanted}"))),
        }
    }
    Err(Error::host(format!("cannot get src:{wanted}"))
        .why(format!("the mirror lists {} candidate(s) and has none of them", releases.len()))
        .next(format!("choose another mirror with --mirror URL or VMTEST_DEBIAN_MIRROR, {OTHER_WAYS}")))
}

/// Takes members out of a Debian package. `pick` sees their names and says which, and under which name to keep each.
fn extract(
    package: &Path,
    into: &Path,
    pick: impl Fn(&[&str]) -> Option<Vec<(String, &'static str)>>,
) -> Result<()> {
    let content = into.join("content.tar");
    let what = format!("cannot unpack {}", package.display());
    // dpkg-deb writes to its standard output only; the shell does no more than to open a file for it.
    let mut command = Command::new("sh");
    command.args(["-c", "exec dpkg-deb --fsys-tarfile \"$1\" > \"$2\"", "sh"]).arg(package).arg(&content);
    succeeded(Job::new(command).run()?, &what)?;
    let mut list = Command::new("tar");
    list.arg("-tf").arg(&content);
    let listing = succeeded(Job::new(list).run()?, &what)?.stdout;
    let members: Vec<&str> = listing.lines().collect();
    let picked = pick(&members).ok_or_else(|| {
        Error::host(&what)
            .why("what is looked for is not in it")
            .detail(members.iter().take(10).map(|&m| m.to_owned()))
    })?;
    for (member, name) in picked {
        let at = into.join("member");
        create_dir(&at)?;
        let mut take = Command::new("tar");
        take.args(["--no-same-owner", "--no-same-permissions"]).arg("-xf").arg(&content).arg("-C").arg(&at);
        take.arg("--").arg(&member);
        succeeded(Job::new(take).run()?, &what)?;
        let from = at.join(member.trim_start_matches("./"));
        fs::rename(&from, into.join(name)).on("cannot move", &from)?;
    }
    fs::remove_file(&content).on("cannot remove", &content)
}

/// The kernel, and its configuration where it is there too: /boot of older packages, /usr/lib/modules from 7.2 on.
fn boot_files(members: &[&str]) -> Vec<(String, &'static str)> {
    let within = |name: &str| name.starts_with("./boot/") || name.starts_with("./usr/lib/modules/");
    let find = |wanted: &str| {
        members.iter().find(|name| {
            let last = name.rsplit('/').next().unwrap_or_default();
            within(name)
                && (last == wanted
                    || last.starts_with(&format!("{wanted}-"))
                    || last == format!("{wanted}.unsigned"))
        })
    };
    let mut found = Vec::new();
    found.extend(find("vmlinuz").map(|name| ((*name).to_owned(), "vmlinuz")));
    found.extend(find("config").map(|name| ((*name).to_owned(), "config")));
    found
}

fn image_entry(image: &ImageRelease) -> String {
    format!("debian-{}-{}-{}", image.upstream, image.flavour, &image.sha256[..12.min(image.sha256.len())])
}

/// An image in the cache that is exactly this version and flavour.
fn cached_image(ctx: &Context, upstream: &str, flavour: &str) -> Option<String> {
    let prefix = format!("debian-{upstream}-{flavour}-");
    entries(ctx, "image")
        .into_iter()
        .filter(|name| name.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('-')))
        .max()
}

fn describe_image(image: &ImageRelease) -> String {
    let unsigned = if image.signed { "" } else { ", unsigned" };
    format!("package {} {} in {}{unsigned}", image.package, image.version, image.suite)
}

fn image_id(upstream: &str, flavour: &str) -> String {
    KernelSpec::Debian { version: upstream.to_owned(), flavour: flavour.to_owned() }.to_string()
}

fn choose_images(archive: &Archive<'_>, wanted: &str, flavour: &str) -> Result<Vec<ImageRelease>> {
    let index = archive.index()?;
    let absent = archive.absent();
    let found: Vec<ImageRelease> = index
        .images_for(wanted, flavour)
        .into_iter()
        .filter(|image| !absent.contains(&image.sha256))
        .cloned()
        .collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let mut versions: Vec<&str> =
        index.images.iter().filter(|i| i.flavour == flavour).map(|i| i.upstream.as_str()).collect();
    versions.sort_by(|a, b| compare_versions(b, a));
    versions.dedup();
    let error = Error::host(format!("cannot find image {wanted} of flavour {flavour} in the Debian archive"));
    if versions.is_empty() {
        let mut flavours: Vec<&str> = index.images.iter().map(|image| image.flavour.as_str()).collect();
        flavours.sort_unstable();
        flavours.dedup();
        let example = flavours.first().copied().unwrap_or(DEFAULT_FLAVOUR);
        return Err(error
            .why(format!("the flavours there are {}", flavours.join(", ")))
            .next(format!("name one of them: debian:{wanted}/{example}")));
    }
    // The versions on both sides of the one that is missing say most.
    let at = versions.partition_point(|v| compare_versions(v, wanted).is_gt());
    let near = &versions[at.saturating_sub(4)..versions.len().min(at + 4)];
    Err(error
        .why(format!("{} lists, nearest to it, {}", index.mirror, near.join(", ")))
        .next("take one of these, or a kernel of your own as image:FILE; `cargo xtask sources` shows all"))
}

/// What `debian:WANTED/FLAVOUR` means.
///
/// # Errors
/// When the archive cannot be asked, or has no such image.
pub fn resolve_image(ctx: &Context, wanted: &str, flavour: &str) -> Result<Resolved> {
    if let Some(entry) = cached_image(ctx, wanted, flavour) {
        return Ok(Resolved {
            id: image_id(wanted, flavour),
            description: format!("image {wanted} of the Debian archive, cached ({entry})"),
            cached: true,
        });
    }
    let images = choose_images(&Archive::new(ctx), wanted, flavour)?;
    let first = &images[0];
    let others: Vec<&str> = images
        .iter()
        .filter(|image| image.upstream == first.upstream && image.suite != first.suite)
        .map(|image| image.suite.as_str())
        .collect();
    let also = if others.is_empty() { String::new() } else { format!(" (also in {})", others.join(", ")) };
    Ok(Resolved {
        id: image_id(&first.upstream, flavour),
        description: format!("{}{also}", describe_image(first)),
        cached: ctx.cache.get("image", &image_entry(first)).is_some(),
    })
}

/// Gets `debian:WANTED/FLAVOUR`.
///
/// # Errors
/// When nothing fits, or a download or the disk fails.
pub fn fetch_image(ctx: &Context, spec: &KernelSpec, wanted: &str, flavour: &str) -> Result<Prebuilt> {
    let prebuilt = |upstream: &str, entry: &str, dir: PathBuf| -> Result<Prebuilt> {
        let image = dir.join("vmlinuz");
        Ok(Prebuilt {
            id: image_id(upstream, flavour),
            spec: spec.clone(),
            release: release_of(&image)?,
            image,
            config: Some(dir.join("config")).filter(|config| config.exists()),
            key: Key::of("image archive 1").field("entry", entry).finish(),
        })
    };
    if let Some(entry) = cached_image(ctx, wanted, flavour) {
        return prebuilt(wanted, &entry, ctx.cache.path("image", &entry));
    }
    let archive = Archive::new(ctx);
    let images = choose_images(&archive, wanted, flavour)?;
    ctx.bus.note(format!("debian:{wanted} is {}", describe_image(&images[0])));
    for image in &images {
        interrupt::check()?;
        let entry = image_entry(image);
        let mut absent = false;
        let made = ctx.cache.get_or_make(&ctx.bus, "image", &entry, |dir| {
            absent = !get_image(&archive, image, dir)?;
            if absent { Err(Error::host("the mirror answers 404")) } else { Ok(()) }
        });
        match made {
            Ok((dir, _)) => return prebuilt(&image.upstream, &entry, dir),
            Err(_) if absent => {
                ctx.bus.note(format!("the mirror lists {} and does not have it", describe_image(image)));
                archive.remember_absent(&image.sha256)?;
            }
            Err(error) => return Err(error.within(format!("cannot get debian:{wanted}"))),
        }
    }
    Err(Error::host(format!("cannot get debian:{wanted}"))
        .why(format!("the mirror lists {} candidate(s) and has none of them", images.len()))
        .next(format!("choose another mirror with --mirror URL or VMTEST_DEBIAN_MIRROR, {OTHER_WAYS}")))
}

/// Fills `dir` with `vmlinuz` and, where it can be had, `config`; `false` when the mirror does not have the package.
fn get_image(archive: &Archive<'_>, image: &ImageRelease, dir: &Path) -> Result<bool> {
    let get = |package: &str, size: u64, must: bool| -> Result<bool> {
        let scratch = archive.ctx.cache.scratch()?;
        let wanted = format!("{package}={}", image.version);
        let what = format!("{package} {}", image.version);
        let Download::File(file) = archive.download(scratch.path(), &["download", &wanted], size, &what)?
        else {
            return Ok(false);
        };
        extract(&file, scratch.path(), |members| {
            Some(boot_files(members))
                .filter(|found| !must || found.iter().any(|(_, name)| *name == "vmlinuz"))
        })?;
        for name in ["vmlinuz", "config"] {
            let from = scratch.path().join(name);
            if from.exists() {
                fs::rename(&from, dir.join(name)).on("cannot move", &from)?;
            }
        }
        Ok(true)
    };
    if !get(&image.package, image.size, true)? {
        return Ok(false);
    }
    if let Some(package) = &image.config_package {
        get(package, 0, false)?;
    }
    if !dir.join("config").exists() {
        archive
            .ctx
            .bus
            .note(format!("the archive has no configuration of {} {}", image.package, image.version));
    }
    Ok(true)
}

/// One row of `cargo xtask sources`.
#[derive(Debug, serde::Serialize)]
pub struct Listed {
    /// Upstream version.
    pub version: String,
    /// Sources, in the order to try.
    pub sources: Vec<SourceRelease>,
    /// Images, in the order to try.
    pub images: Vec<ImageRelease>,
    /// Whether its source is in the cache.
    pub source_cached: bool,
    /// Flavours whose image is in the cache.
    pub images_cached: Vec<String>,
}

/// Everything that the archive lists, newest first, and the mirror that said so.
///
/// # Errors
/// When the archive cannot be asked.
pub fn list(ctx: &Context) -> Result<(String, Vec<Listed>)> {
    let index = Archive::new(ctx).index()?;
    let rows = index.versions().into_iter().map(|version| {
        let images: Vec<ImageRelease> =
            index.images.iter().filter(|image| image.upstream == version).cloned().collect();
        let mut images_cached: Vec<String> = images
            .iter()
            .map(|image| image.flavour.clone())
            .filter(|flavour| cached_image(ctx, version, flavour).is_some())
            .collect();
        images_cached.sort();
        images_cached.dedup();
        Listed {
            version: version.to_owned(),
            sources: index
                .sources_for(version)
                .into_iter()
                .filter(|s| s.upstream == version)
                .cloned()
                .collect(),
            images,
            source_cached: cached_source(ctx, version).is_some(),
            images_cached,
        }
    });
    let rows = rows.collect();
    Ok((index.mirror, rows))
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
    fn cache_entries_tell_what_they_are_without_an_index() {
        let release = SourceRelease {
            upstream: "7.3.4".to_owned(),
            version: "7.3.4-1~bpo13+1".to_owned(),
            form: Form::Package("linux-source-7.3".to_owned()),
            suite: "backports".to_owned(),
            sha256: "703e369ddd4cce971452f5a593ee55df".to_owned(),
            size: 1,
        };
        assert_eq!(parse_source_entry(&source_entry(&release)), Some(("7.3.4", "package")));
        assert_eq!(parse_source_entry("git-1234"), None);
    }

    #[test]
    fn kernels_are_found_where_each_debian_version_put_them() {
        // Listings of linux-image-6.12.107, linux-binary-7.2.12, linux-binary-unsigned-7.3.4 and linux-base-7.3.4.
        let old = [
            "./boot/",
            "./boot/System.map-6.12.107+deb13",
            "./boot/config-6.12.107+deb13",
            "./boot/vmlinuz-6.12.107+deb13",
        ];
        let names =
            |members: &[&str]| boot_files(members).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(names(&old), ["vmlinuz", "config"]);
        assert_eq!(names(&["./usr/lib/modules/7.2.12+deb13-cloud-amd64/vmlinuz"]), ["vmlinuz"]);
        assert_eq!(names(&["./usr/lib/modules/7.3.4+deb13-cloud-amd64/vmlinuz.unsigned"]), ["vmlinuz"]);
        assert_eq!(
            names(&["./usr/lib/modules/7.3.4+deb13/System.map", "./usr/lib/modules/7.3.4+deb13/config"]),
            ["config"]
        );
        assert!(names(&["./usr/share/doc/x/config"]).is_empty());
    }
}
