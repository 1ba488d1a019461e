// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fetches a series by the message ID of one of its mails, or by the address of its thread in the list
//! archive. b4 saves it as an mbox in the cache, and from there it is a file like any other. b4 comes from
//! the build root. Trailers from replies are not added, so that the same ID gives the same series on another day.
//!
//! An mbox of patchwork and a `.patch` of a forge are downloaded as they are, each time: their content can change. These two
//! downloads are the only programs in a sandbox that ever get a network.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::key::{Key, hash_file};
use vmtest_host::build_root::BuildRoot;
use vmtest_host::context::Context;
use vmtest_host::doctor::Toolchain;
use vmtest_host::process::Job;
use vmtest_host::sandbox::{Sandbox, Tools};
use vmtest_host::store::CacheKind;
use vmtest_host::tools;

/// A thread has at most a few hundred mails, which take much less time.
const LIMIT: Duration = Duration::from_secs(120);
/// Hosts with the archives of kernel mailing lists.
const ARCHIVES: [&str; 2] = ["lore.kernel.org", "patch.msgid.link"];
/// Name of the mbox that b4 writes, without extension.
const FETCHED: &str = "series";
/// Longest part of a message ID in a file name, and so in the name of a column.
const MAX_NAME: usize = 40;

/// Largest download.
const MAX_BYTES: u64 = 64 << 20;
/// Downloads an address to a file: python3 is what b4 runs on.
const DOWNLOAD: &str = "\
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={'User-Agent': 'kmatrix'})
with urllib.request.urlopen(request, timeout=60) as answer:
    data = answer.read(int(sys.argv[3]) + 1)
if len(data) > int(sys.argv[3]):
    sys.exit('it has more than ' + sys.argv[3] + ' bytes')
with open(sys.argv[2], 'wb') as file:
    file.write(data)
";

/// A series that has to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// The thread with this message ID.
    Thread(String),
    /// The file at this address: an mbox of patchwork, or a forge's `.patch`.
    File(String),
}

/// The series that this text names; `None` if the text is a path.
///
/// # Errors
/// Class `Usage` for text that looks like a mail or an address but does not name a series.
pub fn remote(text: &str) -> Result<Option<Remote>> {
    if is_address_of_file(text) {
        return Ok(Some(Remote::File(text.to_owned())));
    }
    Ok(id(text)?.map(Remote::Thread))
}

/// Whether it is the address of an mbox or a patch. It becomes one command line argument.
fn is_address_of_file(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let Some((host, path)) = rest.split_once('/') else { return false };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let names_file = [".patch", ".mbox", "/mbox/", "/mbox"].iter().any(|end| path.ends_with(end));
    let plain = |c: char| c.is_ascii_graphic() && !"\"'`\\<>".contains(c);
    names_file
        && !host.is_empty()
        && !ARCHIVES.contains(&host)
        && text.len() < 2048
        && text.chars().all(plain)
}

fn id(text: &str) -> Result<Option<String>> {
    let wrong = |why: String| {
        Error::usage(format!("--patches {} does not name a mail", text.escape_debug())).why(why).next(
            "give the message ID (<20260101000000.1234-1-a@example.org>), its address in the list archive, or the \
             address of an mbox of patchwork (.../mbox/) or of a patch of a forge (.../1234.patch)",
        )
    };
    let found = if let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !ARCHIVES.contains(&host) {
            return Err(wrong(format!(
                "it is neither a thread at {} nor the address of an mbox or a .patch",
                ARCHIVES.join(" or ")
            )));
        }
        let path = path.split(['?', '#']).next().unwrap_or_default().replace("%40", "@");
        match path.split('/').find(|part| part.contains('@')) {
            Some(part) => part.to_owned(),
            None => return Err(wrong("the address has no message ID".to_owned())),
        }
    } else if text.contains('@') && !text.contains('/') {
        text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text).to_owned()
    } else {
        return Ok(None);
    };
    // It becomes a command line argument and part of a URL.
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+=~!$&'*^{}|%".contains(c);
    match found.split_once('@') {
        Some((local, domain))
            if !local.is_empty()
                && !domain.is_empty()
                && !found.starts_with('-')
                && found.len() < 256
                && local.chars().all(plain)
                && domain.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)) =>
        {
            Ok(Some(found))
        }
        _ => Err(wrong(format!("{:?} is not a message ID", found.escape_debug().to_string()))),
    }
}

/// Fetches the series as a file.
///
/// # Errors
/// Class `Host` if it cannot be fetched, `Usage` if there is no such mail or file.
pub fn fetch(ctx: &Context, remote: &Remote, toolchain: Toolchain) -> Result<PathBuf> {
    match remote {
        Remote::Thread(id) => thread(ctx, id, toolchain),
        Remote::File(address) => file(ctx, address, toolchain),
    }
}

fn tools(ctx: &Context, toolchain: Toolchain) -> Result<Tools> {
    Ok(match toolchain {
        Toolchain::Image => Tools::Image(BuildRoot::ensure(ctx)?),
        Toolchain::Host => Tools::Host(tools::host_key()),
    })
}

