// SPDX-License-Identifier: MIT OR Apache-2.0
//! Series that the project maintains in `patches/` of the checkout, and the meaning of `--patches`: a path,
//! or the short name of such a series. `patches/fsession-6.18` has the short name `fsession`: the version
//! tells which kernel it is for, and is left out of column names.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::b4::{self, Remote};
use crate::series::{self, Note, Place, Series};
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::similar;
use vmtest_host::context::Context;
use vmtest_host::doctor::Toolchain;

/// Holds mutants of a series, so it is not a series.
pub const MUTANTS: &str = "mutants";

const NAME_A_SERIES: &str =
    "name a directory of *.patch files, an mbox or one patch, or a series of the project";

/// Where to find a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// As typed: a path, or a short name if there is no such path.
    Typed(PathBuf),
    /// Only by its short name, so that the working directory cannot change what a run without arguments
    /// tests.
    Maintained(&'static str),
    /// By message ID or address, to be fetched with these tools.
    Mail(Remote, Toolchain),
}

/// Reads the named series as one, in this order; `None` if none was named.
///
/// # Errors
/// Those of [`series::load`], and class `Usage` for a name that is neither a path nor a series of the
/// project.
pub fn load(ctx: &Context, named: &[Named]) -> Result<Option<Series>> {
    if named.is_empty() {
        return Ok(None);
    }
    let places = named.iter().map(|named| match named {
        Named::Typed(path) => locate(ctx, path),
        // The origin is the path of the fetched file, which depends only on the message ID.
        Named::Mail(remote, toolchain) => {
            b4::fetch(ctx, remote, *toolchain).map(|path| Place { path, name: None })
        }
        Named::Maintained(name) => find(&ctx.project, name).map_err(|error| {
            error.next("use `--kernel src:VERSION` without --patches to test a kernel as it is, or --patches PATH for another series")
        }),
    });
    let series = series::load_named(&places.collect::<Result<Vec<_>>>()?)?;
    for note in &series.notes {
        match note {
            Note::Plain(text) => ctx.bus.note(text),
            Note::Loud(text) => ctx.bus.warn(text),
        }
    }
    Ok(Some(series))
}

/// The path of a series that a matrix file names. A word is a short name, whatever files are next to the
/// matrix file; text with a slash is a path relative to `dir`; a mail stays as it is.
///
/// # Errors
/// Class `Usage` if no series has that name.
pub fn from_file(project: &Path, dir: &Path, text: &str) -> Result<PathBuf> {
    if b4::remote(text)?.is_some() {
        return Ok(PathBuf::from(text));
    }
    if text.contains('/') {
        return Ok(dir.join(text));
    }
    Ok(find(project, text)?.path)
}

fn locate(ctx: &Context, typed: &Path) -> Result<Place> {
    let name = short_form(typed);
    if typed.symlink_metadata().is_ok() {
        if let Some(place) = name.and_then(|name| find(&ctx.project, name).ok()) {
            if !same(&place.path, typed) {
                ctx.bus.note(format!(
                    "--patches {0} means {0} in this directory, not the project's {1}",
                    typed.display(),
                    place.path.display()
                ));
            }
        }
        return Ok(Place { path: typed.to_owned(), name: maintained_name(&ctx.project, typed) });
    }
    match name {
        Some(name) => find(&ctx.project, name),
        // Reading it reports the error.
        None => Ok(Place { path: typed.to_owned(), name: None }),
    }
}

/// The text, if it can be a short name: a single path component.
fn short_form(typed: &Path) -> Option<&str> {
    let mut parts = typed.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) => typed.to_str().filter(|text| !text.contains('/')),
        _ => None,
    }
}

/// Whether the project has a series of this name.
pub(crate) fn is_name(project: &Path, text: &str) -> bool {
    short_form(Path::new(text)).is_some_and(|name| find(project, name).is_ok())
}

/// The project's only series with this short name, or with this directory name.
fn find(project: &Path, name: &str) -> Result<Place> {
    let all = directories(project)?;
    let exact = all.iter().filter(|dir| *dir == name);
    let short = all.iter().filter(|dir| *dir != name && short_name(dir) == name);
    let found: Vec<&String> = if exact.clone().count() > 0 { exact.collect() } else { short.collect() };
    let error =
        |why: String| Error::usage(format!("cannot read the series {name}")).why(why).next(NAME_A_SERIES);
    match found.as_slice() {
        [one] => {
            Ok(Place { path: project.join("patches").join(one), name: Some(short_name(one).to_owned()) })
        }
        [] => {
            let there = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
            let here = project.join("patches");
            let names = all.iter().flat_map(|dir| [dir.as_str(), short_name(dir)]);
            let next = similar::or(name, names, NAME_A_SERIES);
            Err(error(format!(
                "no such file or directory, and {} has no series of that name; it has: {there}",
                here.display()
            ))
            .next(next))
        }
        several => {
            let listed: Vec<&str> = several.iter().map(|dir| dir.as_str()).collect();
            Err(error(format!("several series of the project have that name: {}", listed.join(", ")))
                .next("give the full name of one"))
        }
    }
}

/// Names of the series in `patches/`, sorted.
fn directories(project: &Path) -> Result<Vec<String>> {
    let patches = project.join("patches");
    let Ok(entries) = fs::read_dir(&patches) else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.on("cannot list", &patches)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && name != MUTANTS && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// `fsession-6.18` without its version. A name without a version is returned unchanged.
fn short_name(directory: &str) -> &str {
    let version = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.')
    };
    match directory.rsplit_once('-') {
        Some((name, end)) if !name.is_empty() && version(end) => name,
        _ => directory,
    }
}

/// The short name of a series of the project that is given by path; `None` for other series.
fn maintained_name(project: &Path, path: &Path) -> Option<String> {
    let whole = path.canonicalize().ok().filter(|path| path.is_dir())?;
    let inside = same(whole.parent()?, &project.join("patches"));
    inside.then(|| Some(short_name(whole.file_name()?.to_str()?).to_owned())).flatten()
}

/// The kernel version that a series of the project is for: `6.18` of `patches/fsession-6.18`; `None` for other
/// series.
pub fn version(project: &Path, typed: &Path) -> Option<String> {
    let place = match typed.symlink_metadata() {
        Ok(_) => maintained_name(project, typed).map(|_| typed.to_owned())?,
        Err(_) => find(project, short_form(typed)?).ok()?.path,
    };
    let directory = place.canonicalize().ok()?.file_name()?.to_str()?.to_owned();
    directory.strip_prefix(short_name(&directory))?.strip_prefix('-').map(str::to_owned)
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests;
