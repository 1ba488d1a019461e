// SPDX-License-Identifier: MIT OR Apache-2.0
//! The evidence that a guest provides about its kernel is judged, and cannot be suppressed.

use std::fs;

use serde_json::json;

use crate::support::{Done, World, text};

/// Boots a guest that does this, both ways, and asserts exit code and words, live and from the raw bytes.
#[track_caller]
fn judged(does: &str, words: &[&str], code: i32, says: &[&str]) -> Done {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", &format!("guest: {does}")).display());
    let mut last = None;
    for boot in ["direct", "vng"] {
        let done = world.run(&[&["--kernel", &spec, "--boot", boot][..], words].concat());
        done.exits(code).says(says);
        let again = world.start(world.command(&["report", "show", "--from-raw"])).done();
        again.exits(code).says(&["are what their bytes say"]);
        last = Some(done);
    }
    last.expect("both were booted")
}

#[test]
fn a_kernel_that_says_that_it_is_tainted_is_no_pass() {
    for (bits, says) in [
        (512, "kernel tainted: W (a warning)"),
        (128, "kernel tainted: D (an oops or BUG)"),
        (32, "kernel tainted: B (a bad page or object)"),
        (16384 | 4096, "kernel tainted: L (a soft lockup)"),
    ] {
        let done = judged(&format!("tainted.{bits}"), &[], 4, &[says]);
        assert_eq!(done.json()["splats"][0]["title"], says, "{done}");
    }
    // Test modules: out of tree, unsigned, for tests.
    judged(&format!("tainted.{}", 1 << 12 | 1 << 13 | 1 << 18), &[], 0, &[]);
}

#[test]
fn taint_can_be_allowed_by_its_title_and_an_oops_cannot() {
    let world = World::new();
    let list = world.write(
        "allow.toml",
        "[[allow]]\ntitle = 'kernel tainted'\nreason = 'a known driver'\nexpires = '9999-01-01'\n",
    );
    let list = list.display().to_string();
    for (bits, code) in [(512, 0), (128, 4)] {
        let tree = world.tree(&format!("linux-{bits}"), &format!("guest: tainted.{bits}"));
        let done = world.run(&["--kernel", &format!("tree:{}", tree.display()), "--allow-splats", &list]);
        done.exits(code);
        world.start(world.command(&["report", "show", "--from-raw"])).done().exits(code);
    }
}

#[test]
fn a_record_that_hides_the_taint_is_refused() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let done = world.run(&["--kernel", &spec, "--boot", "direct"]);
    done.exits(0);
    let dir = done.run_dir.clone().expect("a run");
    let events = dir.join(text(&done.json()["boots"][0]["directory"])).join("events.jsonl");
    let said = fs::read_to_string(&events).expect("events");
    for (bits, word) in [(512, "W (a warning)"), (128, "D (an oops"), (32, "B (a bad page")] {
        let tainted = said.replace("\"tainted\":0", &format!("\"tainted\":{bits}"));
        // Keep the number of bytes that were judged.
        let tainted = tainted.replacen("said by basic/first", &"x".repeat(20 - bits.to_string().len()), 1);
        assert_eq!(tainted.len(), said.len());
        fs::write(&events, tainted).expect("written");
        let refused = world.start(world.command(&["report", "show", "--from-raw"])).done();
        refused.refuses(30, &["class 0 (), but its raw output says 4 (kernel tainted:", word]);
    }
}

#[test]
fn a_complaint_of_the_boot_counts_and_belongs_to_no_subtest() {
    let done = judged("boot-splat", &[], 4, &["WARNING: told of the boot"]);
    assert_eq!(done.json()["splats"][0]["during"], "", "{done}");
}

#[test]
fn the_guest_proves_which_kernel_it_runs() {
    let done = judged("pass", &[], 0, &[]);
    let (kernel, boot) = (&done.json()["kernels"][0]["build_id"], &done.json()["boots"][0]["build_id"]);
    assert_eq!(kernel, boot);
    let id = text(kernel);
    assert_eq!(id.len(), 40, "{id}");
    let done = judged(
        "other-kernel",
        &[],
        30,
        &["the guest runs a kernel with build id 3132333435363738, that of the kernel to test is 3"],
    );
    assert_eq!(done.json()["boots"][0]["build_id"], "3132333435363738");
    assert_eq!(done.outcomes(None)["basic/first"], "fail", "{done}");
    judged("no-build-id", &[], 30, &["the guest does not show the build id of its kernel"]);
}

#[test]
fn a_record_with_another_build_id_is_refused() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let done = world.run(&["--kernel", &spec, "--boot", "direct"]);
    let file = done.run_dir.clone().expect("a run").join("run.json");
    for (of, says) in [("kernels", "which is not in the record"), ("boots", "but its guest reported")] {
        let mut run = done.json().clone();
        run[of][0]["build_id"] = json!("0123456789abcdef");
        fs::write(&file, run.to_string()).expect("written");
        world.start(world.command(&["report", "show", "--from-raw"])).done().refuses(30, &[says]);
    }
}

#[test]
fn a_kernel_that_is_built_without_a_build_id_is_told() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass\nmake: no-build-id").display());
    world.run(&["--kernel", &spec]).exits(12).says(&["was built without a build ID", "--build-id=sha1"]);
}