/// Downloads a file. It is kept under the hash of its content, which is also the origin of the series.
fn file(ctx: &Context, address: &str, toolchain: Toolchain) -> Result<PathBuf> {
    let phase = ctx.bus.phase("mail", address);
    let tools = tools(ctx, toolchain)?;
    let scratch = ctx.cache.scratch()?;
    let sandbox = Sandbox::new(&tools).writable(scratch.path(), "/obj").network();
    let mut command = sandbox.command("python3");
    command.args(["-c", DOWNLOAD, address]).arg(sandbox.see("/obj").join("file")).arg(MAX_BYTES.to_string());
    let next = "download it with a browser or `curl -L`, and pass the file as --patches FILE";
    let failed = |class: Class, why: String| {
        Error::new(class, format!("cannot download the series {address}")).why(why).next(next)
    };
    let done = Job::new(command).deadline(LIMIT).run()?;
    let fetched = scratch.path().join("file");
    if !done.success() || !fetched.is_file() {
        let said = last(&done.tail);
        let absent = ["404", "410"].iter().any(|code| said.contains(&format!("HTTP Error {code}")));
        return Err(failed(if absent { Class::Usage } else { Class::Host }, said));
    }
    let name = file_name(address);
    let key = Key::of("mail file 1").field("name", &name).field("sha256", hash_file(&fetched)?).finish();
    let (dir, _) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Mail, key.as_str(), |dir| {
        std::fs::copy(&fetched, dir.join(&name)).on("cannot copy", &fetched).map(drop)
    })?;
    phase.finish();
    Ok(dir.join(name))
}

fn thread(ctx: &Context, id: &str, toolchain: Toolchain) -> Result<PathBuf> {
    // The column is named after the file.
    let file = format!("{}.mbx", name(id));
    let key = Key::of("mail 1").field("id", id).finish();
    let phase = ctx.bus.phase("mail", id);
    let (dir, cached) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Mail, key.as_str(), |dir| {
        let tools = tools(ctx, toolchain)?;
        phase.progress(0, 0, "querying the list archive");
        let sandbox = Sandbox::new(&tools).writable(dir, "/obj").network();
        let mut command = sandbox.command("b4");
        command.args([
            "am",
            "--no-cache",
            "--no-add-trailers",
            "--no-cover",
            // A name without a dot: b4 removes everything after the last dot.
            "--mbox-name",
            FETCHED,
            "--outdir",
        ]);
        command.arg(sandbox.see("/obj")).arg(id);
        let done = Job::new(command).deadline(LIMIT).run().map_err(|error| failed(id, error))?;
        let fetched = dir.join(format!("{FETCHED}.mbx"));
        if done.success() && fetched.is_file() {
            return std::fs::rename(&fetched, dir.join(&file)).on("cannot rename", &fetched);
        }
        let said = done.tail.join("\n");
        if ["is not known", "404", "No patches found"].iter().any(|words| said.contains(words)) {
            return Err(Error::usage(format!("--patches {id}: the list archive has no such series"))
                .why(last(&done.tail))
                .next("check that the ID is complete; a new mail may take a minute to appear"));
        }
        Err(failed(id, Error::new(Class::Host, last(&done.tail))))
    })?;
    match cached {
        true => phase.cached(),
        false => phase.finish(),
    }
    Ok(dir.join(file))
}

fn last(tail: &[String]) -> String {
    tail.iter().rev().find(|line| !line.trim().is_empty()).map_or_else(
        || "b4 printed nothing and saved nothing".to_owned(),
        |line| line.trim().chars().take(300).collect(),
    )
}

fn failed(id: &str, error: Error) -> Error {
    let said = error.summary();
    let offline = ["resolve", "Network is unreachable", "Name or service", "timed out", "Connection refused"];
    let why = if offline.iter().any(|words| said.contains(words)) {
        "cannot reach the list archive: this host has no network or no DNS".to_owned()
    } else {
        "b4 failed".to_owned()
    };
    let mbox = format!(
        "run `b4 am {}` on a machine with a network, and pass the mbox as --patches FILE.mbx",
        vmtest_host::process::shell_word(id)
    );
    // An interruption keeps its class.
    let class =
        if matches!(error.class, Class::Interrupted | Class::Terminated) { error.class } else { Class::Host };
    Error { class, ..Error::host(format!("cannot fetch the series {id}")).why(why).why(said).next(mbox) }
}

/// A file name for a message ID: the part before the `@`, with unusual characters replaced.
fn name(id: &str) -> String {
    plain_name(id.split('@').next().unwrap_or_default())
}

/// A file name for an address: its last two words, without `mbox` (`series/123/mbox/` -> `series-123.mbox`).
fn file_name(address: &str) -> String {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let (stem, ending) = match path.rsplit_once('.').filter(|(_, ending)| ["patch", "mbox"].contains(ending))
    {
        Some((stem, ending)) => (stem, ending),
        None => (path.trim_end_matches('/').trim_end_matches("mbox"), "mbox"),
    };
    let words: Vec<&str> = stem.split('/').filter(|word| !word.is_empty()).skip(2).collect();
    let words = &words[words.len().saturating_sub(2)..];
    format!("{}.{ending}", plain_name(&words.join("-")))
}

fn plain_name(local: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = local.chars().map(plain).take(MAX_NAME).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "mail".to_owned() } else { name.to_owned() }
}

/// Whether this is a message ID or URL; an existing path is always a path.
pub fn is_meant(path: &Path) -> bool {
    path.symlink_metadata().is_err() && path.to_str().is_some_and(|text| !matches!(remote(text), Ok(None)))
}

#[cfg(test)]
mod tests;
