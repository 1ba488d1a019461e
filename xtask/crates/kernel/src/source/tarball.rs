// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tar:FILE`, and unpacking for everything else that comes as a tarball.
//!
//! The members are read one by one, so that each is checked before it is written: files, directories and links that stay
//! inside, and nothing else. tar(1) makes whatever it finds, as root also devices.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::source::{Choice, Resolved, SourceTree, kernel_version};
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::{create_dir, read_text, write_file};
use vmtest_base::key::{Key, hash_file};
use vmtest_base::{beneath, interrupt};
use vmtest_host::clean_env;
use vmtest_host::context::Context;
use vmtest_host::process::{Finished, Group, full_disk};
use vmtest_host::store::CacheKind;

/// Bytes that a source may unpack to, and members. A kernel has 2 GB and 90,000.
const MAX_BYTES: u64 = 16 << 30;
const MAX_MEMBERS: usize = 1_000_000;
/// Bytes of headers between two members: long names, attributes.
const MAX_HEADERS: u64 = 1 << 20;
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Unpacks a kernel tarball into the empty directory `into`, without its top directory: gzip, bzip2, xz, zstd or none.
/// Gives the SHA-256 of what was read.
///
/// # Errors
/// Class `Usage` when the tarball is not exactly one directory with a kernel in it, or has members that no source has; a
/// host error when it is damaged, or the disk is full.
pub fn unpack(ctx: &Context, tarball: &Path, into: &Path, subject: &str) -> Result<String> {
    let phase = ctx.bus.phase("unpack", subject);
    let inner = into.join(".unpack");
    create_dir(&inner)?;
    let hash = read_members(tarball, &inner, |done| phase.progress(done, 0, ""))?;
    let mut tops = Vec::new();
    for entry in fs::read_dir(&inner).on("cannot list", &inner)? {
        tops.push(entry.on("cannot list", &inner)?.path());
    }
    let top = match tops.as_slice() {
        [top] if kernel_version(top).is_some() => top,
        found => {
            let names: Vec<_> = found
                .iter()
                .take(5)
                .filter_map(|path| path.file_name())
                .map(|n| n.to_string_lossy())
                .collect();
            return Err(Error::usage(format!("{} is not kernel source", tarball.display()))
                .why(format!(
                    "it should hold exactly one directory with a kernel's Makefile, but holds {} entries: {}",
                    found.len(),
                    names.join(", ")
                ))
                .next("use a tree with another layout as tree:PATH"));
        }
    };
    for entry in fs::read_dir(top).on("cannot list", top)? {
        let entry = entry.on("cannot list", top)?;
        fs::rename(entry.path(), into.join(entry.file_name())).on("cannot move", entry.path())?;
    }
    fs::remove_dir(top).on("cannot remove", top)?;
    fs::remove_dir(&inner).on("cannot remove", &inner)?;
    phase.finish();
    Ok(hash)
}

/// The program that undoes a compression, by the first bytes of the file; `None` where there is none.
fn decompressor(head: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 4] = [
        (&[0x1f, 0x8b], "gzip"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    ];
    known.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, program)| program)
}

/// Reads a file and hashes it on the way, so that the hash is of what was unpacked, whatever happens to the file.
struct Hashed {
    file: File,
    hash: Sha256,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// What may still be read. It ends a tarball that has no end.
struct Bounded<'a> {
    inner: Box<dyn Read + 'a>,
    left: &'a AtomicU64,
    until: Instant,
}

/// A pipe whose other end may never write: nobody hangs with it.
struct Waiting<R> {
    pipe: R,
    until: Instant,
}

