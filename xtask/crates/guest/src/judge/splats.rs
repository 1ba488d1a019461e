// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel warnings, collected from the console, the runner and the taint flags. Pure.

use vmtest_protocol::TestName;

use crate::judge::boot::unexplained_taint;
use crate::judge::cells::CellBase;
use crate::observed::Observed;
use vmtest_record::allow_list::Allowed;
use vmtest_record::run::SplatRecord;

/// All of them: the death first, then those from the runner, then those only on the console.
pub fn of(base: &CellBase, seen: &Observed, allowed: &Allowed) -> Vec<SplatRecord> {
    let make = |title: &str, during: String, severity: &str, lines: &[String]| SplatRecord {
        kernel: base.kernel.clone(),
        variant: base.variant.clone(),
        title: title.to_owned(),
        during,
        severity: severity.to_owned(),
        allowed: allowed.allows(title).filter(|_| severity == "splat").map(str::to_owned),
        lines: lines.to_vec(),
        ..SplatRecord::default()
    };
    let running = || seen.stream.running.as_ref().map(TestName::path).unwrap_or_default();
    let death = seen.console.death().map(|hit| make(&hit.title, running(), "death", &hit.report));
    // A warning from the runner is usually on the console as well, with the lines around it. The runner knows
    // the subtest.
    let on_console = |title: &str| seen.console.splats().find(|hit| hit.title == title);
    let told = seen.stream.splats.iter().map(|splat| {
        let lines = on_console(&splat.title).map(|hit| &hit.report[..]).unwrap_or_default();
        make(&splat.title, splat.name.path(), "splat", lines)
    });
    let silent =
        seen.console.splats().filter(|hit| !seen.stream.splats.iter().any(|splat| splat.title == hit.title));
    let shown = silent.map(|hit| make(&hit.title, hit.during.clone(), "splat", &hit.report));
    let taint = unexplained_taint(seen).map(|title| make(&title, String::new(), "splat", &[]));
    death.into_iter().chain(told).chain(shown).chain(taint).collect()
}
