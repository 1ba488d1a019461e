// SPDX-License-Identifier: MIT OR Apache-2.0
//! A boot for a suite of selftests/suites/.

use vmtest_protocol::{Upstream, UpstreamTest};

use crate::bootable::Bootable;
use crate::column::attempts::{Attempts, Joins};
use crate::column::boot::{self, BootRequest, Guests};
use crate::column::{Built, choose_boot};
use crate::plan::Column;
use crate::resources::Resources;
use vmtest_base::error::{Error, Result};
use vmtest_guest::judge::{ExternalSuite, Program, SuiteInput, notrun};
use vmtest_guest::spec::{Boot, Task};
use vmtest_host::store::RunDir;
use vmtest_record::column::ColumnResult;

/// Runs it on the kernel of a column.
pub fn boot(
    resources: &Resources<'_>,
    column: &Column,
    built: &Built,
    program: &Program,
    run_dir: &RunDir,
) -> ColumnResult {
    let done = match &built.bootable {
        Ok(bootable) => run(resources, column, bootable, program, run_dir),
        Err(error) => Err(error.clone()),
    };
    done.unwrap_or_else(|error| {
        resources.bad();
        let base = boot::base(resources, column, &built.kernel.id, Boot::Vng.name(), &program.name);
        let cells = notrun(&base, &program.names(), error.class, &error.to_string());
        ColumnResult {
            kernel: built.kernel.clone(),
            boot: None,
            again: Vec::new(),
            cells,
            splats: Vec::new(),
        }
    })
}

fn run(
    resources: &Resources<'_>,
    column: &Column,
    bootable: &Bootable,
    program: &Program,
    run_dir: &RunDir,
) -> Result<ColumnResult> {
    let (how, boot_reason) = choose_boot(resources.plan.boot, bootable);
    if how == Boot::Direct {
        return Err(Error::host(format!("--suite {} cannot be booted directly", program.name))
            .why(format!("it needs the build root's shell; {boot_reason}")));
    }
    let base = boot::base(resources, column, &bootable.kernel.id, Boot::Vng.name(), &program.name);
    let guests = Guests::admit(resources, bootable, (how, boot_reason), base, run_dir)?;
    let suite = ExternalSuite::Program(program.clone());
    let guest = |attempt: Option<u32>| {
        let tests = vec![UpstreamTest { name: program.name.clone(), subtests: Vec::new() }];
        let wishes = Upstream {
            bundle: boot::seen_in_guest(resources, &program.dir)?,
            program: Some(program.program.clone()),
            tests,
            deny: Vec::new(),
            limit_s: program.limit_s,
        };
        let task = Task::Upstream { bundle: program.dir.clone(), wishes };
        let outcome = guests.boot(BootRequest { task, expected: 1, attempt, part: 0 })?;
        Ok(guests.judge(outcome, SuiteInput::External(&suite)))
    };
    let mut attempts = Attempts::new(guest(None)?);
    // The program runs again as a whole, so what passed before must pass again.
    attempts.again(resources, column, Joins::Tests, None, |_, attempt| vec![guest(Some(attempt))]);
    Ok(attempts.finish(resources, column, Vec::new()))
}