impl<R: Read + AsFd> Read for Waiting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const TICK_MS: u8 = 50;
        loop {
            if interrupt::requested().is_some() {
                return Err(io::Error::other("interrupted"));
            }
            let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, TICK_MS) {
                Ok(0) | Err(Errno::EINTR) if Instant::now() > self.until => return Err(too_slow()),
                Ok(0) | Err(Errno::EINTR) => (),
                Ok(_) => return self.pipe.read(buffer),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn too_slow() -> io::Error {
    io::Error::other(format!("it takes longer than {} s", LIMIT.as_secs()))
}

const TOO_MUCH: &str = "it holds more than a kernel's source";

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if interrupt::requested().is_some() {
            return Err(io::Error::other("interrupted"));
        }
        if Instant::now() > self.until {
            return Err(too_slow());
        }
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::other(TOO_MUCH));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..most])?;
        self.left.fetch_sub(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Writes the members of a tarball below `into`.
fn read_members(tarball: &Path, into: &Path, progress: impl Fn(u64)) -> Result<String> {
    let what = || format!("cannot unpack {}", tarball.display());
    let mut file = File::open(tarball).on("cannot open", tarball)?;
    let mut head = [0; 8];
    let length = file.read(&mut head).on("cannot read", tarball)?;
    io::Seek::rewind(&mut file).on("cannot read", tarball)?;
    let source = Hashed { file, hash: Sha256::new() };
    let Some(program) = decompressor(&head[..length]) else {
        let mut source = source;
        Members::new(into, tarball).read(Box::new(&mut source), progress)?;
        return finish(source, tarball);
    };
    let mut command = clean_env::command(program);
    command.arg("-dc").stdin(Stdio::piped());
    if program == "xz" {
        // All cores, where the archive was written in blocks.
        command.arg("-T0");
    }
    let mut group = Group::spawn(command)?;
    let stdin = group.take_stdin();
    let streams = group.streams();
    let (Some(mut stdin), Some((stdout, stderr))) = (stdin, streams) else {
        return Err(Error::host(what()).why("a child has no streams"));
    };
    std::thread::scope(|scope| {
        let feeder = scope.spawn(move || {
            let mut source = source;
            // A child that closes its input early says why.
            let fed = io::copy(&mut source, &mut stdin);
            (fed, source)
        });
        let complaint = scope.spawn(move || {
            let mut text = String::new();
            let _ = stderr.take(4096).read_to_string(&mut text);
            text
        });
        let read = Members::new(into, tarball)
            .read(Box::new(Waiting { pipe: stdout, until: Instant::now() + LIMIT }), progress);
        let status = match &read {
            Ok(()) => group.wait(),
            Err(_) => {
                group.end_within(Duration::ZERO);
                group.wait()
            }
        };
        let (_, source) = feeder.join().expect("reading a file does not panic");
        let said = complaint.join().expect("reading a pipe does not panic");
        // A damaged file first: what is wrong with the tarball in it follows from that.
        if read.as_ref().err().is_none_or(|error| error.class == vmtest_base::error::Class::Host)
            && !said.trim().is_empty()
        {
            interrupt::check()?;
            return Err(Error::host(what()).why(format!("`{program}` says: {}", said.trim())));
        }
        read?;
        if !status?.success() {
            return Err(Error::host(what()).why(format!("`{program}` failed")));
        }
        finish(source, tarball)
    })
}

/// Reads what is left of the file: the hash is of all of it.
fn finish(mut source: Hashed, tarball: &Path) -> Result<String> {
    io::copy(&mut source, &mut io::sink()).on("cannot read", tarball)?;
    Ok(source.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What is being unpacked.
struct Members<'a> {
    into: &'a Path,
    tarball: &'a Path,
    /// Path to whether it is a file.
    made: BTreeMap<PathBuf, bool>,
    /// Path to target. They are made last, so that nothing is written through one.
    links: BTreeMap<PathBuf, PathBuf>,
}

impl<'a> Members<'a> {
    fn new(into: &'a Path, tarball: &'a Path) -> Members<'a> {
        Members { into, tarball, made: BTreeMap::new(), links: BTreeMap::new() }
    }

    fn refused(&self, path: &Path, why: &str) -> Error {
        Error::usage(format!("{} is refused: {} {why}", self.tarball.display(), path.display()))
            .why("a kernel's source has files, directories and links that stay inside")
            .next("check where this tarball comes from; if it is fine, unpack it by hand and use it as tree:PATH")
    }

    fn damaged(&self, error: &io::Error) -> Error {
        if let Err(error) = interrupt::check() {
            return error;
        }
        let text = error.to_string();
        if text.contains(TOO_MUCH) {
            return Error::usage(format!("{} is refused: {TOO_MUCH}", self.tarball.display()));
        }
        Error::host(format!("cannot unpack {}", self.tarball.display())).why(text).next("download it again")
    }

    fn read(mut self, from: Box<dyn Read + '_>, progress: impl Fn(u64)) -> Result<()> {
        let left = AtomicU64::new(MAX_HEADERS);
        let bounded = Bounded { inner: from, left: &left, until: Instant::now() + LIMIT };
        let mut archive = tar::Archive::new(bounded);
        let (mut total, mut count) = (0_u64, 0_usize);
        let mut entries = archive.entries().map_err(|error| self.damaged(&error))?;
        loop {
            // A name can be as long as the archive says; it is read whole.
            left.store(MAX_HEADERS, Ordering::Relaxed);
            let Some(entry) = entries.next() else { break };
            let mut entry = entry.map_err(|error| self.damaged(&error))?;
            count += 1;
            total = total.saturating_add(entry.size());
            if total > MAX_BYTES || count > MAX_MEMBERS {
                return Err(self.damaged(&io::Error::other(TOO_MUCH)));
            }
            left.store(MAX_BYTES, Ordering::Relaxed);
            self.take(&mut entry)?;
            // Padding and what a directory may have as content.
            io::copy(&mut entry, &mut io::sink()).map_err(|error| self.damaged(&error))?;
            if count % 256 == 0 {
                progress(total);
            }
        }
        if count == 0 {
            return Err(self.damaged(&io::Error::other("it is not a tarball, or an empty one")));
        }
        // The padding at the end: a decompressor whose reader is gone fails.
        left.store(MAX_BYTES, Ordering::Relaxed);
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| self.damaged(&error))?;
        self.make_links()
    }

    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<()> {
        let named = entry.path().map_err(|error| self.damaged(&error))?.into_owned();
        let mut path = PathBuf::new();
        for part in named.components() {
            match part {
                Component::Normal(name) => path.push(name),
                Component::CurDir => (),
                _ => return Err(self.refused(&named, "is not a path inside of it")),
            }
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        if path.as_os_str().is_empty() {
            return if kind == EntryType::Directory {
                Ok(())
            } else {
                Err(self.refused(&named, "has no name"))
            };
        }
        if path.iter().count() > 100 || path.as_os_str().len() > 2000 {
            return Err(self.refused(&named, "is nested too deep"));
        }
        let to = self.into.join(&path);
        if path.ancestors().any(|above| self.links.contains_key(above)) {
            return Err(self.refused(&path, "occurs twice, or is below a link"));
        }
        match kind {
            EntryType::Directory => {
                if self.made.get(&path) == Some(&true) {
                    return Err(self.refused(&path, "is a file and a directory"));
                }
                self.directories(&path)
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.begin(&path)?;
                let mut file = File::create_new(&to).on("cannot create", &to)?;
                copy_bytes(entry, &mut file, &to).map_err(|error| match error {
                    Failed::Read(error) => self.damaged(&error),
                    Failed::Write(error) => error,
                })?;
                self.finish_file(entry, &file, &to)
            }
            EntryType::Link => {
                let target = entry.link_name().ok().flatten().map(|target| target.into_owned());
                let target: Option<PathBuf> = target
                    .map(|target| target.components().filter(|part| *part != Component::CurDir).collect());
                // Only to what was unpacked before, as tar writes them.
                let Some(target) = target.filter(|target| self.made.get(target) == Some(&true)) else {
                    return Err(self.refused(&path, "is a hard link to something outside it"));
                };
                self.begin(&path)?;
                fs::copy(self.into.join(&target), &to).map(drop).on("cannot copy", &to)
            }
            EntryType::Symlink => {
                let target = entry.link_name().ok().flatten().map(|target| target.into_owned());
                let Some(target) = target else {
                    return Err(self.refused(&path, "is a link without a target"));
                };
                if self.made.contains_key(&path) {
                    return Err(self.refused(&path, "occurs twice"));
                }
                if let Some(parent) = path.parent() {
                    self.directories(parent)?;
                }
                self.links.insert(path, target);
                Ok(())
            }
            EntryType::Char | EntryType::Block => Err(self.refused(&path, "is a device")),
            EntryType::Fifo => Err(self.refused(&path, "is a FIFO")),
            other => {
                Err(self.refused(&path, &format!("is of the unknown type {:?}", char::from(other.as_byte()))))
            }
        }
    }

    /// Makes room for a file; a later member of the same name wins, as with tar.
    fn begin(&mut self, path: &Path) -> Result<()> {
        if let Some(parent) = path.parent() {
            self.directories(parent)?;
        }
        match self.made.insert(path.to_owned(), true) {
            None => Ok(()),
            Some(true) => {
                let old = self.into.join(path);
                fs::remove_file(&old).on("cannot remove", &old)
            }
            Some(false) => Err(self.refused(path, "is a file and a directory")),
        }
    }

    fn directories(&mut self, path: &Path) -> Result<()> {
        for above in path.ancestors().filter(|above| !above.as_os_str().is_empty()) {
            match self.made.insert(above.to_owned(), false) {
                Some(true) => return Err(self.refused(above, "is a file and a directory")),
                Some(false) => break,
                None => (),
            }
        }
        create_dir(&self.into.join(path))
    }

    /// Whether it can be executed, and its time: of a mode nothing else counts.
    fn finish_file(&self, entry: &tar::Entry<'_, impl Read>, file: &File, to: &Path) -> Result<()> {
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
        let mode = if executable { 0o755 } else { 0o644 };
        file.set_permissions(Permissions::from_mode(mode)).on("cannot set the mode of", to)?;
        let seconds = entry.header().mtime().unwrap_or(0);
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.min(u64::from(u32::MAX))));
        file.set_modified(time.unwrap_or(SystemTime::UNIX_EPOCH)).on("cannot set the time of", to)
    }

    fn make_links(&self) -> Result<()> {
        for (path, target) in &self.links {
            if beneath::leads_out(path, |path| self.links.get(path).cloned()) {
                return Err(
                    self.refused(path, &format!("is a link that leads out of it, to {}", target.display()))
                );
            }
        }
        for (path, target) in &self.links {
            let link = self.into.join(path);
            symlink(target, &link).on("cannot link", &link)?;
        }
        Ok(())
    }
}

