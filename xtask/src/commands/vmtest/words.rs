// SPDX-License-Identifier: MIT OR Apache-2.0
//! Words and kernels as they are typed, and what they mean: `A..B`, `../linux`, `6.18`, `LLVM=1`.

use std::path::Path;

use crate::commands::COMMANDS;
use crate::commands::vmtest::args::VmtestArgs;
use crate::settings::{Setting, Settings};
use vmtest_base::error::{Error, Result};
use vmtest_base::{places, similar};
use vmtest_engine::request::{Purpose, Request};
use vmtest_host::context::Context;
use vmtest_kernel::guess::{self, Meaning};
use vmtest_kernel::spec::KernelSpec;

/// The variant that `LLVM=1` means.
const CLANG: &str = "clang";

/// The request with every guess made and the settings filled in, and those settings. Guesses are reported as notes.
///
/// # Errors
/// Class `Usage` for a word that means nothing or several things.
pub fn request(ctx: &Context, args: &VmtestArgs) -> Result<(Request, Vec<Setting>)> {
    let mut request = args.request();
    for kernel in &mut request.kernels {
        *kernel = guess::kernel(ctx, kernel)?.to_string();
    }
    let mut ranges = 0;
    for word in &args.words {
        if let Some((name, value)) = make_word(word) {
            make(&mut request, name, value)?;
            continue;
        }
        let known = guess::word(ctx, word).map_err(|error| match &error.next {
            Some(next) => Error { next: Some(similar::or(word, COMMANDS, next)), ..error },
            None => error,
        });
        match known? {
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
    let used = Settings::read()?.apply(&mut request, !args.suites.is_empty(), args.mirror.is_some());
    // It decides what a pass stands for, so -q shows it as well.
    used.iter().filter(|setting| setting.is_of_tree()).for_each(|setting| ctx.bus.warn(setting.to_string()));
    let alone = request.kernels.len() == 1 && request.variants.len() < 2;
    let whole = request.with_base || request.first_n.is_some() || request.purpose != Purpose::Test;
    request.each_patch |= ranges == 1 && alone && !whole;
    Ok((request, used))
}

/// The variable and its value, if the word is written as make takes them.
fn make_word(word: &str) -> Option<(&str, &str)> {
    let name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_')
    };
    word.split_once('=').filter(|(first, _)| name(first))
}

/// What a variable for make means here.
fn make(request: &mut Request, name: &str, value: &str) -> Result<()> {
    let refused = |why: &str| Error::usage(format!("{name}={value} is not supported")).why(why);
    match (name, value) {
        ("LLVM", "1") => {
            if let Some(other) = request.variants.iter().find(|variant| *variant != CLANG) {
                return Err(refused(&format!(
                    "it means --variant {CLANG}, and --variant {other} has its own compiler"
                ))
                .next("leave out one of them"));
            }
            request.variants = vec![CLANG.to_owned()];
        }
        ("LLVM", _) => return Err(refused("the build root has one version of clang").next("use LLVM=1")),
        ("W", level) if !level.is_empty() && level.chars().all(|c| "123ec".contains(c)) => {
            request.make.push(format!("W={level}"));
        }
        ("W", _) => return Err(refused("a level is made of 1, 2, 3, c and e").next("use W=1")),
        ("O", dir) if !dir.is_empty() => {
            let config = places::expanded(Path::new(dir)).join(".config");
            if !config.is_file() {
                return Err(refused("it stands for the configuration in that directory")
                    .why(format!("there is no {}", config.display()))
                    .next("name a directory with a .config; kernels are built in the cache, not there"));
            }
            if let Some(other) = request.kconfig.replace(config) {
                return Err(refused(&format!("--kconfig {} is also given", other.display())));
            }
        }
        ("ARCH", "x86_64" | "x86") => (),
        ("ARCH" | "CROSS_COMPILE", _) => {
            return Err(refused(
                "kernels are built for x86_64 and booted on it; there is no other architecture",
            )
            .next("leave it out"));
        }
        _ => {
            return Err(refused("it is not one of the variables that have a meaning here").next(
                "use LLVM=1, O=DIR, W=1, or ARCH=x86_64; a variant (kconfig/README.md) can set others",
            ));
        }
    }
    Ok(())
}
