// SPDX-License-Identifier: MIT OR Apache-2.0
//! The warnings of a column about a guest that is not what was configured.

use super::*;
use vmtest_protocol::TestName;

#[test]
fn what_needs_a_bpftool_counts_where_it_should_be_there_or_nothing_else_was_asked_for() {
    let names = [TestName { test: "tools".into(), subtest: "x".into() }];
    let base = CellBase {
        kernel: "k".into(),
        variant: String::new(),
        boot: "direct".into(),
        accel: "tcg".into(),
        suite: "own".into(),
        enforced: None,
    };
    let failed = || Bpftool::Failed(Error::new(Class::SuiteBuild, "does not build"));
    let none = || Bpftool::None("no tree".into());
    for (bpftool, alone, class, required) in [
        (none(), false, Class::Pass, false),
        (none(), true, Class::Incomplete, true),
        (Bpftool::In("/b".into()), false, Class::Pass, false),
        (failed(), false, Class::SuiteBuild, true),
        (failed(), true, Class::SuiteBuild, true),
    ] {
        let what = format!("{bpftool:?} {alone}");
        let bootable = Bootable {
            kernel: Kernel::default(),
            dir: "/".into(),
            file: "vmlinux".into(),
            variant: None,
            config: None,
            bpftool,
            tree: None,
        };
        let cells = bpftool::cells_without(&base, &bootable, &names, alone);
        assert_eq!((cells.len(), cells[0].outcome), (1, vmtest_record::outcome::Outcome::Notrun), "{what}");
        assert_eq!((cells[0].class, cells[0].required), (class, required), "{what}");
        assert!(!cells[0].reason.is_empty(), "{what}");
    }
}
