// SPDX-License-Identifier: MIT OR Apache-2.0
//! Untrusted repositories, trees and tarballs: nothing in them is run on the host, nothing outside of them is
//! read, and the caller's environment does not change what is stored.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::stat::Mode;

use crate::support::{World, git, text};

const PASSES: &str = "guest: pass";

/// Git as the owner of a repository would run it; it may fail.
fn as_owner(world: &World, top: &Path, words: &[&str]) {
    let mut command = Command::new("git");
    command.arg("-C").arg(top).args(words).env("HOME", world.path("home")).env("GIT_CONFIG_NOSYSTEM", "1");
    command.output().expect("git runs");
}

fn touched(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path("touched")).expect("listed").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A repository whose configuration sets a command wherever git supports one. Each of them leaves a file.
fn hostile(world: &World) -> PathBuf {
    let top = world.repo("linux", PASSES);
    fs::create_dir_all(world.path("touched")).expect("made");
    let command = |name: &str| {
        let script = format!("#!/bin/sh\n: > {}\nexit 1\n", world.path("touched").join(name).display());
        let file = world.write(&format!("evil/{name}"), &script);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("mode");
        file.display().to_string()
    };
    for (path, content) in [
        (".gitattributes", "* filter=evil diff=evil merge=evil\n"),
        ("kernel/fake.c", "int first;\nint second;\nint third;\nint fourth;\n"),
        ("sparse/.gitignore", "*.x\n"),
        ("sparse/file.c", "int x;\n"),
    ] {
        world.write(&format!("linux/{path}"), content);
    }
    world.commit(&top, "second");
    // A file that git reads from the object database, but whose object is missing.
    git(&top, &["update-index", "--skip-worktree", "sparse/.gitignore"]);
    fs::remove_file(top.join("sparse/.gitignore")).expect("removed");
    for (key, value) in [
        ("core.repositoryFormatVersion", "1".to_owned()),
        ("extensions.partialClone", "origin".to_owned()),
        ("remote.origin.promisor", "true".to_owned()),
        ("remote.origin.partialCloneFilter", "blob:none".to_owned()),
        ("remote.origin.url", "ssh://nobody.invalid/x".to_owned()),
        ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*".to_owned()),
        ("remote.origin.uploadpack", command("uploadpack")),
        ("remote.other.url", format!("ext::{}", command("ext"))),
        ("remote.other.promisor", "true".to_owned()),
        ("protocol.allow", "always".to_owned()),
        ("core.sshCommand", command("ssh")),
        ("core.gitProxy", command("proxy")),
        ("core.fsmonitor", command("fsmonitor")),
        ("core.hooksPath", world.path("evil").display().to_string()),
        ("core.pager", command("pager")),
        ("core.editor", command("editor")),
        ("core.askPass", command("askpass")),
        ("core.alternateRefsCommand", command("refs")),
        ("credential.helper", command("credential")),
        ("diff.external", command("diff")),
        ("diff.evil.command", command("driver")),
        ("diff.evil.textconv", command("textconv")),
        ("merge.evil.driver", command("merge")),
        ("filter.evil.smudge", command("smudge")),
        ("filter.evil.clean", command("clean")),
        ("filter.evil.process", command("process")),
        ("filter.evil.required", "true".to_owned()),
        ("log.showSignature", "true".to_owned()),
        ("gpg.program", command("gpg")),
        ("alias.ls-files", format!("!{}", command("alias"))),
        ("include.path", world.path("evil.config").display().to_string()),
    ] {
        git(&top, &["config", key, &value]);
    }
    for hook in ["post-checkout", "post-index-change", "reference-transaction", "pre-commit", "post-commit"] {
        command(hook);
    }
    let blob = |rev: &str| {
        let output =
            Command::new("git").arg("-C").arg(&top).args(["rev-parse", rev]).output().expect("git runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    for rev in ["HEAD:kernel/fake.c", "HEAD:sparse/.gitignore"] {
        let id = blob(rev);
        fs::remove_file(top.join(".git/objects").join(&id[..2]).join(&id[2..])).expect("removed");
    }
    top
}

#[test]
fn no_command_that_a_repository_names_is_run() {
    let world = World::new();
    let top = hostile(&world);
    // The trap works: git springs it when the owner runs it.
    as_owner(&world, &top, &["cat-file", "-p", "HEAD:kernel/fake.c"]);
    assert!(touched(&world).contains(&"ssh".to_owned()), "{:?}", touched(&world));
    fs::remove_dir_all(world.path("touched")).expect("removed");
    fs::create_dir(world.path("touched")).expect("made");
    let spec = |rev: &str| format!("git:{}@{rev}", top.display());
    let tree = format!("tree:{}", top.display());
    for spec in [&spec("HEAD"), &spec("HEAD~1"), &spec("HEAD~1..HEAD"), &spec("origin/main"), &tree] {
        for more in [&["--dry-run"][..], &["--boot", "direct"]] {
            world.run(&[&["--kernel", spec], more].concat());
            assert_eq!(touched(&world), [""; 0], "{spec} {more:?}");
        }
    }
    // Existing objects are used, and missing ones are named.
    world.run(&["--kernel", &spec("HEAD~1")]).exits(0);
    world.run(&["--kernel", &tree]).exits(0);
    world.run(&["--kernel", &spec("HEAD")]).exits(30);
    let words =
        ["bisect", "--toolchain", "host", "--accel", "tcg", "--boot", "direct", "--test", "basic/first"];
    let ends = ["--good", &spec("HEAD~1"), "--bad", &spec("HEAD")];
    world.start(world.command(&[&words[..], &ends].concat())).done();
    assert_eq!(touched(&world), [""; 0], "bisect");
    world.is_clean();
}

#[test]
fn what_the_caller_has_set_changes_no_byte() {
    let world = World::new();
    let top = world.repo("linux", PASSES);
    world.write("linux/kernel/more.c", "int more;\n");
    world.commit(&top, "second");
    let tar = world.path("linux.tar.xz");
    let made = Command::new("tar").arg("-cJf").arg(&tar).arg("-C").arg(world.path("")).arg("linux").status();
    assert!(made.expect("tar runs").success());
    world.write(
        "home/.gitconfig",
        "[core]\n\tautocrlf = true\n\tattributesFile = /dev/full\n[apply]\n\twhitespace = fix\n",
    );
    for spec in [
        format!("git:{}@HEAD~1", top.display()),
        format!("git:{}@HEAD", top.display()),
        format!("git:{}@HEAD~1..HEAD", top.display()),
        format!("tar:{}", tar.display()),
        format!("tree:{}", top.display()),
    ] {
        let mut command = world.vmtest(&["--kernel", &spec, "--boot", "direct"]);
        for (name, value) in [
            ("GIT_CONFIG_PARAMETERS", "'core.autocrlf=true'"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "core.eol"),
            ("GIT_CONFIG_VALUE_0", "crlf"),
            ("GIT_ATTR_SOURCE", "HEAD"),
            ("GIT_DIR", "/nowhere"),
            ("GIT_INDEX_FILE", "/nowhere"),
            ("GIT_OBJECT_DIRECTORY", "/nowhere"),
            ("GIT_EXTERNAL_DIFF", "false"),
            ("GIT_DIFF_OPTS", "--unified=0"),
            ("GIT_NAMESPACE", "x"),
            ("TAR_OPTIONS", "--exclude=fake.c"),
            ("XZ_OPT", "--format=raw"),
            ("XZ_DEFAULTS", "--memlimit=1"),
        ] {
            command.env(name, value);
        }
        world.start(command).done().exits(0);
    }
    let mut seen = 0;
    for entry in walkdir::WalkDir::new(world.path("cache")).into_iter().map(|entry| entry.expect("listed")) {
        let bytes =
            if entry.file_type().is_file() { fs::read(entry.path()).expect("read") } else { continue };
        if ["fake.c", "more.c"].iter().any(|name| entry.file_name() == *name) {
            assert!(!bytes.contains(&b'\r'), "{}", entry.path().display());
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen} files of five sources");
}

#[test]
fn a_pipe_in_a_repository_is_named_and_nobody_waits_for_it() {
    for (at, codes) in [
        ("kernel/.gitignore", &[2][..]),
        ("nested/.git/HEAD", &[2]),
        (".git/index", &[30]),
        (".git/HEAD", &[0, 30]),
        (".git/config", &[2, 30]),
        (".git/packed-refs", &[0, 30]),
        (".git/refs/heads/x", &[0]),
        (".git/info/exclude", &[30]),
        (".git/objects/info/commit-graph", &[2, 30]),
        (".git/commondir", &[2, 30]),
        (".git/shallow", &[30, 2]),
        // Omitted, with a message.
        ("kernel/pipe.c", &[0]),
    ] {
        let world = World::new();
        let top = world.repo("linux", PASSES);
        let pipe = top.join(at);
        fs::create_dir_all(pipe.parent().expect("a parent")).expect("made");
        let _ = fs::remove_file(&pipe);
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a FIFO");
        let tree = format!("tree:{}", top.display());
        let done = world.start(world.vmtest(&["--kernel", &tree])).done_within(Duration::from_secs(30));
        assert!(codes.contains(&done.status.code().unwrap_or(-1)), "{at}\n{done}");
        let name = pipe.file_name().expect("a name").to_string_lossy().into_owned();
        if done.status.code() != Some(0) || at == "kernel/pipe.c" {
            done.says(&[&name]);
        }
        if at.starts_with(".git/") {
            let spec = format!("git:{}@main", top.display());
            let done = world.start(world.vmtest(&["--kernel", &spec])).done_within(Duration::from_secs(30));
            if done.status.code() != Some(0) {
                assert!([2, 30].contains(&done.status.code().unwrap_or(-1)), "{at}\n{done}");
                done.says(&[&name]);
            }
        }
        world.is_clean();
    }
    let world = World::new();
    nix::unistd::mkfifo(&world.path("pipe"), Mode::S_IRWXU).expect("a FIFO");
    for spec in ["image:pipe", "tar:pipe"] {
        world.start(world.vmtest(&["--kernel", spec])).done_within(Duration::from_secs(30)).exits(2);
    }
}

/// Asserts that neither the cache nor a record contains this text.
#[track_caller]
fn nowhere(world: &World, secret: &str) {
    for below in ["cache", "state"] {
        for entry in walkdir::WalkDir::new(world.path(below)).into_iter().map(|entry| entry.expect("listed"))
        {
            if entry.file_type().is_file() {
                let bytes = fs::read(entry.path()).expect("read");
                let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "{}", entry.path().display());
            }
        }
    }
}

#[test]
fn a_tree_does_not_take_what_a_link_leads_to() {
    const SECRET: &str = "SECRET-KEY-OF-SOMEBODY";
    let world = World::new();
    world.write("victim/id_rsa", SECRET);
    let top = world.repo("linux", PASSES);
    world.write("linux/certs/keys/id_rsa", "x\n");
    world.write("linux/.gitignore", "*.o\n/certs/keys\n");
    git(&top, &["add", "-f", "certs/keys/id_rsa"]);
    world.commit(&top, "second");
    fs::remove_dir_all(top.join("certs/keys")).expect("removed");
    symlink(world.path("victim"), top.join("certs/keys")).expect("linked");
    // Links that git lists as links.
    symlink("kernel", top.join("inside")).expect("linked");
    symlink(world.path("victim/id_rsa"), top.join("key")).expect("linked");
    let spec = format!("tree:{}", top.display());
    let done = world.run(&["--kernel", &spec]);
    done.exits(0).says(&["certs/keys/id_rsa", "reached through a link"]);
    nowhere(&world, SECRET);
    // A top Makefile from elsewhere does not belong to this tree.
    fs::copy(top.join("Makefile"), world.path("victim/Makefile")).expect("copied");
    fs::remove_file(top.join("Makefile")).expect("removed");
    symlink(world.path("victim/Makefile"), top.join("Makefile")).expect("linked");
    world.run(&["--kernel", &spec]).exits(2);
}

#[test]
fn a_branch_of_b4_prep_is_tested_without_its_cover_letter() {
    let world = World::new();
    let top = world.repo("linux", PASSES);
    git(&top, &["commit", "-q", "--allow-empty", "-m", "a cover letter\n\nThat says why."]);
    for (number, subject) in ["fake: one", "fake: two"].iter().enumerate() {
        world.write(
            "linux/kernel/fake.c",
            &format!("int first;\nint second;\nint third;\nint more{number};\n"),
        );
        // The message contains a diff that would break the build if it were applied.
        let message = format!(
            "{subject}\n\ndiff --git a/fake.does b/fake.does\n--- a/fake.does\n+++ b/fake.does\n@@ -1 +1 @@\n\
             -{PASSES}\n+guest: fail\n"
        );
        git(&top, &["commit", "-qam", &message]);
    }
    let spec = format!("git:{}@HEAD~3..HEAD", top.display());
    world.run(&["--kernel", &spec, "--dry-run"]).exits(0).says(&["2 commit(s)", "a cover letter"]);
    let done = world.run(&["--kernel", &spec, "--each-patch"]);
    done.exits(0).says(&["left out, because it changes no file", "a cover letter"]);
    let kernels = done.json()["kernels"].as_array().expect("kernels").clone();
    let series: Vec<usize> =
        kernels.iter().map(|kernel| kernel["series"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(series, [0, 1, 2]);
    assert_eq!(text(&kernels[2]["series"][1]), "fake: two");
}
