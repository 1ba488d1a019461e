// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a tarball member by member, and checks each before it is written: files, directories and links that
//! stay inside, and nothing else. tar(1) would create anything it finds, as root even devices.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use sha2::{Digest, Sha256};
use tar::EntryType;

use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::create_dir;
use vmtest_base::{beneath, interrupt};
use vmtest_host::clean_env;
use vmtest_host::process::Group;

/// Most bytes and members of an unpacked source. A kernel has 2 GB and 90,000.
const MAX_BYTES: u64 = 16 << 30;

const MAX_MEMBERS: usize = 1_000_000;

/// Most bytes of headers between two members: long names, attributes.
const MAX_HEADERS: u64 = 1 << 20;

/// Time limit.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// The program that decompresses a file, according to its first bytes; `None` if it is not compressed.
fn decompressor(head: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 4] = [
        (&[0x1f, 0x8b], "gzip"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    ];
    known.into_iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, program)| program)
}

/// Reads a file and hashes it on the way, so that the hash matches what was unpacked even if the file
/// changes.
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

/// Limits how much and how long is read, so that an endless tarball ends.
struct Bounded<'a> {
    inner: Box<dyn Read + 'a>,
    left: &'a AtomicU64,
    until: Instant,
}

/// A pipe whose writer may block: reads with a time limit and can be interrupted.
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

pub(super) const TOO_MUCH: &str = "it holds more than a kernel's source";

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

/// Writes the members of a tarball below `into`. Returns the SHA-256 of the tarball.
pub(super) fn read_members(tarball: &Path, into: &Path, progress: impl Fn(u64)) -> Result<String> {
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
    read_compressed(program, source, tarball, into, progress)
}

/// The same through a decompressor.
fn read_compressed(
    program: &str,
    source: Hashed,
    tarball: &Path,
    into: &Path,
    progress: impl Fn(u64),
) -> Result<String> {
    let what = || format!("cannot unpack {}", tarball.display());
    let mut command = clean_env::command(program);
    command.arg("-dc").stdin(Stdio::piped());
    if program == "xz" {
        // Uses all cores if the file was compressed in blocks.
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
            // A child that closes its input early reports why.
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
        // The decompressor's message first, since a damaged file also causes an error in the tarball.
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

/// Reads the rest of the file, because the hash covers all of it.
fn finish(mut source: Hashed, tarball: &Path) -> Result<String> {
    io::copy(&mut source, &mut io::sink()).on("cannot read", tarball)?;
    Ok(source.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// State of unpacking.
struct Members<'a> {
    into: &'a Path,
    tarball: &'a Path,
    /// Whether each path that was created is a file; `false` for a directory.
    made: BTreeMap<PathBuf, bool>,
    /// Symlinks with their targets. Created last, so that nothing is written through one.
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
            // A name can be as long as its header says, and is read as a whole.
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
            // Padding, and any content of a directory.
            io::copy(&mut entry, &mut io::sink()).map_err(|error| self.damaged(&error))?;
            if count % 256 == 0 {
                progress(total);
            }
        }
        if count == 0 {
            return Err(self.damaged(&io::Error::other("it is not a tarball, or an empty one")));
        }
        // The padding at the end: a decompressor fails if its output is not read.
        left.store(MAX_BYTES, Ordering::Relaxed);
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| self.damaged(&error))?;
        self.make_links()
    }

    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<()> {
        let Some(path) = self.path_of(entry)? else { return Ok(()) };
        let to = self.into.join(&path);
        match entry.header().entry_type() {
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
                // Only to files that were unpacked before, as tar writes them.
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

    /// The checked path of a member; `None` for one that creates nothing.
    fn path_of(&self, entry: &tar::Entry<'_, impl Read>) -> Result<Option<PathBuf>> {
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
            return Ok(None);
        }
        if path.as_os_str().is_empty() {
            return match kind {
                EntryType::Directory => Ok(None),
                _ => Err(self.refused(&named, "has no name")),
            };
        }
        if path.iter().count() > 100 || path.as_os_str().len() > 2000 {
            return Err(self.refused(&named, "is nested too deep"));
        }
        if path.ancestors().any(|above| self.links.contains_key(above)) {
            return Err(self.refused(&path, "occurs twice, or is below a link"));
        }
        Ok(Some(path))
    }

    /// Prepares the place for a file. A later member of the same name wins, as with tar.
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

    /// Sets the time and whether it is executable; other mode bits are ignored.
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
