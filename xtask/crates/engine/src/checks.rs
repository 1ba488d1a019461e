// SPDX-License-Identifier: MIT OR Apache-2.0
//! The checks of `review`: for each patch of a series, what can be said of it without a guest. They compare the
//! kernel with the patch to the kernel before it, and run while guests do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bootable::Bpftool;
use crate::column::{Built, Unbuilt};
use crate::plan::Column;
use crate::request::CheckName;
use crate::resources::Resources;
use vmtest_base::error::{Error, Result};
use vmtest_base::files::{read_text, write_file};
use vmtest_base::key::{Key, hash_file};
use vmtest_host::context::Context;
use vmtest_host::store::CacheKind;
use vmtest_host::store::RunDir;
use vmtest_kernel::build::{ConfiguredTree, ExtraWarnings, Recipe};
use vmtest_kernel::checks::btf::{self, Btf};
use vmtest_kernel::checks::functions::Code;
use vmtest_kernel::checks::{checkpatch, uapi, warnings};
use vmtest_kernel::patched::PatchedTree;
use vmtest_kernel::series::Patch;
use vmtest_record::series::{Check, CheckState};

/// Results of the checks of one patch, by name.
pub type Checks = BTreeMap<String, Check>;

/// What is known of one column of a chain.
#[derive(Debug)]
pub struct State {
    tree: Option<PatchedTree>,
    /// The patch that this column adds.
    patch: Option<Patch>,
    /// Directory of its vmlinux, and its code.
    kernel: Option<(PathBuf, Result<Code>)>,
    /// Hash of its vmlinux; `None` without one.
    hash: Option<String>,
    bpftool: Option<PathBuf>,
    /// What a guest with this kernel gets beside it: the bpftool of the tree.
    beside: String,
    /// Warnings of the files that its patch touches.
    warnings: Result<ExtraWarnings>,
    /// The same for the files of the next patch, which that one is compared with.
    before_next: Result<ExtraWarnings>,
}

impl Default for State {
    /// A column that is not known.
    fn default() -> State {
        let missing = || Err(Error::host("a kernel to compare is missing"));
        State {
            tree: None,
            patch: None,
            kernel: None,
            hash: None,
            bpftool: None,
            beside: String::new(),
            warnings: missing(),
            before_next: missing(),
        }
    }
}

impl State {
    /// What is known before make.
    pub fn of(unbuilt: &Unbuilt) -> State {
        let tree = unbuilt.tree().ok().flatten().cloned();
        State { tree, patch: unbuilt.last_patch().cloned(), ..State::default() }
    }

    /// Adds what make produced. Compiles the files that this patch and the `next` one touch once more, with
    /// W=1, as long as the objects are in this state.
    pub fn built(
        &mut self,
        resources: &Resources<'_>,
        column: &Column,
        built: &Built,
        next: Option<&Patch>,
        run_dir: &RunDir,
    ) {
        let Some((dir, bpftool)) = built.files() else { return };
        let wants = |check| resources.plan.checks.contains(&check);
        self.bpftool = match bpftool {
            Bpftool::In(dir) => Some(dir.clone()),
            Bpftool::None(_) | Bpftool::Failed(_) => None,
        };
        // A patch of libbpf or bpftool changes what the tests see, and no byte of the kernel.
        self.beside = format!("{bpftool:?}");
        let vmlinux = dir.join("vmlinux");
        self.hash = hash_file(&vmlinux).ok();
        self.kernel = Some((dir.to_owned(), Code::of(&vmlinux)));
        if wants(CheckName::Warnings) {
            let objects = |patch: Option<&Patch>| {
                patch.map(|patch| warnings::objects(&patch.touches)).unwrap_or_default()
            };
            let (mine, theirs) = (objects(self.patch.as_ref()), objects(next));
            self.warnings = self.compile(resources, column, &mine, run_dir);
            self.before_next = match mine == theirs {
                true => self.warnings.clone(),
                false => self.compile(resources, column, &theirs, run_dir),
            };
        }
    }

