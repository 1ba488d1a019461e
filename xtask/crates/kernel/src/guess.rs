// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a word without a prefix means: a kernel or a series, judged by what is on disk. A word with a prefix (`tree:..`)
//! is never guessed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::b4;
use crate::maintained;
use crate::series;
use crate::source::{self, archive};
use crate::spec::{FORMS, KernelSpec};
use vmtest_base::error::{Error, Result};
use vmtest_base::{places, similar};
use vmtest_host::context::Context;

/// What a word means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// A kernel to test.
    Kernel(KernelSpec),
    /// A series to apply: a path, a name, a message ID or an address.
    Series(PathBuf),
}

impl std::fmt::Display for Meaning {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Meaning::Kernel(spec) => write!(out, "{spec}"),
            Meaning::Series(path) => write!(out, "a series (--patches {})", path.display()),
        }
    }
}

/// What a word was compared with.
#[derive(Debug, Default)]
struct Evidence {
    found: Vec<Meaning>,
    /// Why it is not one of the others.
    tried: Vec<String>,
}

/// The kernel or series that a word means. A guess is reported as a note.
///
/// # Errors
/// Class `Usage` if it means neither or several things, `Host` if the archive is needed and cannot be reached.
pub fn word(ctx: &Context, text: &str) -> Result<Meaning> {
    if has_prefix(text) {
        return text.parse().map(Meaning::Kernel);
    }
    let evidence = evidence(ctx, text)?;
    let next = format!("choose tests with -t; for a kernel, {FORMS}");
    only(ctx, text, evidence, &format!("`{text}` is neither a kernel nor a series"), &next)
}

/// The kernel that a word means. A guess is reported as a note.
///
/// # Errors
/// As [`word`].
pub fn kernel(ctx: &Context, text: &str) -> Result<KernelSpec> {
    if has_prefix(text) {
        return text.parse();
    }
    if let Some(dir) = text.strip_prefix("O=") {
        return built_in(ctx, text, &places::expanded(Path::new(dir)));
    }
    let mut evidence = evidence(ctx, text)?;
    let is_series = |meaning: &Meaning| matches!(meaning, Meaning::Series(_));
    let series = evidence.found.iter().any(is_series);
    evidence.found.retain(|meaning| !is_series(meaning));
    if series {
        evidence.tried.push("it is a series; --patches takes one".to_owned());
    }
    let none = format!("`{text}` is not a kernel");
    match only(ctx, text, evidence, &none, FORMS)? {
        Meaning::Kernel(spec) => Ok(spec),
        Meaning::Series(_) => Err(Error::usage(none).next(FORMS)),
    }
}

/// The image that was built in this directory.
fn built_in(ctx: &Context, text: &str, dir: &Path) -> Result<KernelSpec> {
    let mut images = ["arch/x86/boot/bzImage", "vmlinux"].iter().map(|image| dir.join(image));
    let Some(image) = images.find(|image| image.is_file()) else {
        return Err(Error::usage(format!("`{text}` is not a kernel"))
            .why(format!("{} has neither arch/x86/boot/bzImage nor vmlinux", dir.display()))
            .next("build it with `make O=DIR`, or name its source"));
    };
    let spec = KernelSpec::Image(image);
    ctx.bus.note(format!("taking {text} as {spec}"));
    Ok(spec)
}

/// The only meaning that was found.
fn only(ctx: &Context, text: &str, evidence: Evidence, none: &str, next: &str) -> Result<Meaning> {
    match evidence.found.as_slice() {
        [meaning] => {
            ctx.bus.note(format!("taking {text} as {meaning}"));
            Ok(meaning.clone())
        }
        [] => {
            let next = similar::or(text, neighbours(text), next);
            Err(Error::usage(none).why(evidence.tried.join("; ")).next(next))
        }
        several => {
            let listed: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Error::usage(format!("`{text}` is ambiguous"))
                .why(format!("it can be {}", listed.join(" or ")))
                .next("write the one that you mean"))
        }
    }
}

/// What is in the directory that a path names, as that path would be written.
fn neighbours(text: &str) -> Vec<String> {
    let Some((dir, _)) = text.rsplit_once('/') else { return Vec::new() };
    let entries =
        fs::read_dir(places::expanded(Path::new(&format!("{dir}/")))).into_iter().flatten().flatten();
    entries.map(|entry| format!("{dir}/{}", entry.file_name().to_string_lossy())).collect()
}

/// Whether the scheme of a kernel is written out, right or wrong.
fn has_prefix(text: &str) -> bool {
    let scheme = |scheme: &str| !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_lowercase());
    text.split_once(':').is_some_and(|(first, rest)| scheme(first) && !rest.starts_with("//"))
}

