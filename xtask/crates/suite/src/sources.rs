// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds what one of the kernel's own BPF tests needs to be built and to run, by reading the sources of the
//! tree under test: skeletons that it includes, objects that it opens by name, helper programs that it
//! starts, modules.
//!
//! It only reads text. Anything it misses shows up as a compiler error or a failing test, never as a pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use vmtest_base::beneath;

/// The BPF selftests in a kernel tree.
pub const SELFTESTS: &str = "tools/testing/selftests/bpf";
/// Longest source file that is read.
const MAX_SOURCE: u64 = 8 * 1024 * 1024;

/// What a set of tests needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Names (without `.c`) in `progs/`.
    pub programs: BTreeSet<String>,
    /// Skeletons linked from several objects (`NAME.skel.h`), from the makefile's list.
    pub linked: BTreeSet<String>,
    /// Programs built as light skeletons, from the makefile's lists.
    pub light: BTreeSet<String>,
    /// Files next to `test_progs` that a test opens or runs, as the makefile names them.
    pub helpers: BTreeSet<String>,
    /// Other files in `prog_tests/` (without `.c`) whose functions are called.
    pub files: BTreeSet<String>,
    /// Skeletons that the makefile builds from directories other than `progs/`, as they are included.
    pub skeletons: BTreeSet<String>,
    /// A module of `test_kmods/` is mentioned.
    pub modules: bool,
}

impl Needs {
    /// Adds the needs of another test.
    pub fn add(&mut self, other: &Needs) {
        self.programs.extend(other.programs.iter().cloned());
        self.linked.extend(other.linked.iter().cloned());
        self.light.extend(other.light.iter().cloned());
        self.helpers.extend(other.helpers.iter().cloned());
        self.files.extend(other.files.iter().cloned());
        self.skeletons.extend(other.skeletons.iter().cloned());
        self.modules |= other.modules;
    }
}

/// The makefile's variables: name to words, from all assignments to it.
#[derive(Debug, Clone, Default)]
pub struct Makefile {
    variables: BTreeMap<String, Vec<String>>,
    /// Objects (without `.bpf.o`) that a recipe names.
    pub in_recipes: BTreeSet<String>,
}

#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static ASSIGNED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^([A-Za-z0-9_.\-]+)\s*(?::|\+|\?)?=\s*(.*)$").unwrap());
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static OBJECT_IN_RECIPE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\$\(TRUNNER_OUTPUT\)/([A-Za-z0-9_]+)\.bpf\.o").unwrap());
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static INCLUDE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?m)^\s*#\s*include\s*["<]([^">]+)[">]"#).unwrap());
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static STRING: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""((?:[^"\\\n]|\\.)*)""#).unwrap());
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static OBJECT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"([A-Za-z0-9_]+)\.bpf\.o").unwrap());
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static TEST: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^void (?:serial_)?test_([a-zA-Z0-9_]+)\((?:void)?\)").unwrap());
// A function that other files can call starts in the first column, and is followed by a body, not by a
// semicolon.
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static FUNCTION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^(?:[A-Za-z_]\w*[\s*]+)+?([A-Za-z_]\w*)\([^;{}()]*\)\s*\{").unwrap());
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static CALL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b([A-Za-z_]\w*)\s*\(").unwrap());
#[expect(clippy::unwrap_used, reason = "constant patterns; the tests compile them")]
static MODULE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"bpf_testmod|bpf_test_[a-z_]+\.ko").unwrap());

impl Makefile {
    pub fn parse(text: &str) -> Makefile {
        let mut makefile = Makefile::default();
        let joined = text.replace("\\\n", " ");
        for line in joined.lines() {
            if line.starts_with('\t') {
                for found in OBJECT_IN_RECIPE.captures_iter(line) {
                    makefile.in_recipes.insert(found[1].to_owned());
                }
                continue;
            }
            let line = line.split(" #").next().unwrap_or(line).trim();
            if let Some(found) = ASSIGNED.captures(line) {
                let words = found[2].split_whitespace().map(str::to_owned);
                makefile.variables.entry(found[1].to_owned()).or_default().extend(words);
            }
        }
        makefile
    }

    /// Words of a variable; empty if there is no such variable.
    pub fn words(&self, name: &str) -> &[String] {
        self.variables.get(name).map_or(&[], Vec::as_slice)
    }

    /// Lists of programs built as light skeletons: variable to names.
    pub fn light_lists(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        let lists = self.variables.iter().filter(|(name, _)| name.starts_with("LSKELS"));
        lists.map(|(name, words)| {
            (name.as_str(), words.iter().filter_map(|word| word.strip_suffix(".c")).collect())
        })
    }

    /// Skeletons of other directories that are among the makefile's sources of every `test_progs`: variable
    /// to paths.
    pub fn skeleton_variables(&self) -> BTreeMap<String, Vec<String>> {
        let variables = self
            .words("TRUNNER_EXTRA_SOURCES")
            .iter()
            .filter_map(|word| word.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')')));
        let with_words = variables.map(|name| (name.to_owned(), self.words(name).to_vec()));
        with_words
            .filter(|(_, words)| !words.is_empty() && words.iter().all(|word| word.ends_with(".skel.h")))
            .collect()
    }

    /// Files next to `test_progs` that tests may open or run: the ones that the makefile copies there.
    fn helpers(&self) -> BTreeSet<String> {
        let listed = self.words("TRUNNER_EXTRA_FILES").iter().chain(self.words("TEST_GEN_FILES"));
        let words = listed.flat_map(|word| {
            let variable = word.strip_prefix("$(").and_then(|rest| rest.strip_suffix(')'));
            variable.map_or(std::slice::from_ref(word), |name| self.words(name))
        });
        let plain = |word: &String| {
            let name = word.rsplit('/').next().unwrap_or(word);
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            (!name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
        };
        words.filter_map(plain).filter(|name| !name.ends_with(".ko") && !name.ends_with(".bpf.o")).collect()
    }
}

