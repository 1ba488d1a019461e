// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fetches a series by the message ID of one of its mails, or by the address of its thread in the list
//! archive. b4 saves it as an mbox in the cache, and from there it is a file like any other. b4 comes from
//! the build root, and is the only program in a sandbox that ever gets a network.
//!
//! Trailers from replies are not added, so that the same ID gives the same series on another day.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::key::Key;
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

/// The message ID in this text; `None` if the text is a path.
///
/// # Errors
/// Class `Usage` for text that looks like a mail but does not name one.
pub fn id(text: &str) -> Result<Option<String>> {
    let wrong = |why: String| {
        Error::usage(format!("--patches {} does not name a mail", text.escape_debug())).why(why).next(
            "give the message ID (<20260101000000.1234-1-a@example.org>) or its address in the list archive",
        )
    };
    let found = if let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !ARCHIVES.contains(&host) {
            return Err(wrong(format!("only threads at {} are supported", ARCHIVES.join(" and "))));
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

/// Fetches the series as an mbox.
///
/// # Errors
/// Class `Host` if it cannot be fetched, `Usage` if the archive has no such mail.
pub fn fetch(ctx: &Context, id: &str, toolchain: Toolchain) -> Result<PathBuf> {
    // The column is named after the file.
    let file = format!("{}.mbx", name(id));
    let key = Key::of("mail 1").field("id", id).finish();
    let phase = ctx.bus.phase("mail", id);
    let (dir, cached) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Mail, key.as_str(), |dir| {
        let tools = match toolchain {
            Toolchain::Image => Tools::Image(BuildRoot::ensure(ctx)?),
            Toolchain::Host => Tools::Host(tools::host_key()),
        };
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
    let local = id.split('@').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = local.chars().map(plain).take(MAX_NAME).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "mail".to_owned() } else { name.to_owned() }
}

/// Whether this is a message ID or URL; an existing path is always a path.
pub fn is_meant(path: &Path) -> bool {
    path.symlink_metadata().is_err() && path.to_str().is_some_and(|text| !matches!(id(text), Ok(None)))
}

#[cfg(test)]
mod tests;
