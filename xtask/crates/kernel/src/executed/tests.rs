// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }
    dir
}

const TREE: [(&str, &str); 13] = [
    ("Makefile", "include scripts/Kbuild.include\nHOSTCC = gcc\n"),
    ("Kconfig", "config A\n\tbool \"a\"\n\tdefault y if $(success,true)\n\nconfig B\n\tbool \"b\"\n"),
    ("kernel/Makefile", "obj-y += fork.o\n"),
    ("kernel/fork.c", "#include \"../scripts/x.h\"\n"),
    ("kernel/bpf/check.sh", "#!/bin/sh\n"),
    ("lib/crc/Makefile", "hostprogs := gen_table\n"),
    ("lib/crc/gen_table.c", "#include \"../../include/linux/poly.h\"\n"),
    ("lib/string.c", ""),
    ("include/linux/poly.h", "#include \"more.h\"\n"),
    ("include/linux/more.h", ""),
    ("include/linux/bpf.h", ""),
    ("scripts/mod/modpost.c", "#include \"../../include/linux/bpf.h\"\n"),
    ("MAINTAINERS", ""),
];

/// Whether a tree with this file replaced executes the same.
fn same(path: &str, text: &str) -> bool {
    let (before, after) = (tree(&TREE), tree(&TREE));
    let file = after.path().join(path);
    fs::create_dir_all(file.parent().expect("a parent")).expect("made");
    fs::write(file, text).expect("written");
    let key =
        |dir: &tempfile::TempDir| Executed::of(dir.path(), None).and_then(|all| all.key()).expect("read");
    let equal = key(&before) == key(&after);
    // The same change as a series.
    let over = tree(&[(&format!("files/{path}"), text)]);
    let overlay = Overlay {
        dir: over.path().to_owned(),
        changed: vec![path.to_owned()],
        deleted: Vec::new(),
        origin: None,
    };
    let plain = Executed::of(before.path(), None).expect("read");
    assert_eq!(plain.changed_by(before.path(), None, &overlay).expect("read").is_none(), equal, "{path}");
    assert_eq!(
        Executed::of(before.path(), Some(&overlay)).and_then(|all| all.key()).expect("read"),
        key(&after),
        "{path}"
    );
    equal
}

#[test]
fn what_a_compiler_only_reads_changes_nothing() {
    for path in ["kernel/fork.c", "lib/string.c", "kernel/new.c", "include/linux/other.h", "MAINTAINERS"] {
        assert!(same(path, "changed\n"), "{path}");
    }
    assert!(same("Documentation/bpf/x.rst", "words\n"));
    assert!(same("tools/testing/selftests/bpf/progs/x.c", "int x;\n"));
    assert!(same("tools/testing/selftests/bpf/Makefile", "evil:\n\ttouch x\n"), "built elsewhere");
    let help = TREE[1].1.replace("bool \"b\"", "bool \"another\"");
    assert!(same("Kconfig", &help), "a question more, and nothing is run");
}

#[test]
fn what_make_runs_or_reads_orders_from_does() {
    for path in [
        "Makefile",
        "kernel/Makefile",
        "kernel/Kbuild",
        "new/Makefile",
        "kernel/bpf/check.sh",
        "kernel/x.py",
        "kernel/x.pl",
        "kernel/x.awk",
        "kernel/vmlinux.lds",
        "kernel/rules.mk",
        "kernel/anything",
        "scripts/link-vmlinux.sh",
        "scripts/mod/modpost.c",
        "scripts/new.h",
        "tools/objtool/check.c",
        "tools/testing/selftests/bpf/test_kmods/Makefile",
        "arch/x86/tools/relocs.c",
        "usr/gen_init_cpio.c",
        "certs/extract-cert.c",
        "lib/crc/gen_table.c",
        "lib/crc/local.h",
        "include/linux/poly.h",
        "include/linux/more.h",
        "include/linux/bpf.h",
        "arch/x86/lib/insn.c",
    ] {
        assert!(!same(path, "changed\n"), "{path}");
    }
    let runs = TREE[1].1.replace("true", "touch /obj/x");
    assert!(!same("Kconfig", &runs));
    assert!(!same("Kconfig", &format!("{}\nconfig C\n\tdef_bool $(shell,\\\n\tevil)\n", TREE[1].1)));
    assert!(!same("kernel/Makefile", "hostprogs := fork\n"));
}

#[test]
fn of_a_series_on_top_of_ours_only_its_own_changes_count() {
    let dir = tree(&TREE);
    let over = |files: &[(&str, &str)]| {
        let over = tree(&files.iter().map(|(path, text)| (*path, *text)).collect::<Vec<_>>());
        let changed = files.iter().filter_map(|(path, _)| path.strip_prefix("files/")).map(str::to_owned);
        let (dir, changed) = (over.path().to_owned(), changed.collect());
        (over, Overlay { dir, changed, deleted: Vec::new(), origin: None })
    };
    let ours = ("files/tools/lib/bpf/x.c", "int ours;\n");
    let (_kept, below) = over(&[ours]);
    let trusted = Executed::of(dir.path(), Some(&below)).expect("read");
    let changed = |files: &[(&str, &str)]| {
        let (_kept, whole) = over(files);
        trusted.changed_by(dir.path(), Some(&below), &whole).expect("read")
    };
    assert_eq!(changed(&[ours, ("files/kernel/fork.c", "int x;\n")]), None);
    let again = ("files/tools/lib/bpf/x.c", "int ours, theirs;\n");
    assert_eq!(changed(&[again]).as_deref(), Some("tools/lib/bpf/x.c"));
    assert_eq!(changed(&[ours, ("files/kernel/x.sh", "")]).as_deref(), Some("kernel/x.sh"));
    // It takes ours back, so the file is as it is in the source, and no part of the whole.
    assert_eq!(changed(&[("files/kernel/fork.c", "int x;\n")]).as_deref(), Some("tools/lib/bpf/x.c"));
}

#[test]
fn a_removed_script_is_a_change() {
    let dir = tree(&TREE);
    let overlay = Overlay {
        dir: dir.path().join("nowhere"),
        changed: Vec::new(),
        deleted: vec!["kernel/fork.c".to_owned(), "kernel/bpf/check.sh".to_owned()],
        origin: None,
    };
    let plain = Executed::of(dir.path(), None).expect("read");
    assert_eq!(
        plain.changed_by(dir.path(), None, &overlay).expect("read").as_deref(),
        Some("kernel/bpf/check.sh")
    );
}
