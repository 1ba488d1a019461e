// SPDX-License-Identifier: MIT OR Apache-2.0
//! A variant: one way to configure, build and start a kernel, read from `kconfig/NAME.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::reserved;
use vmtest_base::condition::Condition;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::read_text;
use vmtest_base::similar;

/// The compiler of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compiler {
    /// gcc and binutils.
    #[default]
    Gcc,
    /// clang, lld and the other LLVM tools.
    Clang,
}

impl Compiler {
    /// Name in variants and records.
    pub fn name(self) -> &'static str {
        match self {
            Compiler::Gcc => "gcc",
            Compiler::Clang => "clang",
        }
    }
}

/// One way to configure, build and start a kernel.
#[derive(Debug, Clone)]
pub struct Variant {
    /// The file name without `.toml`.
    pub name: String,
    /// One sentence for `--help` and reports.
    pub about: String,
    /// Fragments in order: later ones override earlier ones.
    pub fragments: Vec<PathBuf>,
    pub compiler: Compiler,
    /// `NAME=value` arguments for make, which override the tree's makefiles.
    pub make: Vec<String>,
    /// Words for the kernel command line.
    pub cmdline: Vec<String>,
    /// Sysctls that the runner sets before the first test, sorted by name.
    pub sysctls: Vec<(String, String)>,
    /// QEMU's name of a CPU model; `None` for one that suits the accelerator.
    pub cpu: Option<String>,
    /// Memory of the guest; `None` for the harness' default.
    pub memory_mib: Option<u32>,
    /// How many times slower than a default kernel its guests are. All time limits are multiplied by this.
    pub slowdown: u32,
    /// The properties that define it, as the runner can read them in the guest.
    pub conditions: Vec<Condition>,
}

/// A `[[condition]]` as written in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionLines {
    what: String,
    read: String,
    is: String,
    #[serde(default)]
    must: bool,
}

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    fragments: Vec<PathBuf>,
    #[serde(default)]
    compiler: Compiler,
    #[serde(default)]
    make: Vec<String>,
    #[serde(default)]
    cmdline: Vec<String>,
    #[serde(default)]
    sysctls: BTreeMap<String, String>,
    cpu: Option<String>,
    memory_mib: Option<u32>,
    #[serde(default = "as_fast_as_default")]
    slowdown: u32,
    #[serde(default, rename = "condition")]
    conditions: Vec<ConditionLines>,
}

fn as_fast_as_default() -> u32 {
    1
}

/// Largest factor. It extends the 20 minutes of an emulated run to half a day, and catches typing errors.
const MAX_SLOWDOWN: u32 = 32;

/// Name of a kernel in progress and timeline output, where variants of it run in parallel. `more` has further
/// details.
pub fn called(id: &str, variant: Option<&str>, more: &[&str]) -> String {
    let variant = variant.filter(|name| !name.is_empty() && *name != "default");
    let words: Vec<&str> = variant.into_iter().chain(more.iter().copied()).collect();
    if words.is_empty() { id.to_owned() } else { format!("{id} ({})", words.join(", ")) }
}

/// Reads `NAME.toml` in `kconfig_dir`.
///
/// # Errors
/// Class `Usage` for an unknown name or an invalid file.
pub fn load(kconfig_dir: &Path, name: &str) -> Result<Variant> {
    let path = kconfig_dir.join(format!("{name}.toml"));
    if !is_name(name) || !path.is_file() {
        let known = list(kconfig_dir)?;
        return Err(Error::usage(format!("unknown variant {name:?}"))
            .why(format!("available variants: {}", known.join(", ")))
            .next(similar::or(
                name,
                &known,
                "use one of these, or write kconfig/NAME.toml as described in kconfig/README.md",
            )));
    }
    parse(kconfig_dir, name, &read_text(&path)?)
        .map_err(|error| error.within(format!("cannot use kconfig/{name}.toml")))
}

