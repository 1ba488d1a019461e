// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiler warnings that a patch adds, of the files that it touches. Pure; [`crate::build`] compiles them.

use std::collections::BTreeMap;

/// The warnings of `after` that are not in `before`. A warning that only moved to another line is not new;
/// the same one twice where it was once is.
pub fn new(before: &str, after: &str) -> Vec<String> {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for line in before.lines() {
        *known.entry(without_place(line)).or_default() += 1;
    }
    let is_new = |line: &&str| match known.get_mut(without_place(line)) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        _ => true,
    };
    after.lines().filter(is_new).map(str::to_owned).collect()
}

/// `warning: unused variable 'x' [-Wunused-variable]`, without file and line: code moves.
fn without_place(line: &str) -> &str {
    line.find(": warning: ").map_or(line, |at| &line[at + 2..])
}

/// The C files among these that have an object to compile; a header is compiled by its users.
pub fn objects(files: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    let object = |file: &str| {
        let stem = file.strip_suffix(".c")?;
        let of_kernel = !["tools/", "samples/", "scripts/", "Documentation/", "usr/"]
            .iter()
            .any(|other| file.starts_with(other));
        of_kernel.then(|| format!("{stem}.o"))
    };
    files.into_iter().filter_map(|file| object(file.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_that_moved_is_not_new_and_one_more_is() {
        let before = "kernel/bpf/a.c:10:5: warning: unused variable 'x' [-Wunused-variable]\n";
        let moved = "kernel/bpf/a.c:12:5: warning: unused variable 'x' [-Wunused-variable]\n";
        assert!(new(before, moved).is_empty());
        let twice = format!("{moved}kernel/bpf/a.c:40:5: warning: unused variable 'x' [-Wunused-variable]\n");
        assert_eq!(new(before, &twice), [twice.lines().nth(1).expect("a line")]);
        let other = "kernel/bpf/a.c:12:5: warning: no previous prototype for 'f' [-Wmissing-prototypes]\n";
        assert_eq!(new(before, &format!("{moved}{other}")), [other.trim_end()]);
        assert!(new(before, "").is_empty());
    }

    #[test]
    fn only_files_of_the_kernel_are_compiled() {
        let files =
            ["kernel/bpf/a.c", "include/linux/bpf.h", "tools/lib/bpf/libbpf.c", "net/x.c", "Makefile"];
        assert_eq!(objects(files), ["kernel/bpf/a.o", "net/x.o"]);
    }
}
