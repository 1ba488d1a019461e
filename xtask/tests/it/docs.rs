// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every code block of README and docs and every example of a help is run as a user would, in a world with what the
//! pages assume, or says why not.

mod desk;
mod page;

use std::cell::OnceCell;
use std::fs;

use self::desk::Desk;
use self::page::{Block, Page, examples};
use crate::support::{World, checkout};

/// Runs blocks, and collects what is wrong.
#[derive(Default)]
struct Reader {
    passes: OnceCell<Desk>,
    fails: OnceCell<Desk>,
    ran: usize,
    wrong: Vec<String>,
}

impl Reader {
    /// The pages of the checkout, and how many of their commands are run at least.
    #[track_caller]
    fn read(names: &[&str], least: usize) {
        let mut reader = Reader::default();
        for name in names {
            let text = fs::read_to_string(checkout().join(name)).expect("a page");
            reader.page(name, &text);
        }
        reader.is_right(least);
    }

    #[track_caller]
    fn is_right(&self, least: usize) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n\n"));
        assert!(self.ran >= least, "{} commands", self.ran);
    }

    fn page(&mut self, name: &str, text: &str) {
        let page = Page::read(text);
        self.wrong.extend(page.wrong.iter().map(|wrong| format!("{name}:{wrong}")));
        for block in &page.blocks {
            let dir = if block.has("cargo xtask ") || block.has("scripts/") { "project" } else { "linux" };
            self.block(name, block, &page.files, dir);
        }
    }

    /// Runs a block in a world that fits it.
    fn block(&mut self, name: &str, block: &Block, files: &[(String, String)], dir: &str) {
        let fails = block.fails || block.has(" bisect ");
        let cell = if fails { &self.fails } else { &self.passes };
        let desk = cell.get_or_init(|| Desk::new(fails));
        desk.place(files);
        let names_runs = ["692d4a", " run/"].iter().any(|name| block.has(name));
        if names_runs || (block.has("report ") && !desk.has_runs()) {
            desk.earlier();
        }
        if block.has("report merge ") {
            desk.parts();
        }
        let mut dir = dir.to_owned();
        for line in &block.lines {
            if fails && line.text.contains("@B") {
                desk.panics(line.text.contains("panic"));
            }
            let done = desk.run(&dir, &line.text);
            self.ran += 1;
            let said = format!("{name}:{}: {}\n{done}", line.number, line.text);
            if done.status.code() != Some(line.exits) {
                self.wrong.push(said);
            }
            dir = desk.place_of_last();
        }
    }
}

/// The pages that have code, without those that are generated.
fn pages() -> Vec<String> {
    let fixed = [
        "README.md",
        "CONTRIBUTING.md",
        "kconfig/README.md",
        "selftests/README.md",
        "images/README.md",
        "patches/fsession-6.18/README.md",
    ];
    let docs = fs::read_dir(checkout().join("docs")).expect("docs").flatten().map(|entry| entry.path());
    let docs = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let name =
        |path: std::path::PathBuf| format!("docs/{}", path.file_name().unwrap_or_default().to_string_lossy());
    fixed.map(str::to_owned).into_iter().chain(docs.map(name)).collect()
}

#[test]
fn first_steps_are_as_described() {
    Reader::read(&FIRST, 30);
}

#[test]
fn the_how_to_list_is_right() {
    Reader::read(&["docs/howto.md"], 44);
}

#[test]
fn reports_and_matrices_are_as_described() {
    Reader::read(&REPORTS, 13);
}

#[test]
fn searches_are_as_described() {
    Reader::read(&["docs/bisect.md"], 6);
}

const FIRST: [&str; 5] = ["README.md", "docs/tutorial.md", "docs/git.md", "docs/b4.md", "docs/faq.md"];
const REPORTS: [&str; 2] = ["docs/reports.md", "docs/matrix.md"];

#[test]
fn the_other_pages_are_right() {
    let named = [&FIRST[..], &REPORTS, &["docs/howto.md", "docs/bisect.md"]].concat();
    let pages = pages();
    let rest: Vec<&str> = pages.iter().map(String::as_str).filter(|name| !named.contains(name)).collect();
    assert_eq!(rest.len() + named.len(), pages.len(), "{pages:?}");
    Reader::read(&rest, 16);
}

/// The help of each command below this one.
fn helps(world: &World, words: &[&str], all: &mut Vec<(String, String)>) {
    let help = world.start(world.command(&[words, &["--help"]].concat())).done();
    let listed = help.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let below: Vec<&str> =
        listed.take_while(|line| !line.is_empty()).filter_map(|line| line.split(' ').nth(2)).collect();
    below
        .iter()
        .filter(|name| !name.is_empty())
        .for_each(|name| helps(world, &[words, &[*name]].concat(), all));
    if below.is_empty() || help.stdout.contains("\nExamples:\n") {
        all.push((words.join(" "), help.stdout));
    }
}

#[test]
fn every_example_of_a_help_is_right() {
    let world = World::new();
    let mut all = Vec::new();
    helps(&world, &[], &mut all);
    assert!(all.len() > 17, "{}", all.len());
    let mut reader = Reader::default();
    for (name, help) in &all {
        let block = examples(help);
        assert!(help.contains("\nExamples:\n"), "{name}: {help}");
        let dir = if name == "vmtest" { "linux" } else { "project" };
        reader.block(name, &block, &[], dir);
    }
    reader.is_right(61);
}

#[test]
fn what_is_false_is_noticed() {
    for (block, says) in [
        ("kmatrix --no-such-option", "unexpected argument"),
        ("kmatrix -t cookie   # exits with 1", "exit 0: pass"),
        ("$ kmatrix -t cookie\n    exit 21: it panics", "FAILED: 1 of 2 tests"),
        ("kmatrix 5.0", "src:5.0"),
        ("output", "neither a command of this program nor marked: output"),
    ] {
        let mut reader = Reader::default();
        reader.page("x.md", &format!("text\n\n    {block}\n"));
        assert_eq!(reader.wrong.len(), 1, "{block}: {:?}", reader.wrong);
        assert!(
            reader.wrong[0].contains(says) && reader.wrong[0].starts_with("x.md:3: "),
            "{}",
            reader.wrong[0]
        );
    }
}
