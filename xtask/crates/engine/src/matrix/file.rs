// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses `matrix.toml`. An error is reported with its line, before any work.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::matrix::expect::{ExpectLines, Expectation};
use crate::matrix::job::{Job, NO_SERIES, NO_VARIANT, Settings, from_here};
use crate::matrix::pattern::{CellPattern, JobGlobs, JobPattern};
use crate::plan::{self, DEFAULT_VARIANT};
use crate::request::BootChoice;
use vmtest_base::error::{Error, Result};
use vmtest_base::files::read_text;
use vmtest_base::program;
use vmtest_kernel::maintained;
use vmtest_kernel::spec::KernelSpec;
use vmtest_record::matrix::{Axes, CellGlobs};

/// Most jobs of a matrix: ten times what a forge starts at once, to catch typing mistakes.
const MAX_JOBS: usize = 2560;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    matrix: Vec<Spanned<Block>>,
    #[serde(default)]
    exclude: Vec<Spanned<JobGlobs>>,
    #[serde(default)]
    expect: Vec<Spanned<ExpectLines>>,
    #[serde(default)]
    require: Vec<Spanned<CellGlobs>>,
    allow_splats: Option<PathBuf>,
}

/// A product: each kernel with each series, variant, suite and boot.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    kernels: Vec<String>,
    #[serde(default)]
    series: Vec<OneSeries>,
    #[serde(default)]
    variants: Vec<String>,
    #[serde(default)]
    suites: Vec<String>,
    #[serde(default)]
    boot: Vec<String>,
    #[serde(default)]
    tests: Vec<String>,
    effort: Option<String>,
    retries: Option<u32>,
    #[serde(default)]
    allow_flaky: bool,
    #[serde(default)]
    allow_skip: Vec<String>,
    #[serde(default)]
    timeouts: Vec<String>,
    #[serde(default)]
    append: Vec<String>,
    #[serde(default)]
    sysctls: Vec<String>,
    cpus: Option<u32>,
    cpu_model: Option<String>,
    memory: Option<String>,
    #[serde(default)]
    ignore_denylist: bool,
}

/// A series, or several that are combined into one.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneSeries {
    One(String),
    Several(Vec<String>),
}

impl OneSeries {
    fn parts(&self) -> &[String] {
        match self {
            OneSeries::One(one) => std::slice::from_ref(one),
            OneSeries::Several(several) => several,
        }
    }
}

/// The parsed file.
#[derive(Debug)]
pub struct Matrix {
    pub path: PathBuf,
    /// Its text and that of the files that it names, for the key.
    pub texts: Vec<String>,
    /// All jobs, in the order of the file.
    pub jobs: Vec<Job>,
    /// Known failures.
    pub expected: Vec<Expectation>,
    /// Cells that must exist and pass.
    pub required: Vec<CellPattern>,
}

impl Matrix {
    /// Loads the file.
    ///
    /// # Errors
    /// Class `Usage` with the line of the error.
    pub fn load(path: &Path, project: &Path) -> Result<Matrix> {
        let text =
            read_text(path).map_err(|error| Error { class: vmtest_base::error::Class::Usage, ..error })?;
        let whole = std::path::absolute(path)
            .map_err(|error| Error::usage(format!("cannot resolve {}", path.display())).why(error))?;
        let dir = whole.parent().unwrap_or(Path::new("/"));
        let mut matrix = parse(path, &text, dir, project, &vmtest_base::date::today())?;
        if let Some(file) = matrix.jobs.first().and_then(|job| job.allow_splats.clone()) {
            // Also validates the file now rather than after the first kernel.
            vmtest_record::allow_list::Allowed::load(&file)?;
            matrix.texts.push(read_text(&file)?);
        }
        Ok(matrix)
    }

    /// The jobs with these names; all jobs if no names are given.
    ///
    /// # Errors
    /// Class `Usage` for a name that no job has, or that is given twice.
    pub fn named(&self, ids: &[String]) -> Result<Vec<&Job>> {
        let mut chosen: Vec<&Job> = Vec::new();
        for id in ids {
            let Some(job) = self.jobs.iter().find(|job| job.axes.id == *id) else {
                return Err(Error::usage(format!("{} has no cell {id:?}", self.path.display())).next(
                    format!(
                        "`{} ci-matrix {} --format json` lists them",
                        program::name(),
                        self.path.display()
                    ),
                ));
            };
            if chosen.iter().any(|other| other.axes.id == *id) {
                return Err(Error::usage(format!("--cell {id} is given twice")));
            }
            chosen.push(job);
        }
        Ok(if ids.is_empty() { self.jobs.iter().collect() } else { chosen })
    }
}