/// Which side of a copy failed.
enum Failed {
    Read(io::Error),
    Write(Error),
}

fn copy_bytes(from: &mut impl Read, to: &mut File, path: &Path) -> std::result::Result<(), Failed> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = from.read(&mut buffer).map_err(Failed::Read)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).on("cannot write", path).map_err(Failed::Write)?;
    }
}

/// Itself when the child succeeded; a full disk gets its advice.
///
/// # Errors
/// A host error that opens with `what`.
pub fn succeeded(done: Finished, what: impl Into<String>) -> Result<Finished> {
    if done.success() {
        return Ok(done);
    }
    let what = what.into();
    had_space(&done, &what)?;
    done.ok(what)
}

/// Fails when a child complained of a full disk, whatever status it ended with: apt-get calls that a warning.
///
/// # Errors
/// A host error that opens with `what` and shows only the complaint.
pub fn had_space(done: &Finished, what: &str) -> Result<()> {
    match done.no_space() {
        None => Ok(()),
        Some(line) => Err(full_disk(what, &done.command, line)),
    }
}

/// Where the hash of a file is remembered: by its path and by what tells one state of it from another. `None` for a file
/// that changed a moment ago, since the next change may look the same.
fn memo(ctx: &Context, file: &Path) -> Result<Option<PathBuf>> {
    const TICK: i64 = 2;
    let stat = fs::metadata(file).on("cannot read", file)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if stat.ctime().max(stat.mtime()) + TICK >= i64::try_from(now).unwrap_or(i64::MAX) {
        return Ok(None);
    }
    let key = Key::of("file hash 2")
        .field("path", file.as_os_str().as_encoded_bytes())
        .field("size", stat.size().to_le_bytes())
        .field("mtime", format!("{}.{:09}", stat.mtime(), stat.mtime_nsec()))
        .field("ctime", format!("{}.{:09}", stat.ctime(), stat.ctime_nsec()))
        .field("inode", format!("{} {}", stat.dev(), stat.ino()))
        .finish();
    Ok(Some(ctx.cache.path(CacheKind::Hashes, key.as_str())))
}

