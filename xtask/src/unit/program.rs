// SPDX-License-Identifier: MIT OR Apache-2.0
//! A boot for a suite of selftests/suites/.

use vmtest_protocol::{TestName, UpstreamTest};

use super::attempts::{Attempts, Joins};
use super::foreign::{self, Order};
use super::{Bootable, Built, UnitResult, choose_boot};
use crate::error::{Error, Result};
use crate::plan::Unit;
use crate::replay::Foreign;
use crate::result;
use crate::shop::Shop;
use crate::suite::program::{self, Program};
use crate::vm::Boot;
use crate::workdir::RunDir;

/// Runs it on the kernel of a column.
pub fn boot(shop: &Shop<'_>, unit: &Unit, built: &Built, program: &Program, run_dir: &RunDir) -> UnitResult {
    let done = match &built.bootable {
        Ok(bootable) => run(shop, unit, bootable, program, run_dir),
        Err(error) => Err(error.clone()),
    };
    done.unwrap_or_else(|error| {
        shop.bad();
        let base = foreign::base(shop, unit, &built.kernel.id, &program.name);
        let cells = result::notrun(&base, &program.names(), error.class, &error.to_string());
        UnitResult { kernel: built.kernel.clone(), boot: None, again: Vec::new(), cells, splats: Vec::new() }
    })
}

fn run(
    shop: &Shop<'_>,
    unit: &Unit,
    bootable: &Bootable,
    program: &Program,
    run_dir: &RunDir,
) -> Result<UnitResult> {
    let (boot, boot_reason) = choose_boot(shop.plan.boot, bootable);
    if boot == Boot::Direct {
        return Err(Error::host(format!("--suite {} cannot be booted directly", program.name))
            .why(format!("it needs the shell of the build root; {boot_reason}")));
    }
    let guest = |attempt: Option<u32>| {
        let order = Order {
            suite: program.name.clone(),
            files: program.dir.clone(),
            program: Some(program.program.clone()),
            tests: vec![UpstreamTest { name: program.name.clone(), subtests: Vec::new() }],
            deny: Vec::new(),
            limit_s: program.limit_s,
            boot_reason: boot_reason.clone(),
            attempt,
        };
        let ran = foreign::run(shop, unit, bootable, order, run_dir)?;
        let may_skip = |name: &TestName| shop.plan.may_skip(&bootable.kernel.id, name);
        let cells = program::judge(&ran.base, program, &ran.seen, &ran.verdict, &may_skip);
        Ok(ran.with(shop, cells, Foreign::Program(program.clone()), &may_skip))
    };
    let mut attempts = Attempts::new(guest(None)?);
    // It runs as a whole: what passed before has to pass again.
    attempts.again(shop, unit, Joins::Tests, None, |_, attempt| vec![guest(Some(attempt))]);
    Ok(attempts.finish(shop, unit, Vec::new()))
}
