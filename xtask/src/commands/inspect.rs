// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vmtest --shell` and `--exec`: look inside a guest with the same kernel and the same root as in the tests.

use std::io::{IsTerminal, Write};
use vmtest_record::run::Kernel;

use vmtest_protocol::WorkerEnd;

use vmtest_base::error::{Class, Error, Result};
use vmtest_base::sanitize::lines;
use vmtest_engine::bootable::Bootable;
use vmtest_engine::column;
use vmtest_engine::launch::{self, Launch};
use vmtest_engine::plan::Column;
use vmtest_engine::request::Purpose;
use vmtest_engine::resources::Resources;
use vmtest_guest::events::Stream;
use vmtest_guest::judge::{CellBase, JudgeInput, Rounds, SuiteInput, Terms, Verdict, judge};
use vmtest_guest::machine::Machine;
use vmtest_guest::observed::Observed;
use vmtest_guest::session::{self, Channel};
use vmtest_guest::spec::{Boot, Task};
use vmtest_host::accel::Kind;
use vmtest_host::store::RunDir;

/// Builds the kernel, boots it, and runs the shell or the command.
///
/// # Errors
/// When the kernel cannot be built, or the guest cannot be started.
pub fn run(resources: &Resources<'_>, column: &Column, run_dir: &RunDir) -> Result<Class> {
    let tree = column::patch(resources, column, &column::material(resources, column));
    let bootable = column::build(resources, column, tree, run_dir).bootable()?;
    let (boot, _) = column::choose_boot(resources.plan.boot, &bootable);
    match &resources.plan.purpose {
        Purpose::Exec(command) => exec(resources, &bootable, boot, command, run_dir),
        Purpose::Shell => shell(resources, &bootable, boot),
        Purpose::Test | Purpose::Gdb => Err(Error::usage("nothing to inspect")),
    }
}

fn exec(
    resources: &Resources<'_>,
    bootable: &Bootable,
    boot: Boot,
    command: &str,
    run_dir: &RunDir,
) -> Result<Class> {
    let store = run_dir.dir("cells/exec")?;
    let mut shown = 0;
    let machine = launch::machine(resources, boot)?;
    let guest = Launch { resources, bootable, boot, machine: &machine, task: Task::Exec(command.to_owned()) };
    let (seen, accel) = guest.with_fallback(&store, |stream, _| shown = show(stream, shown))?;
    show(&seen.stream, shown);
    let verdict = verdict(resources, bootable, &machine, accel.kind, &seen);
    // A command that failed does not mean that the runner died.
    if let (Class::RunnerDied, Some(done)) = (verdict.class, &seen.stream.done) {
        if let WorkerEnd::Exited(status) = done.worker {
            resources.ctx.bus.note(format!("the command exited with {status}"));
            return Ok(Class::TestFailed);
        }
    }
    if verdict.class != Class::Pass {
        return Err(Error::new(verdict.class, format!("`{command}` did not complete"))
            .why(verdict.reason)
            .detail(seen.console.tail(15))
            .next(format!("the whole console is in {}", store.display())));
    }
    Ok(Class::Pass)
}

/// The verdict on a guest that runs no tests.
fn verdict(
    resources: &Resources<'_>,
    bootable: &Bootable,
    machine: &Machine,
    accel: Kind,
    seen: &Observed,
) -> Verdict {
    let Kernel { id, release, build_id, .. } = &bootable.kernel;
    let emulator = machine.risky_emulator(accel);
    let terms = Terms { release, build_id, allowed: &resources.allowed, emulator: emulator.as_deref() };
    let base = CellBase { kernel: id.clone(), ..CellBase::default() };
    let suite = SuiteInput::Own { planned: &[], rounds: Rounds::Exactly(1) };
    judge(&JudgeInput { base, terms, conditions: &[], suite, may_skip: &|_| false }, seen).verdict
}

/// Prints new output, and returns how many pieces have been printed.
fn show(stream: &Stream, from: usize) -> usize {
    for output in stream.output.iter().skip(from) {
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        // Sanitized for a terminal, unchanged otherwise.
        let text = match if output.fd == 2 { err } else { out } {
            true => lines(&output.text),
            false => output.text.clone(),
        };
        // A reader that closed its end has seen enough.
        let _ = match output.fd {
            2 => std::io::stderr().lock().write_all(text.as_bytes()),
            _ => std::io::stdout().lock().write_all(text.as_bytes()),
        };
    }
    stream.output.len()
}

fn shell(resources: &Resources<'_>, bootable: &Bootable, boot: Boot) -> Result<Class> {
    let channel = Channel::create()?;
    let machine = launch::machine(resources, boot)?;
    let guest = Launch { resources, bootable, boot, machine: &machine, task: Task::Shell };
    let spec = guest.vm_spec(resources.accel.kind, &vmtest_base::files::nonce())?;
    let command = launch::command(resources, bootable, &spec, &channel)?;
    resources.ctx.bus.note("the guest's console follows; `exit` ends the guest");
    session::interact(command)?;
    Ok(Class::Pass)
}
