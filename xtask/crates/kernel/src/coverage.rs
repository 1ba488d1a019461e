// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which lines of a series ran: the lines that it adds, and what gcov says of them.

mod added;
mod gcov;

use std::collections::BTreeMap;

pub use crate::coverage::added::{Added, added};
pub use crate::coverage::gcov::{Executed, Reader};

/// Directories whose C files are not part of the kernel.
const ELSEWHERE: [&str; 6] = ["tools/", "samples/", "scripts/", "usr/", "Documentation/", "lib/kunit/"];
/// The only architecture whose kernels are built here.
const ARCHITECTURE: &str = "arch/x86/";

/// Words for make that instrument exactly these C files.
///
/// Kbuild reads a variable that is named after an object as its makefile names it: without the directory of that
/// makefile. So each value says for which directories it holds, or `kernel/bpf/core.c` would instrument the scheduler's
/// `core.c` as well. `$(obj)` is that directory (scripts/Makefile.build).
pub fn make_words(files: &[String]) -> Vec<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.chars().all(plain)) {
        let object = file.strip_suffix(".c").unwrap_or(file);
        for (at, _) in object.match_indices('/') {
            places.entry(&object[at + 1..]).or_default().push(&object[..at]);
        }
    }
    let word = |(object, dirs): (&str, Vec<&str>)| {
        format!("GCOV_PROFILE_{object}.o=$(if $(filter {},$(obj)),y)", dirs.join(" "))
    };
    places.into_iter().map(word).collect()
}

/// Whether it is a C file that a kernel may be made of.
pub fn is_kernel_code(path: &str) -> bool {
    path.ends_with(".c") && why_not_kernel(path).is_none()
}

/// Why a file is not part of any kernel that is built here; `None` if it may be.
pub fn why_not_kernel(path: &str) -> Option<&'static str> {
    if ELSEWHERE.iter().any(|dir| path.starts_with(dir)) {
        return Some("not part of the kernel");
    }
    if path.starts_with("arch/") && !path.starts_with(ARCHITECTURE) {
        return Some("another architecture");
    }
    let end = path.rsplit('.').next().unwrap_or_default();
    (!["c", "h", "S"].contains(&end)).then_some("not a source file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_with_the_directories_that_it_may_be_in() {
        let files = ["kernel/bpf/core.c", "net/core.c", "kernel/odd,name.c"].map(str::to_owned);
        assert_eq!(
            make_words(&files),
            [
                "GCOV_PROFILE_bpf/core.o=$(if $(filter kernel,$(obj)),y)",
                "GCOV_PROFILE_core.o=$(if $(filter kernel/bpf net,$(obj)),y)",
            ]
        );
        assert!(make_words(&[]).is_empty());
    }

    #[test]
    fn files_that_no_kernel_here_is_made_of_are_known() {
        for (path, why) in [
            ("kernel/bpf/core.c", None),
            ("include/linux/bpf.h", None),
            ("arch/x86/net/bpf_jit_comp.c", None),
            ("arch/arm64/net/bpf_jit_comp.c", Some("another architecture")),
            ("tools/lib/bpf/libbpf.c", Some("not part of the kernel")),
            ("kernel/bpf/Makefile", Some("not a source file")),
        ] {
            assert_eq!(why_not_kernel(path), why, "{path}");
        }
        assert!(
            is_kernel_code("kernel/a.c") && !is_kernel_code("include/a.h") && !is_kernel_code("tools/a.c")
        );
    }
}