/// Finds the line of an error.
struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Lines<'_> {
    fn number(&self, at: usize) -> usize {
        self.text.get(..at).map_or(1, |before| before.matches('\n').count() + 1)
    }

    fn wrong<T>(&self, span: &Spanned<T>, why: impl std::fmt::Display) -> Error {
        self.wrong_at(span.span().start, why)
    }

    fn wrong_at(&self, at: usize, why: impl std::fmt::Display) -> Error {
        let line = self.number(at);
        Error::usage(format!("{}:{line}: this matrix is invalid", self.path.display()))
            .why(why)
            .next("docs/matrix.md describes the format")
    }
}

fn parse(path: &Path, text: &str, dir: &Path, project: &Path, today: &str) -> Result<Matrix> {
    let lines = Lines { path, text };
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        lines.wrong_at(at, error.to_string().trim_end())
    })?;
    let File { matrix, exclude, expect, require, allow_splats } = file;
    let allow_splats = allow_splats.map(|file| dir.join(file));
    let mut jobs: Vec<(usize, Job)> = Vec::new();
    for block in &matrix {
        let context = Context { dir, project, allow_splats: allow_splats.as_deref() };
        let made = expand(block.get_ref(), &context).map_err(|error| lines.wrong(block, error.summary()))?;
        for job in made {
            if let Some((other, _)) = jobs.iter().find(|(_, other)| other.axes.id == job.axes.id) {
                let other = lines.number(*other);
                let why = format!("{} is there already (line {other})", job.axes.id);
                return Err(lines.wrong(block, why));
            }
            jobs.push((block.span().start, job));
        }
        if jobs.len() > MAX_JOBS {
            return Err(lines.wrong(block, format!("more than {MAX_JOBS} jobs")));
        }
    }
    for entry in &exclude {
        let pattern = JobPattern::new(entry.get_ref()).map_err(|why| lines.wrong(entry, why))?;
        let before = jobs.len();
        jobs.retain(|(_, job)| !pattern.fits(&job.axes));
        if jobs.len() == before {
            return Err(lines.wrong(entry, "this [[exclude]] matches no job"));
        }
    }
    two_boots(&lines, &jobs)?;
    if jobs.is_empty() {
        return Err(Error::usage(format!("{} has no job", path.display()))
            .why("it has no [[matrix]], or all of its jobs are excluded")
            .next("docs/matrix.md describes the format"));
    }
    let expected = expect
        .iter()
        .map(|entry| Expectation::new(entry.get_ref(), today).map_err(|why| lines.wrong(entry, why)))
        .collect::<Result<_>>()?;
    let required = require
        .iter()
        .map(|entry| CellPattern::new(entry.get_ref()).map_err(|why| lines.wrong(entry, why)))
        .collect::<Result<_>>()?;
    let jobs = jobs.into_iter().map(|(_, job)| job).collect();
    Ok(Matrix { path: path.to_owned(), texts: vec![text.to_owned()], jobs, expected, required })
}

/// `auto` resolves to one of the others, and its cells would be duplicates of theirs.
fn two_boots(lines: &Lines<'_>, jobs: &[(usize, Job)]) -> Result<()> {
    let same = |a: &Axes, b: &Axes| {
        (&a.kernel, &a.series, &a.variant, &a.suite) == (&b.kernel, &b.series, &b.variant, &b.suite)
    };
    for (at, job) in jobs.iter().filter(|(_, job)| job.boot == BootChoice::Auto) {
        let twin =
            jobs.iter().find(|(_, other)| other.boot != BootChoice::Auto && same(&other.axes, &job.axes));
        if let Some((_, twin)) = twin {
            let why = format!("{} and {} may be the same: give both a boot", job.axes.id, twin.axes.id);
            return Err(lines.wrong_at(*at, why));
        }
    }
    Ok(())
}

struct Context<'a> {
    dir: &'a Path,
    project: &'a Path,
    allow_splats: Option<&'a Path>,
}