fn evidence(ctx: &Context, text: &str) -> Result<Evidence> {
    let mut evidence = Evidence::default();
    let path = places::expanded(Path::new(text));
    let stat = fs::metadata(&path);
    match &stat {
        Ok(stat) if stat.is_dir() => directory(&path, &mut evidence),
        Ok(_) => file(&path, &mut evidence),
        Err(_) => evidence.tried.push("there is no such file or directory".to_owned()),
    }
    // A commit of this repository is closer than a mail with that ID or a release of the archive.
    if let Some(spec) = commits(ctx, text, &mut evidence)? {
        evidence.found.push(Meaning::Kernel(spec));
        return Ok(evidence);
    }
    let is_mail = stat.is_err()
        && match b4::remote(text) {
            // `HEAD@{1}` is not a mail either.
            Err(error) if text.contains("://") => return Err(error),
            found => found.is_ok_and(|found| found.is_some()),
        };
    if is_mail || (stat.is_err() && maintained::is_name(&ctx.project, text)) {
        evidence.found.push(Meaning::Series(path));
    }
    evidence.found.extend(release(ctx, text)?.map(Meaning::Kernel));
    Ok(evidence)
}

fn directory(path: &Path, evidence: &mut Evidence) {
    if source::is_kernel_tree(path) {
        evidence.found.push(Meaning::Kernel(KernelSpec::Tree(path.to_owned())));
    } else if series::is_directory(path) {
        evidence.found.push(Meaning::Series(path.to_owned()));
    } else {
        evidence.tried.push("the directory has no kernel's Makefile and no patches".to_owned());
        // A bare repository, or a directory in a tree, is named in another way.
        if let Some(top) = path.canonicalize().ok().and_then(|path| kernel_above(&path)) {
            evidence.tried.push(format!("the kernel tree is {}", top.display()));
        }
    }
}

fn file(path: &Path, evidence: &mut Evidence) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let is_tarball = [".tgz", ".txz", ".tar"].iter().any(|end| name.ends_with(end)) || name.contains(".tar.");
    if is_tarball {
        evidence.found.push(Meaning::Kernel(KernelSpec::Tar(path.to_owned())));
    } else if series::is_file(path) {
        evidence.found.push(Meaning::Series(path.to_owned()));
    } else {
        match source::release_of(path) {
            Ok(_) => evidence.found.push(Meaning::Kernel(KernelSpec::Image(path.to_owned()))),
            Err(error) => evidence.tried.extend(error.why),
        }
        evidence.tried.push("it is neither a tarball nor a file of patches".to_owned());
    }
}

/// `DIR@REV`, or a revision or range in the kernel repository around the working directory.
fn commits(ctx: &Context, text: &str, evidence: &mut Evidence) -> Result<Option<KernelSpec>> {
    let repository = |dir: &str| Path::new(dir).is_dir();
    let (repo, rev) = match text.rsplit_once('@') {
        Some((dir, rev))
            if !rev.is_empty() && repository(&places::expanded(Path::new(dir)).to_string_lossy()) =>
        {
            (places::expanded(Path::new(dir)), rev)
        }
        _ => match std::env::current_dir().ok().and_then(|here| Some((kernel_above(&here)?, here))) {
            Some((top, here)) => (if top == here { PathBuf::from(".") } else { top }, text),
            None => {
                evidence.tried.push("the working directory is not in a kernel tree".to_owned());
                return Ok(None);
            }
        },
    };
    // `A..` is `A..HEAD`, as git has it.
    let range = rev.split_once("..").filter(|(from, _)| !from.is_empty());
    let rev = if range.is_some_and(|(_, to)| to.is_empty()) { format!("{rev}HEAD") } else { rev.to_owned() };
    // The form that has a prefix decides what can be a revision at all.
    let spec: Result<KernelSpec> = format!("git:{}@{rev}", repo.display()).parse();
    let Ok(spec) = spec else { return Ok(None) };
    let unknown = match &spec {
        KernelSpec::Git { repo: there, rev } if *there == repo => source::unknown_commit(ctx, there, &[rev])?,
        KernelSpec::GitRange { repo: there, from, to } if *there == repo => {
            source::unknown_commit(ctx, there, &[from, to])?
        }
        _ => return Ok(None),
    };
    match unknown {
        None => Ok(Some(spec)),
        Some(error) => {
            let hint = error.next.filter(|next| next.starts_with("did you mean"));
            let hint = hint.and_then(|next| Some(format!(" ({})", next.split_once(" Otherwise")?.0)));
            evidence.tried.push(error.what + &hint.unwrap_or_default());
            Ok(None)
        }
    }
}

/// `6.18` and `v6.18` as they are; `6.18.y` and `latest` are the newest that the archive lists.
fn release(ctx: &Context, text: &str) -> Result<Option<KernelSpec>> {
    if text == "latest" {
        return archive::newest(ctx, None).map(|version| Some(KernelSpec::Src(version)));
    }
    let version = text.strip_prefix('v').unwrap_or(text);
    let (number, newest) = version.strip_suffix(".y").map_or((version, false), |number| (number, true));
    match format!("src:{number}").parse() {
        Ok(KernelSpec::Src(_)) if newest => {
            archive::newest(ctx, Some(number)).map(|it| Some(KernelSpec::Src(it)))
        }
        Ok(spec) => Ok(Some(spec)),
        Err(_) => Ok(None),
    }
}

/// The top of the kernel tree that this directory is in.
pub fn kernel_above(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().find(|dir| source::is_kernel_tree(dir)).map(Path::to_owned)
}

#[cfg(test)]
mod tests;
