// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the first error in make's output, with the lines that belong to it. Pure.

use std::sync::LazyLock;

use regex::Regex;

/// Most lines of an error that are shown.
const MAX_LINES: usize = 15;

#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static ERROR: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"^[^\s:]+:\d+(:\d+)?: (fatal )?error: ",            // gcc and clang
        r"|^error: ",                                        // resolve_btfids, pahole, rustc
        r"|^[^\s:]+: error: ",                               // objtool
        r"|^(ld(\.lld)?|.*/ld): .*(undefined|error|cannot)", // the linker
        r"|undefined reference to",
        r"|^ERROR: ",              // modpost
        r"|^FAILED:? ",            // BTF
        r"|^[^\s:]+:\d+: \*\*\* ", // a Makefile's own
        r"|^make(\[\d+\])?: \*\*\* ",
        r"|^bwrap: |^make: .*(not found|No such file)|: (command )?not found$|No space left on device",
    ))
    .unwrap()
});

/// Most errors that an editor can jump to.
const MAX_ERRORS: usize = 20;

#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static PLACED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[^\s:]+:\d+(:\d+)?: (fatal )?error: ").unwrap());

/// Errors with file and line, each once, in the form that editors jump to.
pub fn placed_errors<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut errors: Vec<&str> = Vec::new();
    for line in lines.filter(|line| PLACED.is_match(line)) {
        if errors.len() < MAX_ERRORS && !errors.contains(&line) {
            errors.push(line);
        }
    }
    errors
}

/// The first error of a build, with the lines around it that belong to it; empty without an error.
pub fn first_error<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut before: Vec<&str> = Vec::new();
    let mut found: Vec<String> = Vec::new();
    for line in lines {
        if !found.is_empty() {
            let over = is_step(line) || line.starts_with("make") || found.len() >= MAX_LINES;
            if over {
                break;
            }
            found.push(line.to_owned());
        } else if ERROR.is_match(line) {
            // "In file included from", "In function": the context of the error.
            let lead = before.iter().rev().take(4).take_while(|line| is_lead(line));
            let mut lead: Vec<String> = lead.map(|line| (*line).to_owned()).collect();
            found.push(line.to_owned());
            lead.reverse();
            // The error itself comes first, because a summary quotes the first line.
            found.extend(lead);
        } else {
            before.push(line);
        }
    }
    found
}

/// The lines with a compiler's warning, each once.
pub fn warnings(log: &str) -> String {
    let mut seen = std::collections::BTreeSet::new();
    let lines = log.lines().filter(|line| line.contains(": warning: ") && seen.insert(*line));
    lines.map(|line| format!("{line}\n")).collect()
}

fn is_lead(line: &str) -> bool {
    line.starts_with("In file included from")
        || line.contains(": In function ")
        || line.starts_with("                 from ")
}

fn is_step(line: &str) -> bool {
    line.strip_prefix("  ")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()) && rest.contains("  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_first_error_is_found_not_makes_last() {
        let log = "  CC      kernel/bpf/core.o\n  CC      kernel/bpf/trampoline.o\n\
            /src/kernel/bpf/trampoline.c: In function 'bpf_trampoline_update':\n\
            /src/kernel/bpf/trampoline.c:412:9: error: 'nope' undeclared (first use in this function)\n  \
            412 |         nope = 1;\n      |         ^~~~\n\
            make[4]: *** [/src/scripts/Makefile.build:287: kernel/bpf/trampoline.o] Error 1\n\
            make[3]: *** [/src/scripts/Makefile.build:544: kernel/bpf] Error 2\n";
        let error = first_error(log.lines());
        assert!(error[0].contains("trampoline.c:412:9: error: 'nope'"), "{error:?}");
        assert!(error.iter().any(|line| line.contains("^~~~")));
        assert!(!error.iter().any(|line| line.starts_with("make")));
    }

    #[test]
    fn errors_with_a_place_are_listed_once() {
        let log = "a.c: In function 'f':\na.c:1:2: error: x\na.c:1:2: error: x\n 1 | y\nb.h:3: fatal error: z\nc.c:4:5: warning: w\nmake: *** [a.c:1: a.o] Error 1";
        assert_eq!(placed_errors(log.lines()), ["a.c:1:2: error: x", "b.h:3: fatal error: z"]);
    }

    #[test]
    fn make_alone_is_better_than_nothing() {
        let log = "  CC  x.o\nmake[2]: *** No rule to make target 'y.o', needed by 'z'.  Stop.\nmake: *** [Makefile:248] Error 2";
        assert!(first_error(log.lines())[0].contains("No rule to make target 'y.o'"));
        assert!(first_error("  CC      a.o\nwarning: x\n".lines()).is_empty());
    }
}
