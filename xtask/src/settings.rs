// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings of the user (`kmatrix.toml`) and of a kernel tree (`.kmatrix.toml` at its top). The command line comes first,
//! then the environment, the tree, the user.
//!
//! A tree is untrusted. Its settings count only in the tree itself, each of them is reported, and it cannot name a mirror.

pub mod mirror;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use vmtest_base::error::{Error, Result};
use vmtest_base::{beneath, places, similar};
use vmtest_engine::request::{Purpose, Request, Suite};
use vmtest_kernel::guess;
use vmtest_kernel::spec::KernelSpec;

/// File of a user, below the configuration directory.
const USER: &str = "kmatrix.toml";
/// File of a kernel tree.
const TREE: &str = ".kmatrix.toml";
/// Every key.
const KEYS: [&str; 5] = ["suite", "tests", "variant", "mirror", "cpus"];
/// As for `--cpus`.
const MOST_CPUS: u32 = 64;

#[derive(Debug, Clone, Default, Deserialize)]
struct File {
    suite: Option<Words>,
    tests: Option<Words>,
    variant: Option<Words>,
    mirror: Option<String>,
    cpus: Option<u32>,
}

/// One value or a list.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    fn list(&self) -> Vec<String> {
        match self {
            Words::One(word) => vec![word.clone()],
            Words::Many(words) => words.clone(),
        }
    }
}

/// A setting in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub key: &'static str,
    pub value: String,
    /// The file that it is from.
    pub from: PathBuf,
}

impl Setting {
    /// Whether a tree chose it.
    pub fn is_of_tree(&self) -> bool {
        self.from.ends_with(TREE)
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} = {} ({})", self.key, self.value, self.from.display())
    }
}

/// The settings that there are, the most important first.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    files: Vec<(PathBuf, File)>,
}

impl Settings {
    /// Reads the files.
    ///
    /// # Errors
    /// Class `Usage` for a file that is not valid.
    pub fn read() -> Result<Settings> {
        let mut files = Vec::new();
        let top = std::env::current_dir().ok().and_then(|here| guess::kernel_above(&here));
        if let Some(dir) = top {
            files.extend(read(&dir, TREE, true)?);
        }
        if let Ok(dir) = places::base_dir("XDG_CONFIG_HOME", ".config") {
            files.extend(read(&dir, USER, false)?);
        }
        Ok(Settings { files })
    }

    /// The most important value of one key.
    fn pick<T>(&self, get: impl Fn(&File) -> Option<T>) -> Option<(T, &Path)> {
        self.files.iter().find_map(|(path, file)| Some((get(file)?, path.as_path())))
    }

    /// The mirror: `given` is from the command line or the environment. An empty one does not count.
    pub fn mirror(&self, given: Option<&str>) -> Option<String> {
        given
            .filter(|given| !given.is_empty())
            .map(str::to_owned)
            .or_else(|| Some(self.pick(|file| file.mirror.clone())?.0))
    }

    /// Every value, whether it is used or not.
    pub fn all(&self) -> Vec<Setting> {
        let words = |words: &Option<Words>| words.as_ref().map(|words| words.list().join(", "));
        let value = |file: &File, key: &str| match key {
            "suite" => words(&file.suite),
            "tests" => words(&file.tests),
            "variant" => words(&file.variant),
            "mirror" => file.mirror.clone(),
            _ => file.cpus.map(|cpus| cpus.to_string()),
        };
        let one = |key| {
            let (value, from) = self.pick(|file| value(file, key))?;
            Some(Setting { key, value, from: from.to_owned() })
        };
        KEYS.into_iter().filter_map(one).collect()
    }

    /// Fills in what the command line leaves open. Returns the settings that were used.
    pub fn apply(&self, request: &mut Request, suite_is_given: bool, mirror_is_given: bool) -> Vec<Setting> {
        let mut used = Vec::new();
        if !mirror_is_given {
            used.push("mirror");
        }
        let tests = request.purpose == Purpose::Test;
        // A choice of tests is for the suite that it is written beside.
        if let Some((words, _)) = self.pick(|file| file.tests.clone()).filter(|_| tests && !suite_is_given) {
            if request.tests.is_empty() {
                request.tests = words.list();
                used.push("tests");
            }
        }
        if let Some((words, _)) = self.pick(|file| file.suite.clone()).filter(|_| tests && !suite_is_given) {
            request.suites = words.list().into_iter().map(Suite::from).collect();
            used.push("suite");
        }
        let built = request
            .kernels
            .iter()
            .all(|kernel| kernel.parse::<KernelSpec>().is_ok_and(|spec| spec.has_source()));
        if let Some((words, _)) = self.pick(|file| file.variant.clone()).filter(|_| built) {
            if request.variants.is_empty() {
                request.variants = words.list();
                used.push("variant");
            }
        }
        if let (None, Some((cpus, _))) = (request.cpus, self.pick(|file| file.cpus)) {
            request.cpus = Some(cpus);
            used.push("cpus");
        }
        self.all().into_iter().filter(|setting| used.contains(&setting.key)).collect()
    }
}

fn read(dir: &Path, name: &str, untrusted: bool) -> Result<Option<(PathBuf, File)>> {
    let path = dir.join(name);
    let wrong = |why: String| Error::usage(format!("cannot use the settings in {}", path.display())).why(why);
    // The user may keep the own file elsewhere, behind a link; a tree may not.
    let text = match untrusted {
        true => beneath::read_text(dir, name),
        false => vmtest_base::files::read_text(&path),
    };
    let text = match text {
        Ok(text) => text,
        Err(_) if path.symlink_metadata().is_err() => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let valid = format!("valid keys: {}", KEYS.join(", "));
        return Err(wrong(format!("unknown key `{key}`")).next(similar::or(key, KEYS, &valid)));
    }
    let file: File = table.try_into().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    if untrusted && file.mirror.is_some() {
        return Err(wrong("a kernel tree cannot choose the mirror: it is not trusted".to_owned())
            .next("put `mirror` into your own settings: ~/.config/kmatrix.toml"));
    }
    if file.cpus.is_some_and(|cpus| !(1..=MOST_CPUS).contains(&cpus)) {
        return Err(wrong(format!("`cpus` is not between 1 and {MOST_CPUS}")));
    }
    Ok(Some((path, file)))
}
