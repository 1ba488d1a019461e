// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sample cells and runs for tests.

use crate::outcome::Outcome;
use crate::run::{BootRecord, Cell, RunResult, SCHEMA};
use vmtest_base::error::Class;

/// A cell of this kernel.
pub fn cell(kernel: &str, subtest: &str, outcome: Outcome, class: Class) -> Cell {
    Cell {
        kernel: kernel.into(),
        variant: String::new(),
        boot: "direct".into(),
        accel: "tcg".into(),
        suite: "own".into(),
        test: "basic".into(),
        subtest: subtest.into(),
        outcome,
        reason: String::new(),
        required: true,
        attempts: 1,
        duration_ms: 1,
        class,
        was: None,
        measured: String::new(),
        unmet: Vec::new(),
        held: Vec::new(),
        log: String::new(),
        enforced: None,
        expected: None,
        tries: Vec::new(),
    }
}

/// A boot of this kernel.
pub fn boot(kernel: &str, class: Class) -> BootRecord {
    BootRecord {
        kernel: kernel.into(),
        suite: "own".into(),
        boot: "direct".into(),
        accel: "tcg".into(),
        cpus: 1,
        class,
        duration_ms: 1,
        ..BootRecord::default()
    }
}

/// A run with these cells.
pub fn run(cells: Vec<Cell>) -> RunResult {
    let mut run = RunResult {
        schema: SCHEMA,
        run: "r".into(),
        command: vec!["cargo".into(), "xtask".into(), "vmtest".into()],
        exit_code: Class::Host,
        review: false,
        classes: Default::default(),
        tools: Default::default(),
        kernels: Vec::new(),
        boots: Vec::new(),
        cells,
        splats: Vec::new(),
        allowed_splats: Vec::new(),
        series: Vec::new(),
        proves: Default::default(),
        phases: Vec::new(),
        matrix: None,
    };
    run.conclude(None);
    run
}
