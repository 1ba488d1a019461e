// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which added lines of a series ran, for the terminal, Markdown, a mail, and viewers of lcov files. Only what did not run is shown
//! in full. The page is in html/added_lines.rs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::escape::{cut, markdown, xml};
use crate::layout::wrapped;
use crate::names;
use vmtest_record::coverage::{Coverage, CoveredFile, CoveredLine, LineState};
use vmtest_record::run::{Kernel, RunResult};

/// Most lines of code that a terminal and a summary show.
const TERMINAL: usize = 40;
const MARKDOWN: usize = 400;
/// Most places that a mail names, and files with one reason.
const PLACES: usize = 4;

/// Lines that follow each other in one file, of one patch and in one state.
pub(crate) struct Block<'a> {
    path: &'a str,
    pub(crate) lines: &'a [CoveredLine],
}

impl Block<'_> {
    pub(crate) fn first(&self) -> &CoveredLine {
        &self.lines[0]
    }

    /// `kernel/bpf/trampoline.c:212-214`
    pub(crate) fn place(&self) -> String {
        let (first, last) = (self.first().line, self.lines[self.lines.len() - 1].line);
        let end = if first == last { String::new() } else { format!("-{last}") };
        format!("{}:{first}{end}", self.path)
    }
}

/// Kernels with a coverage.
pub(crate) fn of(run: &RunResult) -> impl Iterator<Item = (&Kernel, &Coverage)> {
    run.kernels.iter().filter_map(|kernel| Some((kernel, kernel.coverage.as_ref()?)))
}

/// The blocks of a file.
fn blocks(file: &CoveredFile) -> impl Iterator<Item = Block<'_>> {
    let same =
        |a: &CoveredLine, b: &CoveredLine| (a.line + 1, a.patch, a.state) == (b.line, b.patch, b.state);
    file.lines.chunk_by(same).map(|lines| Block { path: &file.path, lines })
}

pub(crate) fn not_run(coverage: &Coverage) -> Vec<Block<'_>> {
    let all = coverage.files.iter().flat_map(blocks);
    all.filter(|block| block.first().state == LineState::NotRun).collect()
}

/// `412 added lines: 371 run, 29 not run, 12 not compiled`
pub(crate) fn counts<'a>(lines: impl Iterator<Item = &'a CoveredLine>) -> String {
    let lines: Vec<&CoveredLine> = lines.collect();
    let count = |state: LineState| lines.iter().filter(|line| line.state == state).count();
    let states = LineState::ALL.into_iter().filter(|state| count(*state) > 0);
    let states: Vec<String> = states.map(|state| format!("{} {}", count(state), state.name())).collect();
    let s = if lines.len() == 1 { "" } else { "s" };
    format!("{} added line{s}: {}", lines.len(), states.join(", "))
}

pub(crate) fn all(coverage: &Coverage) -> String {
    match &coverage.problem[..] {
        "" => counts(coverage.lines().map(|(_, line)| line)),
        problem => format!("not known which lines ran: {problem}"),
    }
}

/// What is known of each patch, and why files have no result.
pub(crate) fn parts(kernel: &Kernel, coverage: &Coverage) -> (Vec<String>, Vec<String>) {
    if !coverage.problem.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let of_patch = |(at, subject): (usize, &String)| {
        let lines = || coverage.lines().map(|(_, line)| line).filter(|line| line.patch == at + 1);
        let text = if lines().next().is_none() { "no lines left".to_owned() } else { counts(lines()) };
        format!("{}/{} {subject}: {text}", at + 1, kernel.series.len())
    };
    let mut reasons: BTreeMap<&str, Vec<&CoveredFile>> = BTreeMap::new();
    for file in coverage.files.iter().filter(|file| !file.why.is_empty()) {
        reasons.entry(&file.why).or_default().push(file);
    }
    let reason = |(why, mut files): (&str, Vec<&CoveredFile>)| {
        files.sort_by_key(|file| std::cmp::Reverse(file.lines.len()));
        let lines: usize = files.iter().map(|file| file.lines.len()).sum();
        let names: Vec<&str> = files.iter().take(PLACES).map(|file| file.path.as_str()).collect();
        let more = if files.len() > PLACES { ", .." } else { "" };
        format!("{why} ({lines}): {}{more}", names.join(", "))
    };
    (kernel.series.iter().enumerate().map(of_patch).collect(), reasons.into_iter().map(reason).collect())
}

/// For the terminal.
pub fn render(text: &mut String, run: &RunResult) {
    for (kernel, coverage) in of(run) {
        let _ = writeln!(text, "\n{}: {}", names::kernel(run, &kernel.id), all(coverage));
        let (patches, files) = parts(kernel, coverage);
        for line in patches.iter().chain(&files) {
            text.push_str(&wrapped(line));
        }
        let (blocks, mut left) = (not_run(coverage), TERMINAL);
        for (at, block) in blocks.iter().enumerate() {
            if left == 0 {
                let _ = writeln!(text, "    and {} more places in run.json", blocks.len() - at);
                break;
            }
            let _ = writeln!(text, "not run: {} (patch {})", block.place(), block.first().patch);
            for line in block.lines.iter().take(left) {
                let _ = writeln!(text, "    {}", shown(line));
            }
            left = left.saturating_sub(block.lines.len());
        }
    }
}

/// The code of a line.
pub(crate) fn shown(line: &CoveredLine) -> String {
    cut(&line.text, 200)
}