/// Names of all variants, sorted.
pub fn list(kconfig_dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(kconfig_dir).on("cannot list", kconfig_dir)? {
        let file = entry.on("cannot list", kconfig_dir)?.file_name();
        let name = file.to_str().and_then(|file| file.strip_suffix(".toml")).filter(|name| is_name(name));
        names.extend(name.map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Names are used in reports, paths and globs.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

fn parse(kconfig_dir: &Path, name: &str, text: &str) -> Result<Variant> {
    let file: File = toml::from_str(text).map_err(|error| Error::usage(error.to_string().trim_end()))?;
    let File { about, fragments, compiler, make, cmdline, sysctls, cpu, memory_mib, slowdown, conditions } =
        file;
    check_fragments(kconfig_dir, &fragments)?;
    check_words(&make, &cmdline, &sysctls, cpu.as_deref())?;
    if !(1..=MAX_SLOWDOWN).contains(&slowdown) {
        return Err(Error::usage(format!("`slowdown` {slowdown} is not between 1 and {MAX_SLOWDOWN}")));
    }
    Ok(Variant {
        name: name.to_owned(),
        about,
        fragments: fragments.into_iter().map(|fragment| kconfig_dir.join(fragment)).collect(),
        compiler,
        make,
        cmdline,
        sysctls: sysctls.into_iter().collect(),
        cpu,
        memory_mib,
        slowdown,
        conditions: conditions
            .iter()
            .map(|one| Condition::new(&one.what, &one.read, &one.is, one.must))
            .collect::<Result<_>>()?,
    })
}

fn check_fragments(kconfig_dir: &Path, fragments: &[PathBuf]) -> Result<()> {
    if fragments.is_empty() {
        return Err(Error::usage("`fragments` is empty: allnoconfig alone does not boot"));
    }
    for fragment in fragments {
        if !fragment.components().all(|part| matches!(part, Component::Normal(_))) {
            let what = format!("fragment {} is not a path below kconfig/", fragment.display());
            return Err(Error::usage(what));
        }
        if !kconfig_dir.join(fragment).is_file() {
            return Err(Error::usage(format!("no such fragment: kconfig/{}", fragment.display())));
        }
    }
    Ok(())
}

/// Refuses words that are reserved for the harness, and values that are not one word.
fn check_words(
    make: &[String],
    cmdline: &[String],
    sysctls: &BTreeMap<String, String>,
    cpu: Option<&str>,
) -> Result<()> {
    if let Some((word, found)) = cmdline.iter().find_map(|word| Some((word, reserved::in_cmdline(word)?))) {
        return Err(found.refused(format!("{word:?} in `cmdline`")));
    }
    let mut set = sysctls.iter();
    if let Some((name, found)) = set.find_map(|(name, value)| Some((name, reserved::of_sysctl(name, value)?)))
    {
        return Err(found.refused(format!("{name:?} in `sysctls`")));
    }
    // Both become part of a command line that is split at spaces.
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\'');
    if let Some(bad) = cmdline.iter().find(|word| !is_word(word)) {
        return Err(Error::usage(format!("{bad:?} in `cmdline` is not one word")));
    }
    // Only variables: a target or an option would build something else.
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let is_setting = |word: &str| {
        is_word(word)
            && word.split_once('=').is_some_and(|(name, _)| {
                name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(is_name)
            })
    };
    if let Some(bad) = make.iter().find(|word| !is_setting(word)) {
        return Err(Error::usage(format!("{bad:?} in `make` is not NAME=value")));
    }
    let is_sysctl = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if let Some((bad, _)) = sysctls.iter().find(|(key, value)| {
        key.is_empty() || !key.chars().all(is_sysctl) || key.contains("..") || !is_word(value)
    }) {
        return Err(Error::usage(format!(
            "{bad:?} in `sysctls` is not a sysctl, or its value is not one word"
        )));
    }
    if let Some(bad) = cpu.filter(|cpu| !is_word(cpu)) {
        return Err(Error::usage(format!("`cpu` {bad:?} is not one word")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
