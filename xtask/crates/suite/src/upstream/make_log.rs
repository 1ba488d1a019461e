// SPDX-License-Identifier: MIT OR Apache-2.0
//! The output of `make -k -O` for `test_progs`: which files failed, and the first error of each.

use std::collections::BTreeSet;

use regex::Regex;
use vmtest_kernel::build_log;

/// The step that a line of make's short output shows: `  CLNG-BPF [test_progs] x.bpf.o`.
pub(super) fn step(line: &str) -> Option<&str> {
    let step = line.strip_prefix("  ")?;
    (step.starts_with(|c: char| c.is_ascii_uppercase()) && step.contains(' ')).then(|| step.trim())
}

/// The first error among the lines that make printed for a file whose name starts with `culprit`.
pub(super) fn first_error_of(log: &str, culprit: &str) -> Vec<String> {
    let is_its_step = |line: &str| {
        step(line)
            .is_some_and(|step| step.split_whitespace().last().is_some_and(|file| file.starts_with(culprit)))
    };
    let mut block: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in log.lines() {
        if step(line).is_some() {
            inside = is_its_step(line);
        } else if inside {
            block.push(line);
        }
    }
    let found = build_log::first_error(block.iter().copied());
    if !found.is_empty() {
        return found;
    }
    if let Some(first) = block.iter().find(|line| !line.trim().is_empty()) {
        return vec![(*first).to_owned()];
    }
    // Not in a step: an error from make itself.
    let of_make = log.lines().find(|line| line.contains("***") && line.contains(culprit));
    of_make.map(str::to_owned).into_iter().collect()
}

/// Programs whose object or skeleton make says it failed to make.
pub(super) fn programs_lost(log: &str) -> BTreeSet<String> {
    #[expect(clippy::unwrap_used, reason = "a constant pattern; a test compiles it")]
    let pattern =
        Regex::new(r"\*\*\* \[[^\]]*/([A-Za-z0-9_]+)\.(?:bpf\.o|skel\.h|lskel\.h)\] Error").unwrap();
    pattern.captures_iter(log).map(|found| found[1].to_owned()).collect()
}

/// Files with tests that the linker reports.
pub(super) fn linked_in_vain(log: &str) -> Vec<(String, String)> {
    #[expect(clippy::unwrap_used, reason = "a constant pattern; a test compiles it")]
    let pattern = Regex::new(r"([A-Za-z0-9_]+)\.test\.o.*(undefined reference|multiple definition)").unwrap();
    #[expect(clippy::unwrap_used, reason = "a constant pattern; a test compiles it")]
    let lead = Regex::new(r"([A-Za-z0-9_]+)\.test\.o: in function").unwrap();
    let mut found: Vec<(String, String)> = Vec::new();
    let mut leading: Option<String> = None;
    for line in log.lines() {
        if let Some(lead) = lead.captures(line) {
            leading = Some(lead[1].to_owned());
        }
        let direct = pattern.captures(line).map(|found| found[1].to_owned());
        let complains = line.contains("undefined reference") || line.contains("multiple definition");
        if let Some(file) = direct.or_else(|| leading.clone().filter(|_| complains)) {
            if !found.iter().any(|(known, _)| *known == file) {
                found.push((file, line.trim().to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As make -k -O prints it; the file names and messages are made up.
    const LOG: &str = "  CLNG-BPF [test_progs] good.bpf.o\n  CLNG-BPF [test_progs] bad.bpf.o\n\
        In file included from progs/bad.c:3:\nprogs/bad.c:7:10: fatal error: 'nothere.h' file not found\n    \
        7 | #include \"nothere.h\"\nmake: *** [Makefile:761: /obj/bad.bpf.o] Error 1\n  \
        CLNG-BPF [test_progs] crash.bpf.o\nPLEASE submit a bug report to x\nStack dump:\n\
        clang: error: clang frontend command failed with exit code 139\nmake: *** [Makefile:761: /obj/crash.bpf.o] Error 139\n  \
        TEST-OBJ [test_progs] late.test.o\n/src/prog_tests/late.c:9:2: error: 'x' undeclared (first use in this function)\n\
        make: *** [Makefile:770: /obj/late.test.o] Error 1\n";

    #[test]
    fn the_first_error_of_a_file_is_its_own() {
        assert!(first_error_of(LOG, "bad.")[0].contains("'nothere.h' file not found"));
        assert!(first_error_of(LOG, "crash.")[0].contains("exit code 139"));
        assert!(first_error_of(LOG, "late.test.o")[0].contains("'x' undeclared"));
        assert!(first_error_of(LOG, "good.").is_empty());
        let silent = "make: *** No rule to make target 'progs/gone.c', needed by '/obj/gone.bpf.o'.\n";
        assert!(first_error_of(silent, "gone.")[0].contains("No rule"));
    }

    #[test]
    fn what_make_failed_to_make_is_read_from_its_last_word() {
        let lost: Vec<String> = programs_lost(LOG).into_iter().collect();
        assert_eq!(lost, ["bad", "crash"]);
        let skeleton =
            "make: *** [Makefile:777: /obj/x.skel.h] Error 255\nmake: *** [Makefile:9: /obj/y.o] Error 1\n";
        assert_eq!(programs_lost(skeleton).into_iter().collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn the_linkers_complaints_name_their_tests() {
        let log = "/usr/bin/ld: /obj/a.test.o: in function `run':\n/src/prog_tests/a.c:5: undefined reference to `f'\n\
                   /usr/bin/ld: /obj/b.test.o:/src/prog_tests/b.c:9: multiple definition of `g'\n";
        let found = linked_in_vain(log);
        assert_eq!(found.iter().map(|(file, _)| file.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(found[0].1.contains("undefined reference to `f'"));
        assert!(linked_in_vain(LOG).is_empty());
    }
}
