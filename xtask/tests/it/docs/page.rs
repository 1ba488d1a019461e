// SPDX-License-Identifier: MIT OR Apache-2.0
//! The code blocks of a page in Markdown, and what each of them is.

use std::sync::LazyLock;

use regex::Regex;

/// In front of a block that is not run: `<!-- not run: REASON -->`, or that another test makes.
const MARKS: [&str; 2] = ["<!-- not run: ", "<!-- picture: "];
/// Words that a line to be run starts with. Anything else is output, or a program that the tests must not start.
const STARTS: [&str; 6] = ["cargo xtask ", "kmatrix", "cd ", "git ", "b4 ", "scripts/setup.sh"];

/// Lines that are not run although others of their block are: how they start, and why.
const NOT_RUN: [(&str, &str); 3] = [
    ("scripts/setup.sh --tests && cargo xtask test", "it runs these tests"),
    ("cargo xtask test", "it runs these tests"),
    ("cargo test ", "it runs other tests"),
];

static EXITS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"# exits with (\d+)").expect("a pattern"));
static SHOWN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^exit (\d+): ").expect("a pattern"));

/// A line for a shell.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Where it is: a line of the page.
    pub number: usize,
    pub text: String,
    /// The exit code that the page promises.
    pub exits: i32,
}

/// Commands that are run one after the other in one directory.
#[derive(Debug, Default)]
pub struct Block {
    pub lines: Vec<Line>,
    /// Whether its output, shown with it, is that of a run that fails.
    pub fails: bool,
}

/// What a page has.
#[derive(Debug, Default)]
pub struct Page {
    pub blocks: Vec<Block>,
    /// Name and text of each file that it shows.
    pub files: Vec<(String, String)>,
    /// Blocks that are neither of these nor marked.
    pub wrong: Vec<String>,
}

/// A block as written: the number of its first line, whether it is marked, its lines.
type Raw<'a> = (usize, bool, Vec<&'a str>);

impl Block {
    pub fn has(&self, part: &str) -> bool {
        self.lines.iter().any(|line| line.text.contains(part))
    }
}

impl Page {
    pub fn read(text: &str) -> Page {
        let mut page = Page::default();
        for (number, marked, lines) in raw(text) {
            if !marked {
                page.block(number, &lines);
            }
        }
        page
    }

    fn block(&mut self, number: usize, lines: &[&str]) {
        if lines[0].starts_with("#!/bin/sh") {
            let text = lines.join("\n");
            self.blocks.push(Block { lines: vec![Line { number, text, exits: 0 }], fails: false });
            return;
        }
        let first = lines.iter().position(|line| file_name(line).is_some()).unwrap_or(lines.len());
        let (commands, files) = lines.split_at(first);
        for line in files {
            if let Some(name) = file_name(line) {
                self.files.push((name.to_owned(), String::new()));
            }
            if let Some((_, text)) = self.files.last_mut() {
                *text += &format!("{line}\n");
            }
        }
        let block = if commands.iter().any(|line| line.starts_with("$ ")) {
            session(number, commands)
        } else {
            Block { lines: joined(number, commands), fails: false }
        };
        let is_run = |line: &&Line| STARTS.iter().any(|start| line.text.starts_with(start));
        if let Some(line) = block.lines.iter().find(|line| !is_run(line)) {
            self.wrong.push(format!(
                "{}: neither a command of this program nor marked: {}",
                line.number, line.text
            ));
        } else if !block.lines.is_empty() {
            self.blocks.push(block);
        }
    }
}

/// The examples of a help.
pub fn examples(help: &str) -> Block {
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let lines: Vec<&str> = lines.take_while(|line| line.starts_with("  ")).map(str::trim).collect();
    let mut lines = joined(1, &lines);
    for line in &mut lines {
        // The explanation of an example.
        line.text = line.text.split("   ").next().unwrap_or_default().to_owned();
    }
    Block { lines, fails: false }
}

/// `# known.toml` at the top of a file.
fn file_name(line: &str) -> Option<&str> {
    line.strip_prefix("# ").filter(|name| name.contains('.') && !name.contains(' '))
}

