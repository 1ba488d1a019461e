// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes the directory of an installation from the checkout, for `dist` and `install`: the program, the runner, and all files
//! that runs read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::commands::start;
use crate::verbosity::Verbosity;
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::{create_dir, write_file};
use vmtest_base::installation::{RUNNER_DIR, Version};
use vmtest_base::program::{NAME, VERSION_FILE};
use vmtest_engine::matrix::keys;
use vmtest_host::context::Context;
use vmtest_host::process::{Job, ended};
use vmtest_suite::own::{self, Runner};

/// What is copied from the checkout.
const CONTENT: [&str; 11] = [
    "CHANGELOG.md",
    "LICENSES",
    "README.md",
    "docs",
    "images",
    "kconfig",
    "matrix.toml",
    "patches",
    "schema",
    "scripts/setup.sh",
    "selftests/suites",
];
/// Cargo's profile for the program, and the directory of its output.
const PROFILE: &str = "dist";
/// Files of the completions: the shell, and the name that it looks for.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "kmatrix"), ("zsh", "_kmatrix"), ("fish", "kmatrix.fish")];

/// Fills the empty directory `root`.
///
/// # Errors
/// When something does not build, or a file cannot be read or written.
pub fn fill(project: &Path, root: &Path) -> Result<Version> {
    let ctx = start::context(project, None, Verbosity::default(), None)?;
    let program = build(&ctx)?;
    let runner = Runner::ensure(&ctx)?;
    let key = runner.dir.file_name().unwrap_or_default();
    copy(&program, &root.join("bin").join(NAME))?;
    copy_below(&runner.dir, &root.join(RUNNER_DIR).join(key))?;
    for name in CONTENT {
        let from = project.join(name);
        if from.is_dir() {
            copy_below(&from, &root.join(name))?;
        } else if from.exists() {
            copy(&from, &root.join(name))?;
        }
    }
    let (revision, date) = revision(project)?;
    let version = Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision,
        date,
        harness: keys::harness(project)?.to_string(),
        content: keys::installed(root)?.to_string(),
    };
    write_file(&root.join(VERSION_FILE), version.text())?;
    papers(root)?;
    Ok(version)
}

/// The program, without paths of this machine in it.
fn build(ctx: &Context) -> Result<PathBuf> {
    let phase = ctx.bus.phase("program", NAME);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target_dir = ctx.project.join("target");
    let mut command = Command::new(cargo);
    command.current_dir(&ctx.project);
    command.args(["build", "--locked", "--profile", PROFILE, "--package", "xtask", "--target-dir"]);
    command.arg(&target_dir);
    let cargo_home = vmtest_base::places::base_dir("CARGO_HOME", ".cargo")?;
    let hidden = [(ctx.project.as_path(), "/kmatrix"), (cargo_home.as_path(), "/cargo")];
    let flags = hidden.map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    // Separated by this character, so that paths may have spaces.
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let done = own::run_cargo(command, &phase)?;
    if !done.success() {
        return Err(Error::new(Class::SuiteBuild, "the harness does not build")
            .why(format!("`{}` {}", done.command, ended(done.status)))
            .detail(done.tail));
    }
    phase.finish();
    Ok(target_dir.join(PROFILE).join("xtask"))
}

/// Completions and man pages, by the program that they are for.
fn papers(root: &Path) -> Result<()> {
    let run = |words: &[&str]| {
        let mut command = Command::new(root.join("bin").join(NAME));
        command.args(words);
        Job::new(command).run()?.ok("the staged program does not start")
    };
    let dir = root.join("completions");
    create_dir(&dir)?;
    for (shell, file) in COMPLETIONS {
        write_file(&dir.join(file), run(&["completions", shell])?.stdout)?;
    }
    let man = root.join("man/man1");
    create_dir(&man)?;
    run(&["man", "--dir", &man.to_string_lossy()]).map(drop)
}

/// Commit of the checkout and its day.
fn revision(project: &Path) -> Result<(String, String)> {
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(project).args(words).env("TZ", "UTC");
        Job::new(command).run()
    };
    if !project.join(".git").exists() {
        return Ok(("unknown".to_owned(), vmtest_base::date::today()));
    }
    let head = git(&["log", "-1", "--format=%H %cd", "--date=format-local:%Y-%m-%d"])?;
    let head = head.ok("cannot read the commit of the checkout")?.stdout;
    let changed =
        !git(&["status", "--porcelain"])?.ok("cannot read the state of the checkout")?.stdout.is_empty();
    let (commit, date) = head.trim().split_once(' ').unwrap_or((head.trim(), ""));
    Ok((format!("{commit}{}", if changed { "+changes" } else { "" }), date.to_owned()))
}

fn copy_below(from: &Path, to: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(from).sort_by_file_name() {
        let entry = entry.map_err(std::io::Error::from).on("cannot walk", from)?;
        let below = entry.path().strip_prefix(from).unwrap_or(entry.path());
        // Seals and locks of the cache are not part of what is installed.
        if entry.file_type().is_file() && !entry.file_name().to_string_lossy().starts_with(".vmtest-") {
            copy(entry.path(), &to.join(below))?;
        }
    }
    Ok(())
}

/// Copies a file with one of two modes: another umask does not make another tarball.
fn copy(from: &Path, to: &Path) -> Result<()> {
    create_dir(to.parent().unwrap_or(to))?;
    fs::copy(from, to).on("cannot copy", from)?;
    let executable = fs::metadata(from).on("cannot read", from)?.permissions().mode() & 0o111 != 0;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).on("cannot set the mode of", to)
}