/// Hash of a file's content, from memory where it can be.
pub(super) fn remembered_hash(ctx: &Context, file: &Path) -> Result<String> {
    let memo = memo(ctx, file)?;
    if let Some(hash) = memo.as_ref().and_then(|memo| read_text(memo).ok()) {
        return Ok(hash);
    }
    let hash = hash_file(file)?;
    if let Some(memo) = memo {
        if let Some(parent) = memo.parent() {
            create_dir(parent)?;
        }
        write_file(&memo, &hash)?;
    }
    Ok(hash)
}

/// Fails when a file was not what its hash says by the time that it was used.
pub(super) fn same_content(file: &Path, hash: &str, seen: &str) -> Result<()> {
    if hash == seen {
        return Ok(());
    }
    Err(Error::host(format!("cannot use {}", file.display()))
        .why("it changed while it was read")
        .next("wait until nothing writes to it, then run this again"))
}

/// `linux-6.18.15` of `/x/linux-6.18.15.tar.xz`.
fn stem(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
    match name.find(".tar").or_else(|| name.rfind(".t")) {
        Some(end) if end > 0 => name[..end].to_owned(),
        _ => name,
    }
}

fn checked(file: &Path) -> Result<PathBuf> {
    let no = |why: String| Error::usage(format!("tar:{} cannot be used", file.display())).why(why);
    let path = file.canonicalize().map_err(|error| no(error.to_string()))?;
    if !path.is_file() {
        return Err(no("it is not a file".to_owned()).next("a directory is tree:PATH"));
    }
    Ok(path)
}