/// The selftests of one tree.
#[derive(Debug)]
pub struct Selftests {
    /// The top of the copied tree.
    top: PathBuf,
    /// `tools/testing/selftests/bpf` in that tree.
    dir: PathBuf,
    pub makefile: Makefile,
    /// Maps a test to the file in `prog_tests/` (without `.c`) that defines it.
    pub tests: BTreeMap<String, String>,
    /// Maps a function that other files may call to the file in `prog_tests/` that contains it.
    functions: BTreeMap<String, String>,
}

impl Selftests {
    /// Reads the makefile and the file names; `None` without such a directory. No link below `top` is
    /// followed: an untrusted tree could otherwise have files of this host read.
    pub fn read(top: &Path, dir: &Path) -> Option<Selftests> {
        let makefile = Makefile::parse(&source(top, &dir.join("Makefile"))?);
        let (mut tests, mut functions) = (BTreeMap::new(), BTreeMap::new());
        for name in names(top, &dir.join("prog_tests")) {
            let text = source(top, &dir.join("prog_tests").join(format!("{name}.c"))).unwrap_or_default();
            for found in TEST.captures_iter(&text) {
                tests.insert(found[1].to_owned(), name.clone());
            }
            for found in FUNCTION.captures_iter(&text).filter(|found| !found[0].starts_with("static ")) {
                functions.insert(found[1].to_owned(), name.clone());
            }
        }
        Some(Selftests { top: top.to_owned(), dir: dir.to_owned(), makefile, tests, functions })
    }

    /// What `test_progs` itself needs, regardless of the tests in it.
    pub fn needs_of_all(&self) -> Needs {
        let mut needs = Needs::default();
        // The same variable is set again for test_maps, which is another program.
        let words = self.makefile.words("TRUNNER_EXTRA_SOURCES").iter();
        for word in words.filter(|word| *word != "test_maps.c") {
            self.scan(&self.dir.join(word), &mut needs, &mut BTreeSet::new());
        }
        // Module loading is part of test_progs; whether one is needed depends on the tests.
        needs.modules = false;
        needs.helpers.clear();
        needs.programs.extend(self.makefile.in_recipes.iter().filter(|name| self.has_program(name)).cloned());
        self.close(&mut needs);
        needs
    }

    /// What the tests of one file need.
    pub fn needs(&self, file: &str) -> Needs {
        let mut needs = Needs::default();
        let mut open = vec![file.to_owned()];
        while let Some(next) = open.pop() {
            let path = self.dir.join("prog_tests").join(format!("{next}.c"));
            self.scan(&path, &mut needs, &mut BTreeSet::new());
            let text = source(&self.top, &path).unwrap_or_default();
            let called: BTreeSet<&str> = CALL
                .captures_iter(&text)
                .filter_map(|found| found.get(1))
                .map(|name| name.as_str())
                .collect();
            let own: BTreeSet<&str> = FUNCTION
                .captures_iter(&text)
                .filter_map(|found| found.get(1))
                .map(|name| name.as_str())
                .collect();
            for other in called.difference(&own).filter_map(|name| self.functions.get(*name)) {
                if other != file && needs.files.insert(other.clone()) {
                    open.push(other.clone());
                }
            }
        }
        self.close(&mut needs);
        needs
    }

