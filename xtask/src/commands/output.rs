// SPDX-License-Identifier: MIT OR Apache-2.0
//! `--output`: which reports of a run are written, and where to. All of them are opened before the long work.

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
use vmtest_report::layout::Look;
use vmtest_report::story::Story;

/// The formats that there are of one kind of report.
pub trait Formats: ValueEnum + Copy + PartialEq + Send + Sync + 'static {
    /// What it is written from.
    type Story<'a>;
    /// What standard output gets unless something else goes there.
    const SHOWN: Self;
    /// What `--json` writes.
    const JSON: Self;
    /// What the summary of a CI job gets.
    const SUMMARY: Self;
    /// What stands in front of the first one in a job of GitHub; `None` where there is no such thing.
    const ANNOTATIONS: Option<Self>;

    /// The report.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
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
    /// Write a report to a file, or to standard output instead of the table; repeatable: table, json, junit, ktap,
    /// markdown, github, mail, html
    #[arg(long = "output", value_name = "FORMAT[=FILE]", value_parser = Wish::<Format>::parse)]
    pub outputs: Vec<Wish<Format>>,
}

/// A report that is asked for.
#[derive(Debug, Clone)]
pub struct Wish<F> {
    format: F,
    /// `None`: standard output.
    file: Option<PathBuf>,
}

impl<F: Formats> Wish<F> {
    /// Reads `FORMAT` or `FORMAT=FILE`.
    ///
    /// # Errors
    /// What is wrong with it, and which formats there are.
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

/// Reports that are to be written.
#[derive(Debug)]
pub struct Outputs<F = Format> {
    list: Vec<(F, Target)>,
}

impl OutputArgs {
    /// Opens every report; `json` is one more, by its own option.
    ///
    /// # Errors
    /// Class `Usage` where two would go to standard output, class `Host` for a place that cannot be written.
    pub fn open(&self, json: Option<&Path>) -> Result<Outputs> {
        Outputs::open(&self.outputs, json)
    }
}

impl<F: Formats> Outputs<F> {
    /// The same of any kind of report.
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
        Ok(Outputs { list })
    }
}

impl Outputs<Format> {
    /// Consoles of a run, where one of the reports shows them.
    pub fn consoles(&self, dir: &Path, run: &RunResult) -> Consoles {
        let shown = self.list.iter().any(|(format, _)| *format == Format::Html);
        if shown { load::consoles(dir, run) } else { Consoles::new() }
    }
}

impl<F: Formats> Outputs<F> {
    /// What a job of GitHub gets besides: annotations in front of the table, where standard output is no data, and Markdown
    /// at the end of the job's summary.
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

    /// Writes them all, also when one cannot be written.
    ///
    /// # Errors
    /// The first that could not be.
    pub fn write(self, story: &F::Story<'_>) -> Result<()> {
        let mut done = Ok(());
        for (format, target) in self.list {
            let look = match target {
                Target::Stdout => Look::of_stdout(),
                Target::File(_) | Target::Stream(..) | Target::Summary(_) => Look { colour: false },
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
