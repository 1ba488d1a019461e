// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every command in a code block of README and docs is one that this program accepts, or the block says why it is not run.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// In front of a block whose commands are not those of this program: `<!-- not run: REASON -->`.
const NOT_RUN: &str = "<!-- not run: ";

/// The pages, without those that are generated.
fn pages() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![top.join("README.md"), top.join("CONTRIBUTING.md"), top.join("kconfig/README.md")];
    pages.push(top.join("selftests/README.md"));
    let docs = fs::read_dir(top.join("docs")).expect("docs").flatten().map(|entry| entry.path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|end| end == "md")));
    pages
}

/// Lines of the indented code blocks of a page, with their numbers; without blocks that are marked.
fn code(text: &str) -> Vec<(usize, &str)> {
    let (mut code, mut before, mut marked) = (Vec::new(), "", false);
    for (number, line) in text.lines().enumerate() {
        match line.strip_prefix("    ") {
            Some(line) => {
                if !before.starts_with("    ") && !before.is_empty() {
                    marked = before.starts_with(NOT_RUN);
                }
                if !marked {
                    code.push((number + 1, line));
                }
            }
            None if !line.is_empty() => marked = false,
            None => (),
        }
        if !line.is_empty() {
            before = line;
        }
    }
    code
}

/// The words of a command of this program, as a shell would split them; `None` for other lines.
fn words(line: &str) -> Option<Vec<String>> {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let line = line.rsplit_once("&& ").map_or(line, |(_, last)| last);
    let line = line.split(" | ").next().unwrap_or(line).split(" > ").next().unwrap_or(line);
    let all = shlex::split(line)?;
    let words = match &all[..] {
        [cargo, xtask, words @ ..] if cargo == "cargo" && xtask == "xtask" => ("xtask", words),
        [kmatrix, words @ ..] if kmatrix == "kmatrix" => ("kmatrix", words),
        _ => return None,
    };
    Some([&[words.0.to_owned()], words.1].concat())
}

#[test]
fn every_command_of_the_docs_is_accepted() {
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for (number, line) in code(&text) {
            let Some(words) = words(line) else { continue };
            seen += 1;
            let read = super::parse(words.iter().map(OsString::from));
            if let Some(error) = read.err().filter(clap::Error::use_stderr) {
                panic!("{}:{number}: {line}\n{error}", page.display());
            }
        }
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn a_command_that_does_not_exist_is_noticed() {
    let page = "text\n\n    kmatrix -t cookie   # some tests\n    $ cargo xtask vmtest --no-such-option | less\n\n\
                <!-- not run: an example of another program -->\n    kmatrix --nonsense\n";
    let found: Vec<_> = code(page).into_iter().filter_map(|(_, line)| words(line)).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], ["kmatrix", "-t", "cookie"]);
    assert!(super::parse(found[0].iter().map(OsString::from)).is_ok());
    assert!(super::parse(found[1].iter().map(OsString::from)).is_err());
}