    fn compile(
        &self,
        resources: &Resources<'_>,
        column: &Column,
        objects: &[String],
        run_dir: &RunDir,
    ) -> Result<ExtraWarnings> {
        let tree = self.tree.as_ref().ok_or_else(|| Error::host("it has no source"))?;
        if objects.is_empty() {
            return Ok(ExtraWarnings::default());
        }
        let configuration = resources.prepared.configuration(column.variant.as_deref())?;
        let recipe = Recipe {
            variant: &configuration.variant,
            requests: &configuration.requests,
            tools: resources.tools()?,
            make: resources.plan.make,
        };
        let key =
            Key::of("extra warnings 1").field("kernel", vmtest_kernel::build::key(tree, &recipe).as_str());
        let key = objects.iter().fold(key, |key, object| key.field("object", object)).finish();
        remembered(resources.ctx, &key, || {
            let _one = resources.make();
            let log_dir =
                run_dir.dir(&format!("builds/{}", vmtest_kernel::build::identity(tree, &recipe)))?;
            let configured = ConfiguredTree::configure(resources.ctx, tree, &recipe, &log_dir)?;
            let phase = resources.ctx.bus.phase("warnings", tree.id());
            let said = configured.extra_warnings(resources.ctx, objects, &log_dir.join("warnings.log"))?;
            phase.finish();
            Ok(said)
        })
    }

    /// Whether a guest would show nothing new: its kernel and its bpftool are the same as those. A patch of the
    /// tree's own tests changes what runs in a guest.
    pub fn is_same_guest(&self, before: &State, resources: &Resources<'_>) -> bool {
        let tests = |patch: &Patch| patch.touches.iter().any(|file| file.starts_with("tools/"));
        let of_tree = resources.plan.upstream.is_some() && self.patch.as_ref().is_none_or(tests);
        !of_tree && resources.plan.checks.contains(&CheckName::Functions) && self.is_same(before)
    }

    fn is_same(&self, before: &State) -> bool {
        self.beside == before.beside && self.is_same_kernel(before)
    }

    fn is_same_kernel(&self, before: &State) -> bool {
        if self.hash.is_some() && self.hash == before.hash {
            return true;
        }
        match (&before.kernel, &self.kernel) {
            (Some((_, Ok(before))), Some((_, Ok(after)))) => before.is_same(after),
            _ => false,
        }
    }
}

/// Runs the requested checks on the patch between two columns. `before` is `None` for the first patch of a
/// review without a base.
pub fn run(resources: &Resources<'_>, before: Option<&State>, after: &State) -> Checks {
    let unknown = State::default();
    let before = before.unwrap_or(&unknown);
    let Some(patch) = &after.patch else { return Checks::new() };
    let one = |check: &CheckName| {
        let begun = Instant::now();
        let (state, summary, lines) = match check {
            CheckName::Warnings => compare_warnings(before, after, patch),
            CheckName::Checkpatch => style(resources, after.tree.as_ref().or(before.tree.as_ref()), patch),
            CheckName::Btf => types(resources, before, after),
            CheckName::Uapi => interfaces(resources, before, after, patch),
            CheckName::Functions => code(before, after),
        }
        .unwrap_or_else(|error| (CheckState::Unknown, format!("{} not checked", check.name()), why(&error)));
        let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        (check.name().to_owned(), Check { state, summary, lines, duration_ms })
    };
    resources.plan.checks.iter().map(one).collect()
}

/// State, summary and lines of a check.
type Outcome = Result<(CheckState, String, Vec<String>)>;

/// Why a check has no result.
fn why(error: &Error) -> Vec<String> {
    std::iter::once(&error.what).chain(error.why.first()).cloned().collect()
}

/// The result of a check that takes long: from the cache, or made and kept there.
fn remembered<T: Serialize + DeserializeOwned>(
    ctx: &Context,
    key: &Key,
    make: impl FnOnce() -> Result<T>,
) -> Result<T> {
    const FILE: &str = "result.json";
    let (dir, _) = ctx.cache.get_or_make(&ctx.bus, CacheKind::Checks, key.as_str(), |dir| {
        let text = serde_json::to_string(&make()?);
        let text = text.map_err(|error| Error::host("cannot keep the result of a check").why(error))?;
        write_file(&dir.join(FILE), text)
    })?;
    serde_json::from_str(&read_text(&dir.join(FILE))?)
        .map_err(|error| Error::host(format!("cannot read {}", dir.join(FILE).display())).why(error))
}

/// `1 type`, `2 types`.
fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

fn compare_warnings(before: &State, after: &State, patch: &Patch) -> Outcome {
    let touched = warnings::objects(&patch.touches);
    if touched.is_empty() {
        return Ok((CheckState::Clean, "touches no C file of the kernel".to_owned(), Vec::new()));
    }
    let was = before.before_next.as_ref().map_err(Clone::clone)?;
    let is = after.warnings.as_ref().map_err(Clone::clone)?;
    let compiled = touched.iter().filter(|object| is.compiled.contains(*object)).count();
    let new = warnings::new(&was.text, &is.text);
    Ok(match new.len() {
        0 if compiled < touched.len() => {
            let files = counted(touched.len(), "C file");
            (
                CheckState::Info,
                format!("this configuration compiles {compiled} of {files} that it touches"),
                new,
            )
        }
        0 => (CheckState::Clean, "no new warnings".to_owned(), new),
        count => (CheckState::Bad, format!("adds {}", counted(count, "compiler warning")), new),
    })
}

