// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--output`: which reports of a run are written, and where. All of them are opened before the long work.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::commands::target::Target;
use crate::github;
use vmtest_base::error::{Error, Result};
use vmtest_base::places;
use vmtest_record::load::{self, Consoles};
use vmtest_record::run::RunResult;
use vmtest_report::bisect;
use vmtest_report::format::Format;
use vmtest_report::layout::{Look, Rows};
use vmtest_report::story::Story;

/// The formats of one kind of report.
pub trait Formats: ValueEnum + Copy + PartialEq + Send + Sync + 'static {
    /// What it is rendered from.
    type Story<'a>;
    /// The format on standard output, unless something else goes there.
    const SHOWN: Self;
    /// The format of `--json`.
    const JSON: Self;
    /// The format of a CI job's summary.
    const SUMMARY: Self;
    /// The format of annotations in a GitHub job, printed before the first report, if there is one.
    const ANNOTATIONS: Option<Self>;

    /// Renders the report.
    ///
    /// # Errors
    /// When it cannot be converted to JSON.
    fn render(self, story: &Self::Story<'_>, look: Look) -> Result<String>;
}

impl Formats for Format {
    type Story<'a> = Story<'a>;
    const SHOWN: Format = Format::Table;
    const JSON: Format = Format::Json;
    const SUMMARY: Format = Format::Markdown;
    const ANNOTATIONS: Option<Format> = Some(Format::Github);

    fn render(self, story: &Story<'_>, look: Look) -> Result<String> {
        Format::render(self, story, look)
    }
}

impl Formats for bisect::Format {
    type Story<'a> = vmtest_record::bisection::Bisection;
    const SHOWN: bisect::Format = bisect::Format::Text;
    const JSON: bisect::Format = bisect::Format::Json;
    const SUMMARY: bisect::Format = bisect::Format::Markdown;
    const ANNOTATIONS: Option<bisect::Format> = None;

    fn render(self, report: &vmtest_record::bisection::Bisection, _: Look) -> Result<String> {
        bisect::Format::render(self, report)
    }
}

/// Options of every command that reports a run.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct OutputArgs {
    /// Write a report to a file, or to standard output instead of the table; repeatable: table, json, junit,
    /// ktap, markdown, github, mail, html
    #[arg(long = "output", value_name = "FORMAT[=FILE]", value_parser = Wish::<Format>::parse)]
    pub outputs: Vec<Wish<Format>>,
    /// Rows of the table: all, or failed, which counts the tests that passed by group [default: failed on a
    /// terminal, all elsewhere]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub rows: Option<Rows>,
}

#[derive(Debug, Clone)]
pub struct Wish<F> {
    format: F,
    /// `None` for standard output.
    file: Option<PathBuf>,
}

impl<F: Formats> Wish<F> {
    /// Parses `FORMAT` or `FORMAT=FILE`.
    ///
    /// # Errors
    /// What is wrong with it, and the valid formats.
    pub fn parse(text: &str) -> std::result::Result<Wish<F>, String> {
        let (name, file) = text.split_once('=').map_or((text, None), |(name, file)| (name, Some(file)));
        let format = F::from_str(name, false).map_err(|_| {
            let known: Vec<String> = F::value_variants()
                .iter()
                .filter_map(|format| Some(format.to_possible_value()?.get_name().to_owned()))
                .collect();
            format!("unknown format {name:?}; formats are {}", known.join(", "))
        })?;
        match file {
            Some("") => Err("the file is missing".to_owned()),
            None | Some("-") => Ok(Wish { format, file: None }),
            Some(file) => Ok(Wish { format, file: Some(places::expanded(Path::new(file))) }),
        }
    }
}

#[derive(Debug)]
pub struct Outputs<F = Format> {
    list: Vec<(F, Target)>,
    rows: Option<Rows>,
}

impl OutputArgs {
    /// Opens every report; `json` is an additional one with its own option.
    ///
    /// # Errors
    /// Class `Usage` if two would go to standard output, class `Host` for a file that cannot be written.
    pub fn open(&self, json: Option<&Path>) -> Result<Outputs> {
        Ok(Outputs { rows: self.rows, ..Outputs::open(&self.outputs, json)? })
    }

    /// The same, for a user who wants to see little.
    pub fn quiet(&self, quiet: bool) -> OutputArgs {
        let rows = self.rows.or(quiet.then_some(Rows::Failed));
        OutputArgs { rows, ..self.clone() }
    }
}

impl<F: Formats> Outputs<F> {
    /// The same for any kind of report.
    ///
    /// # Errors
    /// As above.
    pub fn open(wishes: &[Wish<F>], json: Option<&Path>) -> Result<Outputs<F>> {
        let mut list = Vec::new();
        for Wish { format, file } in wishes {
            let target = match file {
                None => Target::Stdout,
                Some(file) => Target::open("--output", file)?,
            };
            list.push((*format, target));
        }
        let to_stdout = list.iter().filter(|(_, target)| matches!(target, Target::Stdout)).count();
        let json_to_stdout = json == Some(Path::new("-"));
        let to_stdout = to_stdout + usize::from(json_to_stdout);
        if to_stdout > 1 {
            return Err(Error::usage("two reports would go to standard output")
                .next("give all but one a file: --output FORMAT=FILE"));
        }
        if to_stdout == 0 {
            list.insert(0, (F::SHOWN, Target::Stdout));
        }
        match json {
            Some(_) if json_to_stdout => list.push((F::JSON, Target::Stdout)),
            Some(path) => list.push((F::JSON, Target::open("--json", path)?)),
            None => (),
        }
        Ok(Outputs { list, rows: None })
    }
}

impl Outputs<Format> {
    /// Consoles of a run, if one of the reports shows them.
    pub fn consoles(&self, dir: &Path, run: &RunResult) -> Consoles {
        let shown = self.list.iter().any(|(format, _)| *format == Format::Html);
        if shown { load::consoles(dir, run) } else { Consoles::new() }
    }
}

impl<F: Formats> Outputs<F> {
    /// Adds what a GitHub job needs: annotations before the table, unless standard output is data, and
    /// Markdown at the end of the job's summary.
    pub fn with_ci(mut self) -> Outputs<F> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let shown = self.list.iter().position(|(format, target)| *format == F::SHOWN && target.is_stdout());
        if let (Some("true"), Some(at), Some(annotations)) =
            (set("GITHUB_ACTIONS").as_deref(), shown, F::ANNOTATIONS)
        {
            self.list.insert(at, (annotations, Target::Stdout));
        }
        if let Some(file) = set("GITHUB_STEP_SUMMARY") {
            self.list.push((F::SUMMARY, Target::Summary(file.into())));
        }
        self
    }

    /// Writes all of them, even if one cannot be written.
    ///
    /// # Errors
    /// The first error.
    pub fn write(self, story: &F::Story<'_>) -> Result<()> {
        let mut done = Ok(());
        for (format, target) in self.list {
            let look = match target {
                Target::Stdout => Look::of_stdout(self.rows),
                Target::File(_) | Target::Stream(..) | Target::Summary(_) => {
                    Look { rows: self.rows.unwrap_or(Rows::All), ..Look::PLAIN }
                }
            };
            let stdout = target.is_stdout();
            let write = || format.render(story, look).and_then(|text| target.write(&text));
            let mut written = Ok(());
            if stdout && Some(format) == F::ANNOTATIONS {
                github::commands(|| written = write());
            } else {
                if stdout && format == F::SHOWN {
                    github::text_follows();
                }
                written = write();
            }
            done = done.and(written);
        }
        done
    }
}
