// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sample of the rows of docs/evidence/failures.md with real guests. All rows with fake ones are among the
//! whole-command tests.

use vmtest_testing::failures::rows::ROWS;
use vmtest_testing::failures::run;

/// Some that do not need a special kernel.
#[test]
fn some_real_deaths_are_told_right() {
    for name in ["triple-fault", "runner-hangs", "half-an-event", "no-first-byte", "qemu-killed"] {
        let row = ROWS.iter().find(|row| row.name == name).expect("there is such a row");
        let (_, wrong) = run::try_row(row, 1);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
