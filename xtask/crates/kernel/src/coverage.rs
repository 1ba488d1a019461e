// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which lines of a series ran: the lines that it adds, and what gcov says of them.

mod added;
mod gcov;

pub use crate::coverage::added::{Added, added};
pub use crate::coverage::gcov::{Executed, Reader};

/// Directories whose C files are not part of the kernel.
const ELSEWHERE: [&str; 6] = ["tools/", "samples/", "scripts/", "usr/", "Documentation/", "lib/kunit/"];
/// The only architecture whose kernels are built here.
const ARCHITECTURE: &str = "arch/x86/";

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
    (!["c", "h", "S"].contains(&end)).then_some("no code of the kernel")
}
