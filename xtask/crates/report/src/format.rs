// SPDX-License-Identifier: MIT OR Apache-2.0
//! All formats of a report, from one model. A format does not depend on files, flags or virtual machines.

use clap::ValueEnum;

use crate::layout::Look;
use crate::story::Story;
use crate::{coverage, github, html, junit, ktap, mail, markdown, table};
use vmtest_base::error::{Error, Result};
use vmtest_record::run::RunResult;

/// Formats of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// What vmtest prints.
    Table,
    /// run.json itself.
    Json,
    /// JUnit XML, for whatever collects test results.
    Junit,
    /// The kernel's own test format; TAP readers understand it as well.
    Ktap,
    /// For the summary of a CI job.
    Markdown,
    /// Annotations of GitHub: `::error ..`.
    Github,
    /// For the reply to a patch: at most 30 lines of 75 columns.
    Mail,
    /// One page with everything, for a browser.
    Html,
    /// Added lines that ran, for viewers of coverage; empty unless the kernel counts lines.
    Lcov,
}

impl Format {
    /// The report in this format.
    ///
    /// # Errors
    /// When the record cannot be converted to JSON.
    pub fn render(self, story: &Story<'_>, look: Look) -> Result<String> {
        Ok(match self {
            Format::Table => table::render(story, look),
            Format::Json => json(story.run)?,
            Format::Junit => junit::render(story),
            Format::Ktap => ktap::render(story),
            Format::Markdown => markdown::render(story),
            Format::Github => github::render(story),
            Format::Mail => mail::render(story),
            Format::Html => html::render(story),
            Format::Lcov => coverage::lcov(story.run),
        })
    }
}

/// `run.json`.
///
/// # Errors
/// When the record cannot be converted to JSON.
pub fn json(run: &RunResult) -> Result<String> {
    let text = serde_json::to_string_pretty(run);
    Ok(text.map_err(|error| Error::host("cannot write run.json").why(error))? + "\n")
}

#[cfg(test)]
mod tests;