pub(super) fn resolve(ctx: &Context, file: &Path) -> Result<Resolved> {
    let path = checked(file)?;
    let size = fs::metadata(&path).on("cannot read", &path)?.len();
    // Hashing a tarball takes longer than a dry run may: one that was never hashed is simply not cached.
    let hash = memo(ctx, &path)?.and_then(|memo| read_text(&memo).ok());
    let cached = hash.is_some_and(|hash| ctx.cache.get(CacheKind::Source, &entry(&hash)).is_some());
    Ok(Resolved {
        id: format!("tar:{}", stem(&path)),
        description: format!("{} ({} MB)", path.display(), size / 1_000_000),
        cached,
        path: Some(path.clone()),
        commits: 0,
        choice: Choice::Tarball(path),
    })
}

fn entry(hash: &str) -> String {
    format!("tar-{}", &hash[..20.min(hash.len())])
}

pub(super) fn fetch(ctx: &Context, file: &Path) -> Result<SourceTree> {
    let path = checked(file)?;
    let id = format!("tar:{}", stem(&path));
    let hash = remembered_hash(ctx, &path)?;
    interrupt::check()?;
    let (dir, _) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Source, &entry(&hash), |dir| {
        let seen = unpack(ctx, &path, dir, &id)?;
        same_content(&path, &hash, &seen)
    })?;
    let key = Key::of("source tarball 1").field("sha256", &hash).finish();
    Ok(SourceTree { id, dir, lineage: key.clone(), origin: Some(key.clone()), key, base_commit: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(status: i32, tail: &[&str]) -> Finished {
        Finished {
            status: std::os::unix::process::ExitStatusExt::from_raw(status << 8),
            tail: tail.iter().map(|&line| line.to_owned()).collect(),
            stdout: String::new(),
            command: "apt-get download x".to_owned(),
        }
    }

    #[test]
    fn a_full_disk_is_told_in_one_line() {
        // What apt-get and dpkg-deb printed on a full tmpfs.
        for line in [
            "E: You don't have enough free space in .",
            "  Error writing to file - write (28: No space left on device)",
            "dpkg-deb (subprocess): lzma write error: No space left on device",
        ] {
            let said = ["Get:1 x", "Ign:1 x", line, "NOTICE: packaging is maintained elsewhere"];
            let error = succeeded(finished(100, &said), "cannot download x").expect_err("full");
            assert_eq!(error.detail, [line.trim()]);
            assert!(error.next.is_some_and(|next| next.contains("free some space")));
            assert!(had_space(&finished(0, &said), "cannot read lists").is_err(), "whatever the status");
        }
        assert!(succeeded(finished(0, &["tar: No space left, as a file is named"]), "x").is_ok());
        let other = succeeded(finished(2, &["no such file"]), "x").expect_err("failed");
        assert_eq!((other.detail.len(), other.next), (1, None));
    }

    /// A member of a tarball.
    type Member<'a> = (EntryType, &'a str, &'a str);

    /// A tarball of a kernel and these members. Names are written as they are.
    fn tarball(at: &Path, members: &[Member<'_>]) {
        let mut builder = tar::Builder::new(File::create(at).expect("made"));
        let kernel = [
            (EntryType::Directory, "linux/", ""),
            (EntryType::Regular, "linux/Makefile", "VERSION = 6\nPATCHLEVEL = 18\n"),
        ];
        for (kind, name, content) in kernel.iter().chain(members) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o6755);
            header.set_mtime(1_000_000_000);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            let is_file = *kind == EntryType::Regular;
            if !is_file {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(if is_file { content.len() as u64 } else { 0 });
            header.set_cksum();
            builder.append(&header, if is_file { content.as_bytes() } else { b"" }).expect("written");
        }
        builder.finish().expect("written");
    }

    #[test]
    fn only_files_directories_and_links_that_stay_inside_are_unpacked() {
        use EntryType::{Block, Char, Fifo, Link, Regular, Symlink};
        let (dir, ctx) = crate::source::samples::context();
        let file = dir.path().join("x.tar");
        let good: &[Member<'_>] = &[
            (Regular, "linux/deep/dir/file", "text"),
            (Symlink, "linux/deep/up", "../Makefile"),
            (Symlink, "linux/dangling", "nothing"),
            (Link, "linux/hard", "linux/deep/dir/file"),
            (Regular, "linux/deep/dir/file", "newer"),
        ];
        tarball(&file, good);
        let tree = fetch(&ctx, &file).expect("unpacked");
        assert_eq!(read_text(&tree.dir.join("deep/dir/file")).expect("read"), "newer");
        assert_eq!(read_text(&tree.dir.join("hard")).expect("read"), "text");
        assert_eq!(fs::read_link(tree.dir.join("deep/up")).expect("a link"), Path::new("../Makefile"));
        let stat = fs::metadata(tree.dir.join("deep/dir/file")).expect("there");
        assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o755, 1_000_000_000), "no setuid");
        let home = dir.path().join("home");
        fs::create_dir(&home).expect("made");
        let home = home.to_str().expect("text");
        let bad: [(&[Member<'_>], &str); 14] = [
            (&[(Char, "linux/dev", "")], "linux/dev is a device"),
            (&[(Block, "linux/dev", "")], "linux/dev is a device"),
            (&[(Fifo, "linux/pipe", "")], "linux/pipe is a FIFO"),
            (&[(Regular, "linux/../../out", "x")], "not a path inside"),
            (&[(Regular, "/etc/out", "x")], "not a path inside"),
            (&[(Symlink, "linux/key", "/etc/passwd")], "leads out of it, to /etc/passwd"),
            (&[(Symlink, "linux/key", "../../x")], "leads out of it"),
            (&[(Symlink, "linux/l", "."), (Symlink, "linux/key", "l/l/../../../..")], "leads out of it"),
            (&[(Symlink, "linux/way", home), (Regular, "linux/way/out", "x")], "below a link"),
            (&[(Symlink, "linux/file", home), (Regular, "linux/file", "x")], "second time"),
            (&[(Regular, "linux/file", "x"), (Symlink, "linux/file", home)], "second time"),
            (&[(Link, "linux/key", "/etc/passwd")], "hard link to what is not in it"),
            (&[(Link, "linux/key", "linux/../../x")], "hard link to what is not in it"),
            (
                &[(Symlink, "linux/Makefile2", "Makefile"), (Link, "linux/key", "linux/Makefile2")],
                "hard link",
            ),
        ];
        for (members, says) in bad {
            tarball(&file, members);
            let error = fetch(&ctx, &file).expect_err(says);
            assert!(error.to_string().contains(says), "{error} is not {says}");
            assert_eq!(error.class.code(), 2, "{error}");
        }
        assert_eq!(fs::read_dir(home).expect("listed").count(), 0, "nothing was written outside");
    }

    #[test]
    fn a_makefile_that_is_a_link_is_no_kernel() {
        let (dir, ctx) = crate::source::samples::context();
        let file = dir.path().join("x.tar");
        let mut builder = tar::Builder::new(File::create(&file).expect("made"));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "linux/Makefile", "other").expect("written");
        builder.finish().expect("written");
        let error = fetch(&ctx, &file).expect_err("refused").to_string();
        assert!(error.contains("is not kernel source"), "{error}");
    }

    #[test]
    fn what_has_no_end_is_refused_before_it_is_written() {
        let (dir, ctx) = crate::source::samples::context();
        let file = dir.path().join("x.tar");
        for kind in [EntryType::Regular, EntryType::GNULongName, EntryType::XHeader] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_path("linux/large").expect("short");
            header.set_size(1 << 40);
            header.set_cksum();
            fs::write(&file, header.as_bytes()).expect("written");
            File::options().write(true).open(&file).expect("opened").set_len(1 << 32).expect("sparse");
            let begun = Instant::now();
            // The hash of it all is not what is tested here.
            let error = unpack(&ctx, &file, &dir.path().join(format!("{kind:?}")), "x").expect_err("refused");
            assert!(error.to_string().contains(TOO_MUCH), "{kind:?}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
    }

    #[test]
    fn every_compression_is_undone_and_padding_is_no_failure() {
        let (dir, ctx) = crate::source::samples::context();
        let plain = dir.path().join("x.tar");
        tarball(&plain, &[(EntryType::Regular, "linux/file", "text")]);
        // More than a pipe holds.
        let length = fs::metadata(&plain).expect("there").len();
        File::options()
            .write(true)
            .open(&plain)
            .and_then(|file| file.set_len(length + (1 << 20)))
            .expect("longer");
        for program in ["cat", "gzip", "bzip2", "xz", "zstd"] {
            let packed = dir.path().join(format!("x.tar.{program}"));
            let mut command = std::process::Command::new(program);
            let words: &[&str] = if program == "cat" { &[] } else { &["-c"] };
            command.args(words).arg(&plain).stdout(File::create(&packed).expect("made"));
            if !command.status().is_ok_and(|status| status.success()) {
                continue;
            }
            let tree = fetch(&ctx, &packed).expect(program);
            assert_eq!(read_text(&tree.dir.join("file")).expect("read"), "text");
        }
    }

    #[test]
    fn a_damaged_archive_is_told_by_its_program() {
        let (dir, ctx) = crate::source::samples::context();
        let file = dir.path().join("x.tar.xz");
        fs::write(&file, b"\xfd7zXZ\0\0\x04nothing of the kind").expect("written");
        let error = fetch(&ctx, &file).expect_err("damaged");
        assert!(error.to_string().contains("`xz` says"), "{error}");
        fs::write(&file, "just text\n").expect("written");
        fetch(&ctx, &file).expect_err("no tarball");
    }

    #[test]
    fn an_edit_that_keeps_size_and_time_is_seen() {
        let (dir, ctx) = crate::source::samples::context();
        let file = dir.path().join("x.tar");
        fs::write(&file, "one").expect("written");
        let time = fs::metadata(&file).and_then(|stat| stat.modified()).expect("a time");
        let first = remembered_hash(&ctx, &file).expect("read");
        std::thread::sleep(Duration::from_millis(3100));
        assert_eq!(remembered_hash(&ctx, &file).expect("read"), first);
        assert!(memo(&ctx, &file).expect("read").is_some_and(|memo| memo.exists()), "remembered by now");
        fs::write(&file, "two").expect("written");
        File::options().write(true).open(&file).expect("opened").set_modified(time).expect("a time");
        assert_ne!(remembered_hash(&ctx, &file).expect("read"), first);
    }

    #[test]
    fn a_tarball_is_named_without_its_compression() {
        assert_eq!(stem(Path::new("/x/linux-6.18.15.tar.xz")), "linux-6.18.15");
        assert_eq!(stem(Path::new("linux-7.3.tgz")), "linux-7.3");
        assert_eq!(stem(Path::new("snapshot")), "snapshot");
    }
}
