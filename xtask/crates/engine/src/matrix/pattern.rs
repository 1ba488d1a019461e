// SPDX-License-Identifier: MIT OR Apache-2.0
//! Globs for cells and for jobs, as written in `matrix.toml`: a missing key matches everything.

use globset::GlobMatcher;
use serde::Deserialize;

use vmtest_record::matrix::{Axes, CellGlobs, Globs};
use vmtest_record::run::Cell;
use vmtest_suite::own::compile;

/// Compiled globs; an empty list matches everything.
#[derive(Debug, Clone, Default)]
struct Fits(Vec<GlobMatcher>);

impl Fits {
    fn new(globs: Option<&Globs>) -> Result<Fits, String> {
        let Some(globs) = globs else { return Ok(Fits::default()) };
        if globs.all().is_empty() {
            return Err("an empty list matches nothing".to_owned());
        }
        let one =
            |glob: &String| compile(glob).map(|glob| glob.compile_matcher()).map_err(|error| error.summary());
        globs.all().iter().map(one).collect::<Result<_, _>>().map(Fits)
    }

    fn fits(&self, text: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|glob| glob.is_match(text))
    }
}

/// Whether these globs match everything.
fn is_everything(globs: Option<&Globs>) -> bool {
    globs.is_none_or(|globs| {
        globs.all().iter().any(|glob| !glob.is_empty() && glob.chars().all(|c| c == '*' || c == '/'))
    })
}

/// Selects cells.
#[derive(Debug, Clone)]
pub struct CellPattern {
    /// The globs as written, for the record.
    pub text: CellGlobs,
    kernel: Fits,
    variant: Fits,
    boot: Fits,
    suite: Fits,
    test: Fits,
}

impl CellPattern {
    /// Compiles the globs.
    ///
    /// # Errors
    /// Which glob is invalid.
    pub fn new(text: &CellGlobs) -> Result<CellPattern, String> {
        Ok(CellPattern {
            kernel: Fits::new(text.kernel.as_ref())?,
            variant: Fits::new(text.variant.as_ref())?,
            boot: Fits::new(text.boot.as_ref())?,
            suite: Fits::new(text.suite.as_ref())?,
            test: Fits::new(text.test.as_ref())?,
            text: text.clone(),
        })
    }

    /// Whether it matches every possible cell.
    pub fn is_everything(&self) -> bool {
        let CellGlobs { kernel, variant, boot, suite, test } = &self.text;
        [kernel, variant, boot, suite, test].into_iter().all(|globs| is_everything(globs.as_ref()))
    }

    pub fn fits(&self, cell: &Cell) -> bool {
        self.kernel.fits(&cell.kernel)
            && self.variant.fits(&cell.variant)
            && self.boot.fits(&cell.boot)
            && self.suite.fits(&cell.suite)
            && (self.test.fits(&cell.path()) || self.test.fits(&cell.test))
    }
}

/// Selects jobs, as written in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobGlobs {
    /// Matches the kernel as written in the file.
    pub kernel: Option<Globs>,
    /// Matches the series as written, `none` without one; multiple series are joined by `+`.
    pub series: Option<Globs>,
    /// Matches the variant; `image` for a kernel that is not built here.
    pub variant: Option<Globs>,
    /// `auto`, `vng` or `direct`.
    pub boot: Option<Globs>,
    /// Matches the suite.
    pub suite: Option<Globs>,
}

/// Selects jobs.
#[derive(Debug, Clone)]
pub struct JobPattern {
    kernel: Fits,
    series: Fits,
    variant: Fits,
    boot: Fits,
    suite: Fits,
}

impl JobPattern {
    /// Compiles the globs.
    ///
    /// # Errors
    /// Which glob is invalid.
    pub fn new(text: &JobGlobs) -> Result<JobPattern, String> {
        Ok(JobPattern {
            kernel: Fits::new(text.kernel.as_ref())?,
            series: Fits::new(text.series.as_ref())?,
            variant: Fits::new(text.variant.as_ref())?,
            boot: Fits::new(text.boot.as_ref())?,
            suite: Fits::new(text.suite.as_ref())?,
        })
    }

    pub fn fits(&self, axes: &Axes) -> bool {
        self.kernel.fits(&axes.kernel)
            && self.series.fits(&axes.series)
            && self.variant.fits(&axes.variant)
            && self.boot.fits(&axes.boot)
            && self.suite.fits(&axes.suite)
    }
}

#[cfg(test)]
mod tests;