#[test]
fn of_a_compressed_image_the_record_has_what_the_guest_says() {
    let world = World::new();
    world.tree("linux", "guest: other-kernel");
    let mut image = vec![0_u8; 0x400];
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image.extend(b"\nguest: other-kernel\n");
    let path = world.path("bzImage");
    fs::write(&path, image).expect("written");
    let done = world.run(&["--kernel", &format!("image:{}", path.display())]);
    done.exits(0);
    assert_eq!(done.json()["boots"][0]["build_id"], "3132333435363738");
    assert!(done.json()["kernels"][0]["build_id"].is_null(), "{done}");
}

#[test]
fn a_console_that_was_turned_down_is_no_evidence() {
    judged("turned-down", &[], 30, &["the console does not show the runner's last word"]);
}

/// A variant that only exists in this world's checkout.
fn variant(world: &World, name: &str, lines: &str) {
    let kconfig = world.path("project/kconfig");
    if kconfig.is_symlink() {
        let real = fs::canonicalize(&kconfig).expect("there");
        fs::remove_file(&kconfig).expect("removed");
        fs::create_dir(&kconfig).expect("made");
        for entry in fs::read_dir(real).expect("listed") {
            let entry = entry.expect("read").path();
            let to = kconfig.join(entry.file_name().expect("a name"));
            std::os::unix::fs::symlink(entry, to).expect("a link");
        }
    }
    let default = world.read("project/kconfig/default.toml");
    world.write(&format!("project/kconfig/{name}.toml"), &format!("{default}{lines}\n"));
}

#[test]
fn what_would_silence_a_kernel_is_refused_in_every_way_in() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let refused = |words: &[&str], says: &[&str]| {
        let done = world.run(&[&["--kernel", &spec], words].concat());
        done.refuses(2, says);
    };
    for (word, name) in [
        ("quiet", "`quiet`"),
        ("\"quiet\"", "`quiet`"),
        ("foo quiet", "`quiet`"),
        ("loglevel=1", "`loglevel`"),
        ("console=null", "`console`"),
        ("ignore_loglevel", "`ignore_loglevel`"),
        ("panic=0", "`panic`"),
        ("oops=no", "`oops`"),
        ("printk.console-no-auto-verbose=1", "`printk.console_no_auto_verbose`"),
        ("vmtest.selftest=turned", "`vmtest.selftest`"),
        ("sysctl.kernel.printk=1", "`kernel.printk`"),
        ("sysctl/kernel/panic_on_oops=0", "`kernel.panic_on_oops`"),
        ("--", "`--`"),
    ] {
        refused(&["--append", word], &["--append `", &format!("cannot be used: {name} is"), "next: "]);
    }
    refused(&["--append", "aàb"], &["is not one kernel parameter"]);
    for sysctl in
        ["kernel.printk=1", "kernel/printk=1", "kernel//printk=1", "kernel.panic=0", "kernel.tainted=0"]
    {
        refused(&["--sysctl", sysctl], &[&format!("--sysctl `{sysctl}` cannot be used")]);
    }
    for line in ["CONFIG_CMDLINE=\"nosmp quiet\"", "CONFIG_PRINTK=n", "# CONFIG_BUG is not set"] {
        let file = world.write("more.config", &format!("# why\n{line}\n"));
        refused(&["--config", &file.display().to_string()], &["more.config:2", "cannot be used"]);
    }
    for (lines, says) in [
        ("cmdline = ['nosmp', 'quiet']", "in `cmdline` cannot be used: `quiet`"),
        ("sysctls = { 'kernel/printk' = '1' }", "in `sysctls` cannot be used: `kernel.printk`"),
    ] {
        variant(&world, "mine", lines);
        refused(&["--variant", "mine"], &["kconfig/mine.toml", says]);
    }
    for (line, says) in
        [("append = ['quiet']", "`quiet`"), ("sysctls = ['kernel.panic=0']", "`kernel.panic`")]
    {
        world.write("m.toml", &format!("[[matrix]]\nkernels = ['{spec}']\n{line}\n"));
        world.run(&["--matrix", "m.toml"]).refuses(2, &["m.toml:1", says]);
        world.start(world.command(&["ci-matrix", "m.toml"])).done().refuses(2, &["m.toml:1", says]);
    }
    let bisect = ["bisect", "--toolchain", "host", "--accel", "tcg", "--good", &spec, "--bad", &spec];
    for words in [["--append", "quiet"], ["--sysctl", "kernel.printk=1"]] {
        let done = world.start(world.command(&[&bisect[..], &words].concat())).done();
        done.refuses(2, &["cannot be used"]);
    }
    assert_eq!(world.made("vmlinux"), 0, "before any work");
    assert_eq!(world.read("home/guest.calls"), "");
}

#[test]
fn what_hides_nothing_reaches_the_guest_before_our_own_words() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    for boot in ["direct", "vng"] {
        let words = ["--append", "panic_on_warn=1", "--sysctl", "kernel.panic_on_warn=1"];
        world.run(&[&["--kernel", &spec, "--boot", boot][..], &words].concat()).exits(0);
    }
    let seen = world.read("home/guest.args");
    for line in seen.lines() {
        let (_, behind) = line.split_once(" panic_on_warn=1").unwrap_or_else(|| panic!("{line}"));
        for ours in
            ["ignore_loglevel", "panic=-1", "oops=panic", "reboot=t", "vmtest.sysctl=kernel.panic_on_warn=1"]
        {
            assert!(behind.contains(ours), "{ours}: {line}");
        }
    }
    assert_eq!(seen.lines().count(), 2);
}

#[test]
fn no_blank_gets_onto_the_command_line_in_another_way() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let glob = "{basic/first,x quiet y}";
    let done = world.run(&["--kernel", &spec, "--test", glob]);
    assert!(!world.read("home/guest.args").contains(" quiet"), "{done}");
}
