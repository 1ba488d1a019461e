// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bpftool that a guest gets: its own tree's, or a borrowed one for a finished kernel.

use vmtest_protocol::TestName;

use crate::bootable::{Bootable, Bpftool};
use crate::request::{BootChoice, Purpose};
use crate::resources::Resources;
use vmtest_base::error::{Class, Result};
use vmtest_base::key::Key;
use vmtest_guest::judge::{CellBase, notrun};
use vmtest_host::store::RunDir;
use vmtest_kernel::bpftool;
use vmtest_kernel::patched::PatchedTree;
use vmtest_record::run::Cell;

const NO_LIBRARIES: &str =
    "the host's tools build a bpftool that needs the host's libraries: boot through vng";

const NOT_USED: &str = "none of the selected subtests uses it";

fn uses_bpftool(resources: &Resources<'_>) -> Result<bool> {
    let (runner, chosen) = resources.runner()?;
    Ok(match &resources.plan.purpose {
        Purpose::Test | Purpose::Gdb => chosen.iter().any(|name| runner.uses_bpftool(name)),
        Purpose::Shell => true,
        Purpose::Exec(command) => command.contains("bpftool"),
    })
}

/// Borrows the bpftool of the newest tree in the run, for a kernel without a tree.
pub fn borrow(resources: &Resources<'_>, run_dir: &RunDir, kernel: &Key) -> Result<Bpftool> {
    if !uses_bpftool(resources)? {
        return Ok(Bpftool::None(NOT_USED.to_owned()));
    }
    match resources.donors.newest() {
        Some(tree) => build(resources, &tree, run_dir, kernel),
        None => Ok(Bpftool::None(
            "a finished kernel has no source to build bpftool from, and no tree of this run supports sessions"
                .to_owned(),
        )),
    }
}

/// Builds it only if a subtest that uses it was chosen and the guest can run it.
pub fn build(
    resources: &Resources<'_>,
    tree: &PatchedTree,
    run_dir: &RunDir,
    kernel: &Key,
) -> Result<Bpftool> {
    if !uses_bpftool(resources)? {
        return Ok(Bpftool::None(NOT_USED.to_owned()));
    }
    if resources.plan.boot == BootChoice::Direct && !bpftool::is_static(resources.tools()?) {
        return Ok(Bpftool::None(NO_LIBRARIES.to_owned()));
    }
    let log_dir = run_dir.dir(&format!("builds/{kernel}"))?;
    bpftool::ensure(resources.ctx, tree, resources.tools()?, resources.plan.make, &log_dir).map(Bpftool::In)
}

/// Cells of subtests that need bpftool, if the guest has none. They count if it should be available, and if
/// nothing else was chosen: a column without any evidence is not a pass.
pub fn cells_without(base: &CellBase, bootable: &Bootable, names: &[TestName], alone: bool) -> Vec<Cell> {
    let (class, reason) = match &bootable.bpftool {
        Bpftool::In(_) => (Class::Pass, NO_LIBRARIES.to_owned()),
        Bpftool::None(reason) => (Class::Pass, reason.clone()),
        Bpftool::Failed(error) => (error.class, error.to_string()),
    };
    let class = if alone && class == Class::Pass { Class::Incomplete } else { class };
    let mut cells = notrun(base, names, class, &reason);
    cells.iter_mut().for_each(|cell| cell.required = class != Class::Pass);
    cells
}
