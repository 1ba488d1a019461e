// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completions in their shells, and man pages in man page linters.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::output;
use crate::papers::run;
use crate::support::World;

/// The completions of a shell, in a file of this name.
fn completions(world: &World, shell: &str, file: &str) -> PathBuf {
    let script = run(world, &["completions", shell]);
    script.exits(0);
    world.write(file, &script.stdout)
}

/// A program of the host, run in this world.
fn host(world: &World, program: &str, words: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(words).current_dir(world.path("")).env("HOME", world.path("home")).env("LC_ALL", "C.UTF-8");
    output(program, &mut command)
}

fn lines(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// The lines that zsh completes when Tab is pressed on a terminal.
const ZSH: &str = r#"
zmodload zsh/zpty || exit 1
zpty shell zsh -f -i
zpty -w shell "PS1= PS2=; fpath=($PWD $CARGO_FPATH \$fpath); autoload -Uz compinit; compinit -u -D"
zpty -w shell "told() { zle complete-word; print -r -- \"\$BUFFER\" >> told; BUFFER= }; zle -N told; bindkey '^I' told"
zpty -w shell 'print REA''DY'
zpty -r shell said '*READY*'
: > told
number=0
for line in "$@"; do
    zpty -wn shell "$line"$'\t'
    (( number += 1, waited = 0 ))
    while [[ $(wc -l < told) -lt $number ]]; do
        sleep 0.1
        (( ++waited < 300 )) || { print -u2 "no answer to $line"; exit 1 }
    done
done
zpty -d shell
"#;

#[test]
#[ignore = "runs in CI, where zsh is installed: cargo xtask test --interop"]
fn zsh_completes_behind_cargo_xtask() {
    let world = World::new();
    completions(&world, "zsh", "_xtask");
    world.write("ask.zsh", ZSH);
    // Cargo ships its own completion for zsh; distributions install it elsewhere.
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc");
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    let beside = format!("{sysroot}/share/zsh/site-functions");
    let places = [beside.as_str(), "/usr/share/zsh/vendor-completions", "/usr/share/zsh/site-functions"];
    let has_it = |dir: &&&str| PathBuf::from(dir).join("_cargo").is_file();
    let cargos = places.iter().find(has_it).unwrap_or_else(|| panic!("no completion of cargo in {places:?}"));
    let asked = [
        ("xtask repo", "xtask report "),
        ("xtask report di", "xtask report diff "),
        ("xtask vmtest --with-b", "xtask vmtest --with-base "),
        ("xtask vmtest --boot d", "xtask vmtest --boot direct "),
        ("cargo xtask bis", "cargo xtask bisect "),
        ("cargo xtask bisect --find", "cargo xtask bisect --find-fix "),
        ("cargo bui", "cargo build "),
        ("cargo xtask nothing-of-the-kind", "cargo xtask nothing-of-the-kind"),
    ];
    let mut words = vec!["-f", "ask.zsh"];
    words.extend(asked.map(|(line, _)| line));
    let mut command = Command::new("zsh");
    command.args(words).current_dir(world.path("")).env("HOME", world.path("home"));
    let output = output("zsh", command.env("CARGO_FPATH", cargos).env("TERM", "dumb"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = world.read("told");
    assert_eq!(told.lines().collect::<Vec<_>>(), asked.map(|(_, line)| line), "{told}");
}

#[test]
#[ignore = "runs in CI, where fish is installed: cargo xtask test --interop"]
fn fish_completes_behind_cargo_xtask() {
    let world = World::new();
    completions(&world, "fish", "xtask.fish");
    assert_eq!(lines(&host(&world, "fish", &["--no-config", "--no-execute", "xtask.fish"])), [""; 0]);
    let complete = |line: &str| -> Vec<String> {
        let words = ["--no-config", "-c", "source xtask.fish; complete -C $argv[1]", line];
        let all = lines(&host(&world, "fish", &words));
        let word = |line: &String| line.split('\t').next().unwrap_or_default().to_owned();
        all.iter().map(word).filter(|word| !word.is_empty()).collect()
    };
    for before in ["", "cargo "] {
        let complete = |line: &str| complete(&format!("{before}{line}"));
        assert_eq!(complete("xtask repo"), ["report"], "{before}");
        assert_eq!(complete("xtask report di"), ["diff"], "{before}");
        assert_eq!(complete("xtask vmtest --with-b"), ["--with-base"], "{before}");
        assert_eq!(complete("xtask vmtest --boot d"), ["direct"], "{before}");
        assert!(complete("xtask ").contains(&"vmtest".to_owned()), "{before}");
    }
    assert!(!complete("cargo bui").contains(&"bisect".to_owned()));
}

#[test]
#[ignore = "runs in CI, where mandoc is installed: cargo xtask test --interop"]
fn a_reader_of_man_pages_understands_each() {
    let world = World::new();
    let dir = world.path("man").display().to_string();
    run(&world, &["man", "--dir", &dir]).exits(0);
    let shown = |name: &str| {
        let page = world.path(&format!("man/{name}.1")).display().to_string();
        let struck = lines(&host(&world, "mandoc", &["-T", "ascii", &page])).join(" ");
        // Bold letters are overstruck.
        let mut text = String::new();
        for c in struck.chars() {
            match c {
                '\u{8}' => text.truncate(text.len().saturating_sub(1)),
                c => text.push(c),
            }
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let vmtest = shown("xtask-vmtest");
    let texts = ["--with-base Also test each kernel", "--memory <SIZE> Guest memory"];
    for part in [&["Exit codes", "Examples", "cargo xtask vmtest [-k|--kernel]"][..], &texts].concat() {
        assert!(vmtest.contains(part), "{part}\n{vmtest}");
    }
    assert!(shown("xtask-report-diff").contains("cargo xtask report diff [--"));
    // Long lines are a matter of style: here a paragraph is one line.
    let pages: Vec<String> = fs::read_dir(&dir)
        .expect("pages")
        .map(|page| page.expect("a page").path().display().to_string())
        .collect();
    assert!(pages.len() > 12, "{pages:?}");
    let mut words = vec!["-T", "lint", "-W", "warning"];
    words.extend(pages.iter().map(String::as_str));
    assert_eq!(lines(&host(&world, "mandoc", &words)), [""; 0]);
    // It does warn about real mistakes.
    world.write("wrong.1", ".TH X 1 \"some day\"\n.SH NAME\nx \\- y\n.nonsense\n");
    assert!(!host(&world, "mandoc", &["-T", "lint", "-W", "warning", "wrong.1"]).status.success());
}