/// The jobs of a block, with those of one kernel next to each other.
fn expand(block: &Block, context: &Context<'_>) -> Result<Vec<Job>> {
    let Block { kernels, series, variants, suites, boot, append, sysctls, .. } = block;
    // Checked here and not in the first job, whose command line would have to be located in the file.
    append.iter().try_for_each(|word| plan::parameter(word).map(drop))?;
    sysctls.iter().try_for_each(|text| plan::sysctl(text).map(drop))?;
    if kernels.is_empty() {
        return Err(Error::usage("`kernels` is empty"));
    }
    let none = [OneSeries::One(NO_SERIES.to_owned())];
    let series = if series.is_empty() { &none[..] } else { series };
    let own = ["own".to_owned()];
    let suites = if suites.is_empty() { &own[..] } else { suites };
    let auto = ["auto".to_owned()];
    let boots = if boot.is_empty() { &auto[..] } else { boot };
    let default = [DEFAULT_VARIANT.to_owned()];
    let finished = [NO_VARIANT.to_owned()];
    let mut jobs = Vec::new();
    for kernel in kernels {
        let spec: KernelSpec = kernel.parse()?;
        let variants = match (spec.has_source(), variants.is_empty()) {
            (true, true) => &default[..],
            (true, false) => variants,
            (false, true) => &finished[..],
            (false, false) => {
                return Err(Error::usage(format!("{kernel} is a finished kernel and has no variants"))
                    .why("give it a [[matrix]] of its own"));
            }
        };
        for one in series {
            let (name, paths) = series_of(one, &spec, kernel, context)?;
            for variant in variants {
                for boot in boots {
                    for suite in suites {
                        let axes = Axes::new(kernel, &name, variant, boot, suite);
                        jobs.push(Job {
                            axes,
                            kernel: from_here(spec.clone(), context.dir),
                            series: paths.clone(),
                            variant: spec.has_source().then(|| variant.clone()),
                            boot: boot_of(boot)?,
                            suite: suite.clone().into(),
                            settings: settings(block, suite),
                            allow_splats: context.allow_splats.map(Path::to_owned),
                        });
                    }
                }
            }
        }
    }
    Ok(jobs)
}

/// The name and the path of a series.
fn series_of(
    one: &OneSeries,
    spec: &KernelSpec,
    kernel: &str,
    context: &Context<'_>,
) -> Result<(String, Vec<PathBuf>)> {
    if matches!(one.parts(), [none] if none == NO_SERIES) {
        return Ok((NO_SERIES.to_owned(), Vec::new()));
    }
    if !spec.has_source() {
        return Err(Error::usage(format!("{kernel} is a finished kernel and takes no series"))
            .why("give it a [[matrix]] of its own"));
    }
    if one.parts().is_empty() || one.parts().iter().any(|part| part.is_empty() || part == NO_SERIES) {
        return Err(Error::usage(format!(
            "a series is a name, a path, or a list of them; {NO_SERIES:?} cannot be combined"
        )));
    }
    let place = |part: &String| maintained::from_file(context.project, context.dir, part);
    Ok((one.parts().join("+"), one.parts().iter().map(place).collect::<Result<_>>()?))
}

fn boot_of(text: &str) -> Result<BootChoice> {
    <BootChoice as clap::ValueEnum>::from_str(text, false).map_err(|_| {
        Error::usage(format!("unknown boot {text:?}")).why("expected \"auto\", \"vng\" or \"direct\"")
    })
}

/// Globs choose tests of our own suite and of the tree's; a program runs as a whole.
fn settings(block: &Block, suite: &str) -> Settings {
    let Block {
        kernels: _,
        series: _,
        variants: _,
        suites: _,
        boot: _,
        tests,
        effort,
        retries,
        allow_flaky,
        allow_skip,
        timeouts,
        append,
        sysctls,
        cpus,
        cpu_model,
        memory,
        ignore_denylist,
    } = block;
    Settings {
        tests: tests.clone(),
        effort: effort.clone(),
        retries: *retries,
        allow_flaky: *allow_flaky,
        allow_skip: allow_skip.clone(),
        timeouts: timeouts.clone(),
        append: append.clone(),
        sysctls: sysctls.clone(),
        cpus: *cpus,
        cpu_model: cpu_model.clone(),
        memory: memory.clone(),
        ignore_denylist: *ignore_denylist && suite == "upstream",
    }
}

#[cfg(test)]
mod tests;