    fn has_program(&self, name: &str) -> bool {
        beneath::is_file(&self.top, self.dir.join("progs").join(format!("{name}.c")))
    }

    /// Scans a C file for user space and the local headers that it includes.
    fn scan(&self, file: &Path, needs: &mut Needs, seen: &mut BTreeSet<PathBuf>) {
        let Some(text) = source(&self.top, file).filter(|_| seen.insert(file.to_owned())) else { return };
        for include in INCLUDE.captures_iter(&text).filter_map(|found| found.get(1)) {
            let name = include.as_str();
            let base = name.rsplit('/').next().unwrap_or(name);
            if let Some(light) = base.strip_suffix(".lskel.h") {
                needs.light.insert(light.to_owned());
                needs.programs.insert(light.to_owned());
            } else if let Some(skeleton) =
                base.strip_suffix(".subskel.h").or_else(|| base.strip_suffix(".skel.h"))
            {
                let header = format!("{skeleton}.skel.h");
                let parts = self.makefile.words(&format!("{header}-deps"));
                if self.makefile.words("LINKED_SKELS").contains(&header) {
                    needs.linked.insert(header);
                    needs.programs.extend(
                        parts.iter().filter_map(|part| part.strip_suffix(".bpf.o")).map(str::to_owned),
                    );
                } else if name.contains('/') && !self.has_program(skeleton) {
                    needs.skeletons.insert(name.to_owned());
                } else {
                    needs.programs.insert(skeleton.to_owned());
                }
            } else if name.ends_with(".h") || name.ends_with(".c") {
                // Not test_progs.h, which every test includes.
                for place in [file.parent(), Some(self.dir.as_path())].into_iter().flatten() {
                    let Some(path) = resolved(&place.join(name)) else { continue };
                    if base != "test_progs.h"
                        && path.starts_with(&self.dir)
                        && beneath::is_file(&self.top, &path)
                    {
                        self.scan(&path, needs, seen);
                        break;
                    }
                }
            }
        }
        let helpers = self.makefile.helpers();
        for string in STRING.captures_iter(&text).filter_map(|found| found.get(1)) {
            let string = string.as_str();
            for object in OBJECT.captures_iter(string) {
                if self.has_program(&object[1]) {
                    needs.programs.insert(object[1].to_owned());
                }
            }
            let word = |c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c));
            for word in string.split(word).filter(|word| helpers.contains(*word)) {
                needs.helpers.insert(word.to_owned());
            }
        }
        needs.modules |= MODULE.is_match(&text);
    }

    /// Adds what the programs include and what the helpers depend on.
    fn close(&self, needs: &mut Needs) {
        if needs.helpers.contains("urandom_read") {
            needs.helpers.insert("liburandom_read.so".to_owned());
        }
        for helper in needs.helpers.clone() {
            let mut more = Needs::default();
            self.scan(&self.dir.join(format!("{helper}.c")), &mut more, &mut BTreeSet::new());
            needs.programs.extend(more.programs);
        }
        let mut open: Vec<String> = needs.programs.iter().cloned().collect();
        while let Some(name) = open.pop() {
            let Some(text) = source(&self.top, &self.dir.join("progs").join(format!("{name}.c"))) else {
                continue;
            };
            needs.modules |= MODULE.is_match(&text);
            for found in INCLUDE.captures_iter(&text) {
                let Some(other) = found[1].strip_suffix(".c") else { continue };
                let other = other.rsplit('/').next().unwrap_or(other);
                if self.has_program(other) && needs.programs.insert(other.to_owned()) {
                    open.push(other.to_owned());
                }
            }
        }
    }
}

/// Names of the C files in a directory, sorted, without `.c`.
fn names(top: &Path, dir: &Path) -> Vec<String> {
    let names = beneath::names(top, dir).into_iter();
    let mut names: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".c")?.to_owned())).collect();
    names.sort();
    names
}

/// A path without `..`; `None` if it leads out of its root.
fn resolved(path: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => found.push(name),
            Component::ParentDir if found.pop() => (),
            Component::CurDir => (),
            _ => return None,
        }
    }
    Some(found)
}

/// A source file as text; `None` if it is not a regular file or is too long.
fn source(top: &Path, path: &Path) -> Option<String> {
    beneath::read_text_up_to(top, path, MAX_SOURCE).ok()
}

#[cfg(test)]
mod tests;
