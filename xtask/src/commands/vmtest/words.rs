// SPDX-License-Identifier: MIT OR Apache-2.0
//! Words and kernels as they are typed, and what they mean: `A..B`, `../linux`, `6.18`, `LLVM=1`.

use crate::commands::vmtest::args::VmtestArgs;
use vmtest_base::error::Result;
use vmtest_engine::request::{Purpose, Request};
use vmtest_host::context::Context;
use vmtest_kernel::guess::{self, Meaning};
use vmtest_kernel::spec::KernelSpec;

/// The request with every guess made. Guesses are reported as notes.
///
/// # Errors
/// Class `Usage` for a word that means nothing or several things.
pub fn request(ctx: &Context, args: &VmtestArgs) -> Result<Request> {
    let mut request = args.request();
    for kernel in &mut request.kernels {
        *kernel = guess::kernel(ctx, kernel)?.to_string();
    }
    let mut ranges = 0;
    for word in &args.words {
        match guess::word(ctx, word)? {
            Meaning::Kernel(spec) => {
                ranges += usize::from(matches!(spec, KernelSpec::GitRange { .. }));
                request.kernels.push(spec.to_string());
            }
            Meaning::Series(path) => request.patches.push(path),
        }
    }
    if request.kernels.is_empty() {
        if let Some(top) = std::env::current_dir().ok().and_then(|here| guess::kernel_above(&here)) {
            request.kernels.push(KernelSpec::Tree(top.clone()).to_string());
            ctx.bus
                .note(format!("testing the kernel tree {}; --kernel chooses another kernel", top.display()));
        }
    }
    let alone = request.kernels.len() == 1 && request.variants.len() < 2;
    let whole = request.with_base || request.first_n.is_some() || request.purpose != Purpose::Test;
    request.each_patch |= ranges == 1 && alone && !whole;
    Ok(request)
}
