// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decodes stacks to files and lines with the tree's own `scripts/decode_stacktrace.sh` on the built kernel,
//! in the sandbox. Runs after the verdict and is meant for humans: if it fails, the reason is shown instead.

use std::time::Duration;

use crate::bootable::Bootable;
use crate::resources::Resources;
use vmtest_base::files::read_text;
use vmtest_base::interrupt;
use vmtest_host::process::{Job, Stream};
use vmtest_host::sandbox::{Sandbox, Tools};
use vmtest_record::run::SplatRecord;

const SCRIPT: &str = "scripts/decode_stacktrace.sh";
/// The script resolves each address separately and reads the whole kernel each time: a fifth of a second on
/// an idle host.
const DEADLINE: Duration = Duration::from_secs(60);
/// Most lines of a report that are decoded: the death and its callers, not the registers of all callers.
const MAX_LINES: usize = 45;
/// Most lines of the result that are kept: an address can be in several inlined functions.
const MAX_ANSWERS: usize = 120;

/// A decoded stack, or why there is none.
fn stack(resources: &Resources<'_>, bootable: &Bootable, report: &[String]) -> Result<Vec<String>, String> {
    let tree = bootable.source().ok_or("a finished kernel has no source and no symbols")?;
    let lines = worth_decoding(report);
    if !lines.iter().any(|line| has_address(line)) {
        return Err("it contains no stack".to_owned());
    }
    if read_text(&tree.join(SCRIPT)).is_err() {
        return Err(format!("the tree has no {SCRIPT}"));
    }
    let tools = resources.tools().map_err(|error| error.what)?;
    let phase = resources.ctx.bus.phase("decode", &bootable.kernel.id);
    let mut sandbox = Sandbox::new(tools).read_only(tree, "/src").read_only(&bootable.dir, "/kernel");
    if matches!(tools, Tools::Image(_)) {
        // Five times as fast as binutils; the build root has it.
        sandbox = sandbox.env("LLVM", "1");
    }
    let mut command = sandbox.command("bash");
    let kernel = sandbox.see("/kernel").join(&bootable.file);
    command.arg(sandbox.see("/src").join(SCRIPT)).arg(kernel).arg(sandbox.see("/src"));
    let mut decoded: Vec<String> = Vec::new();
    let mut said = String::new();
    let done = Job::new(command)
        .input(lines.join("\n") + "\n")
        .deadline(DEADLINE)
        .on_line(|stream, line| match stream {
            Stream::Out if decoded.len() < MAX_ANSWERS => decoded.push(line.trim_end().to_owned()),
            Stream::Out => {}
            Stream::Err => line.clone_into(&mut said),
        })
        .run();
    // Part of a stack is better than none: keep what was decoded before the deadline.
    let why = match done {
        Ok(done) if done.success() => said,
        Ok(done) => format!("{}: {said}", vmtest_host::process::ended(done.status)),
        Err(error) => error.what,
    };
    phase.finish();
    decoded.retain(|line| !line.trim().is_empty());
    if decoded.iter().any(|line| has_place(line)) { Ok(decoded) } else { Err(format!("{SCRIPT}: {why}")) }
}

/// The part of a report that contains addresses: without the code dump, which needs another tool, and each
/// call trace once.
fn worth_decoding(report: &[String]) -> Vec<String> {
    let lines = report
        .iter()
        .filter(|line| has_address(line) || line.contains("Call Trace") || line.contains("Comm:"));
    let lines = lines.filter(|line| !line.contains("Code: "));
    lines.take(MAX_LINES).cloned().collect()
}

/// `name+0x12/0x34`.
fn has_address(line: &str) -> bool {
    line.split("+0x").skip(1).any(|rest| rest.contains("/0x"))
}

/// `(kernel/panic.c:12)`.
fn has_place(line: &str) -> bool {
    let inside = line.split('(').skip(1);
    inside.into_iter().any(|rest| {
        rest.split(')')
            .next()
            .is_some_and(|rest| rest.contains(".c:") || rest.contains(".h:") || rest.contains(".S:"))
    })
}

/// Most stacks that are decoded per guest; each takes seconds.
const MAX_STACKS: usize = 2;

/// Adds decoded stacks to the first splats, and to the others the reason why they have none.
pub fn decode(resources: &Resources<'_>, bootable: &Bootable, splats: &mut [SplatRecord]) {
    let mut decoded = 0;
    let death = splats.iter().find(|splat| splat.severity == "death");
    let death = death.map(|splat| splat.title.clone()).unwrap_or_default();
    for splat in splats.iter_mut().filter(|splat| !splat.lines.is_empty()) {
        if decoded == MAX_STACKS || interrupt::requested().is_some() {
            splat.no_stack = "only the first stacks of each guest are decoded".to_owned();
            continue;
        }
        if splat.severity != "death" && death.starts_with(&splat.title) {
            splat.no_stack = "it is the stack of the crash".to_owned();
            continue;
        }
        match stack(resources, bootable, &splat.lines) {
            Ok(stack) => {
                splat.stack = stack;
                decoded += 1;
            }
            Err(why) => splat.no_stack = why,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_with_addresses_are_decoded() {
        let report: Vec<String> = [
            "[    1.0] BUG: kernel NULL pointer dereference, address: 0",
            "[    1.0] CPU: 0 UID: 0 PID: 77 Comm: runner Not tainted 6.18.15 #6",
            "[    1.0] RIP: 0010:lkdtm_EXCEPTION+0x5/0x10",
            "[    1.0] Code: 00 00 <c7> 04 25+0x1/0x2",
            "[    1.0] RAX: 0000000000000000",
            "[    1.0] Call Trace:",
            "[    1.0]  direct_entry+0xa0/0xc0",
        ]
        .map(str::to_owned)
        .into();
        assert_eq!(worth_decoding(&report).len(), 4);
        assert!(has_place("[    1.0] direct_entry (drivers/misc/lkdtm/core.c:397)"));
        assert!(!has_place("[    1.0] direct_entry+0xa0/0xc0") && !has_place("[ 1.0] (a) b.c"));
    }
}