/// Lines behind a prompt; the rest is output.
fn session(number: usize, lines: &[&str]) -> Block {
    let mut block = Block::default();
    for (at, line) in lines.iter().enumerate() {
        if let Some(text) = line.strip_prefix("$ ") {
            block.lines.push(Line { number: number + at, text: text.to_owned(), exits: 0 });
        }
        if let (Some(code), Some(last)) = (code(&SHOWN, line), block.lines.last_mut()) {
            last.exits = code;
            block.fails |= code != 0;
        }
    }
    block
}

/// The commands of these lines, which a `\` may continue on the next.
fn joined(number: usize, lines: &[&str]) -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    let mut open = false;
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let (text, more) = line.strip_suffix('\\').map_or((*line, false), |text| (text, true));
        match all.last_mut().filter(|_| open) {
            Some(last) => last.text += text.trim_start(),
            None => all.push(Line { number: number + at, text: text.to_owned(), exits: 0 }),
        }
        open = more;
    }
    all.retain(|line| !NOT_RUN.iter().any(|(start, _)| line.text.starts_with(start)));
    for line in &mut all {
        line.exits = code(&EXITS, &line.text).unwrap_or_default();
    }
    all
}

fn code(pattern: &Regex, line: &str) -> Option<i32> {
    pattern.captures(line)?[1].parse().ok()
}

/// Indented and fenced blocks, without their indentation.
fn raw(text: &str) -> Vec<Raw<'_>> {
    let mut all: Vec<Raw<'_>> = Vec::new();
    let (mut before, mut fenced) = ("", false);
    for (at, line) in text.lines().enumerate() {
        let fence = line.trim_start().starts_with("```");
        let code = fenced || (line.starts_with("    ") && !line.trim().is_empty());
        if fence {
            fenced = !fenced;
        }
        let reason = |mark: &&str| before.trim_start().strip_prefix(*mark)?.strip_suffix("-->");
        let is_marked = MARKS.iter().find_map(reason).is_some_and(|reason| !reason.trim().is_empty());
        if fence && fenced || code && !before.is_empty() {
            all.push((at + 1 + usize::from(fence), is_marked, Vec::new()));
        }
        if let (true, false, Some((_, _, lines))) = (code || line.is_empty(), fence, all.last_mut()) {
            lines.push(line);
        }
        if !line.is_empty() || fenced {
            before = if code || fence { "" } else { line };
        }
    }
    all.iter_mut().for_each(|(_, _, lines)| dedent(lines));
    all.retain(|(_, _, lines)| !lines.is_empty());
    all
}

/// Removes what all lines are indented by, and empty lines at the end.
fn dedent(lines: &mut Vec<&str>) {
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let least = lines.iter().filter(|line| !line.is_empty()).map(indent).min().unwrap_or(0);
    lines.iter_mut().for_each(|line| *line = line.get(least..).unwrap_or(""));
}

#[test]
fn a_page_is_taken_apart() {
    let text = "# Title\n\ntext\n\n    $ cd linux\n    $ kmatrix -t cookie\n    cookie 1/2\n    exit 1: fail 1\n\n\
        - a list\n\n      kmatrix report show \\\n          latest\n      kmatrix x   # exits with 2\n\n\
        <!-- not run: output -->\n    nothing\n\n    more of it\n\n<!-- not run: -->\n    without a reason\n\ntext\n\n    cargo xtask vmtest\n\n    # a.toml\n    a = 1\n\n\
        <!-- picture: made by the test -->\n```text\nbox\n\nbox\n```\n\n```sh\nrm -rf x\n```\n";
    let page = Page::read(text);
    let lines = |at: usize| -> Vec<(&str, i32)> {
        page.blocks[at].lines.iter().map(|line| (line.text.as_str(), line.exits)).collect()
    };
    assert_eq!(lines(0), [("cd linux", 0), ("kmatrix -t cookie", 1)]);
    assert_eq!(lines(1), [("kmatrix report show latest", 0), ("kmatrix x   # exits with 2", 2)]);
    assert_eq!(lines(2), [("cargo xtask vmtest", 0)]);
    assert_eq!((page.blocks.len(), page.blocks[0].fails, page.blocks[1].fails), (3, true, false));
    assert_eq!(page.files, [("a.toml".to_owned(), "# a.toml\na = 1\n".to_owned())]);
    assert_eq!(page.wrong.len(), 2, "{:?}", page.wrong);
    assert!(page.wrong[0].ends_with("nor marked: without a reason"), "{:?}", page.wrong);
    assert!(page.wrong[1].ends_with("nor marked: rm -rf x"), "{:?}", page.wrong);
}