fn style(resources: &Resources<'_>, tree: Option<&PatchedTree>, patch: &Patch) -> Outcome {
    let tree = tree.ok_or_else(|| Error::host("the tree is not known"))?;
    let report = checkpatch::run(resources.ctx, resources.tools()?, &tree.source().dir, patch)?;
    Ok(match report.counts() {
        None => (CheckState::Clean, "checkpatch is clean".to_owned(), Vec::new()),
        Some(counts) => (CheckState::Advice, format!("checkpatch: {counts}"), report.lines),
    })
}

fn kernel(state: &State) -> Result<&(PathBuf, Result<Code>)> {
    state.kernel.as_ref().ok_or_else(|| Error::host("a kernel to compare is missing"))
}

fn types(resources: &Resources<'_>, before: &State, after: &State) -> Outcome {
    let read = |state: &State| Btf::of(resources.tools()?, &kernel(state)?.0, after.bpftool.as_deref());
    let (types, functions) = read(before)?.changes(&read(after)?);
    if types.is_empty() && functions.is_empty() {
        return Ok((CheckState::Clean, "BTF is the same".to_owned(), Vec::new()));
    }
    let summary =
        format!("BTF: {} and {} differ", counted(types.len(), "type"), counted(functions.len(), "prototype"));
    Ok((CheckState::Info, summary, types.iter().chain(&functions).map(btf::line).collect()))
}

fn interfaces(resources: &Resources<'_>, before: &State, after: &State, patch: &Patch) -> Outcome {
    let files: Vec<String> = patch.touches.iter().cloned().collect();
    if !uapi::concerns(&files) {
        return Ok((CheckState::Clean, "touches no header of user space".to_owned(), Vec::new()));
    }
    let missing = || Error::host("a tree to compare is missing");
    let past = before.tree.as_ref().ok_or_else(missing)?;
    let base = after.tree.as_ref().ok_or_else(missing)?;
    let tools = resources.tools()?;
    let key = Key::of("uapi 2").field("tools", tools.key().as_str());
    let key = [past, base].into_iter().fold(key, |key, tree| {
        let origin = tree.origin().map(|origin| origin.to_string()).unwrap_or_default();
        key.field("tree", tree.key().as_str()).field("origin", origin)
    });
    let lines: Vec<String> =
        remembered(resources.ctx, &key.finish(), || uapi::run(resources.ctx, tools, past, base))?;
    Ok(match lines.is_empty() {
        true => (CheckState::Clean, "the user-space headers stay compatible".to_owned(), lines),
        false => (CheckState::Bad, "breaks a user-space header".to_owned(), lines),
    })
}

fn code(before: &State, after: &State) -> Outcome {
    if after.is_same_kernel(before) {
        return Ok((CheckState::Info, "changes no byte of the kernel".to_owned(), Vec::new()));
    }
    let (was, is) = (kernel(before)?.1.as_ref(), kernel(after)?.1.as_ref());
    let (was, is) = (was.map_err(Clone::clone)?, is.map_err(Clone::clone)?);
    let changes = was.changes(is);
    let lines = [("+ ", &changes.added), ("- ", &changes.removed), ("", &changes.changed)];
    let lines: Vec<String> = lines
        .into_iter()
        .flat_map(|(mark, names)| names.iter().map(move |name| format!("{mark}{name}")))
        .collect();
    Ok(match lines.len() {
        0 => (CheckState::Info, "changes data, and no function".to_owned(), lines),
        count => (CheckState::Info, format!("changes {}", counted(count, "function")), lines),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_booted_again_for_another_bpftool_and_without_evidence() {
        let state = |hash: Option<&str>, beside: &str| State {
            hash: hash.map(str::to_owned),
            beside: beside.into(),
            ..State::default()
        };
        assert!(state(Some("a"), "x").is_same(&state(Some("a"), "x")));
        assert!(!state(Some("a"), "x").is_same(&state(Some("a"), "y")), "a patch of libbpf");
        assert!(!state(Some("a"), "x").is_same(&state(Some("b"), "x")));
        assert!(!state(None, "x").is_same(&state(None, "x")), "two kernels that could not be read");
    }

    #[test]
    fn what_has_no_neighbour_is_not_checked() {
        assert!(code(&State::default(), &State::default()).is_err());
        assert!(kernel(&State::default()).is_err());
    }
}