/// For the summary of a CI job.
pub fn render_markdown(text: &mut String, run: &RunResult) {
    for (kernel, coverage) in of(run) {
        let _ =
            writeln!(text, "\n{}: {}\n", markdown(&names::kernel(run, &kernel.id)), markdown(&all(coverage)));
        let (patches, files) = parts(kernel, coverage);
        for line in patches.iter().chain(&files) {
            let _ = writeln!(text, "- {}", markdown(line));
        }
        let blocks = not_run(coverage);
        if blocks.is_empty() {
            continue;
        }
        let lines = blocks.iter().flat_map(|block| {
            let head = format!("{} (patch {})", block.place(), block.first().patch);
            std::iter::once(head).chain(block.lines.iter().map(|line| format!("    {}", shown(line))))
        });
        let lines: Vec<String> = lines.take(MARKDOWN).collect();
        let _ = writeln!(
            text,
            "\n<details><summary>not run</summary>\n\n<pre>{}</pre>\n\n</details>",
            xml(&lines.join("\n"))
        );
    }
}

/// For a mail: one paragraph; empty without a coverage.
pub fn paragraph(run: &RunResult) -> String {
    let mut parts = Vec::new();
    for (_, coverage) in of(run).filter(|(kernel, _)| kernel.role.is_none()) {
        let places: Vec<String> = not_run(coverage).iter().map(Block::place).collect();
        let more = if places.len() > PLACES { ", .." } else { "" };
        let places = match places.len() {
            0 => String::new(),
            count => format!("; no test runs {}{more}", places[..count.min(PLACES)].join(", ")),
        };
        parts.push(format!("{}{places}", all(coverage)));
    }
    parts.join("\n")
}

/// For viewers of coverage: the added lines with code, and how many tests run each.
pub fn lcov(run: &RunResult) -> String {
    let mut text = String::new();
    for (kernel, coverage) in of(run) {
        for file in &coverage.files {
            let has_code = |line: &&CoveredLine| matches!(line.state, LineState::Run | LineState::NotRun);
            let lines: Vec<&CoveredLine> = file.lines.iter().filter(has_code).collect();
            if lines.is_empty() {
                continue;
            }
            // The format allows letters, digits and underscores in a name.
            let name: String =
                kernel.id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            let _ = writeln!(text, "TN:{name}\nSF:{}", file.path);
            for line in &lines {
                let _ = writeln!(text, "DA:{},{}", line.line, line.tests.len());
            }
            let hit = lines.iter().filter(|line| line.state == LineState::Run).count();
            let _ = writeln!(text, "LF:{}\nLH:{hit}\nend_of_record", lines.len());
        }
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use vmtest_record::samples;

    pub(crate) fn sample() -> RunResult {
        let line = |line: u64, patch: usize, state: LineState, tests: &[usize]| CoveredLine {
            line,
            patch,
            text: format!("        int line_{line};"),
            state,
            tests: tests.to_vec(),
        };
        let file = |path: &str, why: &str, lines: Vec<CoveredLine>| CoveredFile {
            path: path.into(),
            why: why.into(),
            unknown: false,
            lines,
        };
        let coverage = Coverage {
            tests: vec![String::new(), "basic/args".into()],
            files: vec![
                file(
                    "kernel/a.c",
                    "",
                    vec![
                        line(3, 1, LineState::Run, &[0, 1]),
                        line(4, 1, LineState::NotRun, &[]),
                        line(5, 1, LineState::NotRun, &[]),
                        line(6, 2, LineState::NotRun, &[]),
                        line(9, 2, LineState::NoCode, &[]),
                    ],
                ),
                file("tools/b.c", "not part of the kernel", vec![line(1, 2, LineState::NotCompiled, &[])]),
            ],
            problem: String::new(),
        };
        let mut run = samples::run(Vec::new());
        run.kernels = vec![Kernel {
            id: "tree:linux+s".into(),
            series: vec!["first".into(), "second".into()],
            coverage: Some(coverage),
            ..Kernel::default()
        }];
        run
    }

    #[test]
    fn what_did_not_run_is_shown_with_its_place() {
        let mut text = String::new();
        render(&mut text, &sample());
        let expected = "
tree:linux+s: 6 added lines: 1 run, 3 not run, 1 no code, 1 not compiled
    1/2 first: 3 added lines: 1 run, 2 not run
    2/2 second: 3 added lines: 1 not run, 1 no code, 1 not compiled
    not part of the kernel (1): tools/b.c
not run: kernel/a.c:4-5 (patch 1)
            int line_4;
            int line_5;
not run: kernel/a.c:6 (patch 2)
            int line_6;
";
        assert_eq!(text, expected);
        assert_eq!(
            paragraph(&sample()),
            "6 added lines: 1 run, 3 not run, 1 no code, 1 not compiled; no test runs kernel/a.c:4-5, kernel/a.c:6"
        );
        text.clear();
        render_markdown(&mut text, &sample());
        assert!(text.contains("<pre>kernel/a.c:4-5 (patch 1)\n            int line_4;"), "{text}");
    }

    #[test]
    fn a_viewer_gets_the_lines_with_code_alone() {
        let expected =
            "TN:tree_linux_s\nSF:kernel/a.c\nDA:3,2\nDA:4,0\nDA:5,0\nDA:6,0\nLF:4\nLH:1\nend_of_record\n";
        assert_eq!(lcov(&sample()), expected);
    }
}
