// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

/// Names and texts below progs/.
const PROGRAMS: [(&str, &str); 11] = [
    ("plain", "#include \"inner.c\"\n"),
    ("inner", ""),
    ("near", ""),
    ("light", ""),
    ("signed", ""),
    ("pair1", ""),
    ("pair2", ""),
    ("byname", ""),
    ("base", ""),
    ("help", ""),
    ("usesmod", "SEC(\"fentry/bpf_testmod_fentry_test1\")\n"),
];

/// A tree with the shapes that the kernel's has; the text is ours.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write(
        "Makefile",
        "TEST_GEN_FILES = x.bpf.o\nLINKED_SKELS := pair.skel.h \\\n\tother.skel.h\n\
         LSKELS := light.c\nLSKELS_SIGNED := signed.c another.c\n\
         pair.skel.h-deps := pair1.bpf.o pair2.bpf.o\n\
         TRUNNER_EXTRA_SOURCES := test_progs.c \\\n\thelp.c help.h $(AREA_SKEL) $(KEY)\n\
         AREA_SKEL := area/area.skel.h\nKEY := key.h\n\
         TRUNNER_EXTRA_FILES := $(OUTPUT)/urandom_read $(OUTPUT)/helper $(TEST_KMOD_TARGETS) \\\n\t$(SET_UP)\n\
         SET_UP := $(CURDIR)/set_up.sh\n\
         out:\n\tresolve --btf $(TRUNNER_OUTPUT)/base.bpf.o $@\n",
    );
    write("test_progs.c", "load_bpf_testmod();\n");
    write("help.c", "#include \"help.skel.h\"\n");
    write(
        "prog_tests/plain.c",
        "#include <test_progs.h>\n#include \"plain.skel.h\"\n#include \"near.h\"\n\
         void test_plain(void)\n{\n}\nvoid serial_test_plain_bench(void)\n{\n}\n\
         static void test_hidden(void) {}\nvoid test_args(int x)\n{\n}\n",
    );
    write("prog_tests/near.h", "#include \"near.skel.h\"\n");
    write(
        "prog_tests/odd.c",
        "#include \"light.lskel.h\"\n#include \"signed.lskel.h\"\n#include \"pair.skel.h\"\n\
         static const char *file = \"./byname.bpf.o\", *no = \"./nothere.bpf.o\";\n\
         void test_odd(void)\n{\n\tsystem(\"./helper run\");\n\tsystem(\"./set_up.sh\");\n\topen(\"urandom_read\");\n}\n",
    );
    write(
        "prog_tests/mod.c",
        "#include \"area/area.skel.h\"\n#include \"usesmod.skel.h\"\nvoid test_mod()\n{\n}\n",
    );
    write(
        "prog_tests/calls.c",
        "extern int *lent(int x,\n\t\tint y);\nstatic int helped(void)\n{\n\treturn 0;\n}\n\
         void test_calls(void)\n{\n\tlent(1, 2);\n\thelped();\n}\n",
    );
    write(
        "prog_tests/lends.c",
        "#include \"near.skel.h\"\nint *lent(int x,\n\t\tint y)\n{\n\treturn 0;\n}\nstatic int helped(void)\n{\n}\n\
         void test_lends(void)\n{\n}\n",
    );
    for (name, text) in PROGRAMS {
        write(&format!("progs/{name}.c"), text);
    }
    dir
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn tests_are_found_in_their_files() {
    let dir = tree();
    let selftests = Selftests::read(dir.path(), Path::new("")).expect("a tree");
    let names: Vec<&str> = selftests.tests.keys().map(String::as_str).collect();
    assert_eq!(names, ["calls", "lends", "mod", "odd", "plain", "plain_bench"]);
    assert_eq!(selftests.tests["plain_bench"], "plain");
    assert!(Selftests::read(dir.path(), Path::new("nowhere")).is_none());
}

#[test]
fn needs_are_read_from_includes_strings_and_makefile() {
    let dir = tree();
    let selftests = Selftests::read(dir.path(), Path::new("")).expect("a tree");
    let plain = selftests.needs("plain");
    assert_eq!(plain.programs, set(&["plain", "inner", "near"]));
    assert!(!plain.modules && plain.helpers.is_empty());
    let odd = selftests.needs("odd");
    assert_eq!(odd.programs, set(&["light", "signed", "pair1", "pair2", "byname"]));
    assert_eq!((odd.light, odd.linked), (set(&["light", "signed"]), set(&["pair.skel.h"])));
    assert_eq!(odd.helpers, set(&["helper", "urandom_read", "liburandom_read.so", "set_up.sh"]));
    let with_module = selftests.needs("mod");
    assert!(with_module.modules, "{with_module:?}");
    assert_eq!(with_module.programs, set(&["usesmod"]));
    assert_eq!(with_module.skeletons, set(&["area/area.skel.h"]));
    let variables: Vec<_> = selftests.makefile.skeleton_variables().into_iter().collect();
    assert_eq!(variables, [("AREA_SKEL".to_owned(), vec!["area/area.skel.h".to_owned()])]);
    let calls = selftests.needs("calls");
    assert_eq!((calls.files, calls.programs), (set(&["lends"]), set(&["near"])));
    assert!(selftests.needs("lends").files.is_empty() && plain.files.is_empty());
    let all = selftests.needs_of_all();
    assert_eq!((all.programs, all.modules), (set(&["base", "help"]), false));
}

#[test]
fn a_makefile_is_read_over_continued_lines() {
    let makefile = Makefile::parse("A := x \\\n\ty\nA += z # not this\nB-deps = q\nLSKELS_X := a.c b.c\n");
    assert_eq!(makefile.words("A"), ["x", "y", "z"]);
    assert_eq!(makefile.words("B-deps"), ["q"]);
    assert_eq!(makefile.light_lists().collect::<Vec<_>>(), [("LSKELS_X", vec!["a", "b"])]);
    assert!(makefile.words("C").is_empty());
}
