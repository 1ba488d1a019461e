// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scratch repository in which patches are applied. It holds only the files that the series touches.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::series::{Patch, neutral_git};
use vmtest_base::error::{Class, Error, IoContext, Result};
use vmtest_base::files::{create_dir, write_file};
use vmtest_host::process::{Finished, Job};

/// Time limit of one git command: a thousand patches take a minute.
const GIT_LIMIT: Duration = Duration::from_secs(600);

/// Most symlinks that are followed in a chain.
const MAX_LINKS: usize = 8;

/// `--no-3way`: a 3-way merge would hide patches that are already applied, and needs blobs that are not in
/// the scratch repository.
///
/// `--no-utf8`: git would fail on an unknown charset in the message, which is discarded anyway. Diffs are
/// never converted.
const AM: [&str; 9] = [
    "am",
    "--quiet",
    "--no-3way",
    "--no-gpg-sign",
    "--keep-non-patch",
    "--no-utf8",
    "--quoted-cr=strip",
    "--patch-format=mbox",
    "--committer-date-is-author-date",
];

/// The diff of a patch that is reverted, in the scratch repository.
pub(super) const TAKEN_OUT: &str = ".git/taken-out.patch";

/// The scratch repository.
pub(super) struct Repo {
    pub(super) dir: PathBuf,
}

impl Repo {
    pub(super) fn create(dir: &Path, format: &str) -> Result<Repo> {
        create_dir(dir)?;
        let repo = Repo { dir: dir.to_owned() };
        // An empty template: no hooks, not even the host's.
        let format = format!("--object-format={format}");
        repo.git(&["init", "--quiet", "--template=", "--initial-branch=series", &format])?
            .ok("cannot make a scratch repository")?;
        create_dir(&dir.join(".git/info"))?;
        // Attributes of the tree or the series must not change any byte.
        write_file(
            &dir.join(".git/info/attributes"),
            "* -text !eol !filter !ident !working-tree-encoding\n",
        )?;
        Ok(repo)
    }

    pub(super) fn git(&self, args: &[&str]) -> Result<Finished> {
        Job::new(self.command(args)).deadline(GIT_LIMIT).run()
    }

    /// Applies mails; each makes a commit.
    pub(super) fn am(&self, mails: &[PathBuf], strip: u32) -> Result<Finished> {
        let mut command = self.command(&AM);
        command.arg(format!("-p{strip}")).args(mails);
        Job::new(command).deadline(GIT_LIMIT).run()
    }

    /// Reverts the patch of a mail as one commit, because `git am` cannot revert.
    pub(super) fn take_out(&self, mail: &Path, patch: &Patch) -> Result<Finished> {
        let raw = fs::read(mail).on("cannot read", mail)?;
        let command = self.command(&["mailinfo", "-n", "--quoted-cr=strip", ".git/message", TAKEN_OUT]);
        let read = Job::new(command).input(raw).deadline(GIT_LIMIT).run()?;
        if !read.success() {
            return Ok(read);
        }
        let strip = format!("-p{}", patch.strip);
        let applied = self.git(&["apply", "--index", "--reverse", &strip, TAKEN_OUT])?;
        if !applied.success() {
            return Ok(applied);
        }
        self.git(&["commit", "--quiet", "--no-verify", "--allow-empty", "--message=taken out"])
    }

    /// All output lines of git: [`Finished`] keeps only the last ones.
    pub(super) fn git_says(&self, args: &[&str]) -> Result<Vec<String>> {
        let mut said = Vec::new();
        let job = Job::new(self.command(args)).deadline(GIT_LIMIT);
        job.on_line(|_, line| said.push(line.to_owned())).run()?;
        Ok(said)
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = neutral_git(&self.dir);
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), "vmtest")
                .env(format!("GIT_{who}_EMAIL"), "vmtest@localhost")
                .env(format!("GIT_{who}_DATE"), "1700000000 +0000");
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.args(args);
        command
    }

    /// Target of the symlink at this path of the patched tree; `None` if it is not a symlink.
    pub(super) fn link_at(&self, base_dir: &Path, touched: &BTreeSet<&str>, path: &str) -> Option<PathBuf> {
        let (here, base) = (self.dir.join(path), base_dir.join(path));
        match here.symlink_metadata() {
            Ok(meta) if meta.is_symlink() => fs::read_link(here).ok(),
            Ok(_) => None,
            // A touched file that is missing here was deleted by the series; all others are unchanged.
            Err(_) if touched.contains(path) => None,
            Err(_) => fs::read_link(base).ok(),
        }
    }

    /// Copies everything that differs from the base into `out`.
    pub(super) fn keep_changes(&self, base_dir: &Path, out: &Path, touched: &BTreeSet<&str>) -> Result<()> {
        let diff = ["diff", "--raw", "--no-renames", "--no-abbrev", "base", "HEAD"];
        let diff = self.git(&diff)?.ok("cannot list what the series changes")?.stdout;
        let (mut changed, mut deleted) = (Vec::new(), Vec::new());
        create_dir(&out.join("files"))?;
        for line in diff.lines() {
            // :100644 100755 OLD NEW M<tab>path
            let Some((fields, path)) = line.split_once('\t') else { continue };
            if !touched.contains(path) {
                return Err(Error::host(format!("cannot keep the change of {path:?}"))
                    .why("git changed a file that the diff parser did not see"));
            }
            let mode = fields.split(' ').nth(1).unwrap_or_default();
            let (from, to) = (self.dir.join(path), out.join("files").join(path));
            if let (Some(parent), false) = (to.parent(), mode == "000000") {
                create_dir(parent)?;
            }
            match mode {
                "000000" => {
                    deleted.push(path.to_owned());
                    continue;
                }
                "100644" | "100755" => {
                    fs::copy(&from, &to).on("cannot copy", &from)?;
                    let bits = if mode == "100755" { 0o755 } else { 0o644 };
                    fs::set_permissions(&to, fs::Permissions::from_mode(bits))
                        .on("cannot set the mode of", &to)?;
                }
                "120000" => {
                    let target = fs::read_link(&from).on("cannot read the link", &from)?;
                    let link_at = |path: &str| self.link_at(base_dir, touched, path);
                    if !link_stays_inside(path, &target, &link_at) {
                        let what = format!("the series is refused: its link {path} leads out of the tree");
                        return Err(Error::new(Class::SeriesDoesNotApply, what).why(target.display()));
                    }
                    symlink(&target, &to).on("cannot link", &to)?;
                }
                other => {
                    let what = format!("the series is refused: {path} has mode {other}, which is not a file");
                    return Err(Error::new(Class::SeriesDoesNotApply, what));
                }
            }
            changed.push(path.to_owned());
        }
        let lines = |paths: &[String]| paths.iter().map(|path| format!("{path}\n")).collect::<String>();
        write_file(&out.join("changed"), lines(&changed))?;
        write_file(&out.join("deleted"), lines(&deleted))
    }
}

/// Ignores the host's configuration, and disables slow features.
const SETTINGS: [&str; 11] = [
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "core.fileMode=true",
    "core.symlinks=true",
    "core.quotePath=false",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "commit.gpgSign=false",
    "apply.whitespace=nowarn",
    "gc.auto=0",
    "maintenance.auto=false",
];

/// Copies one path. A symlink on the way is copied as a symlink, so that git sees what it is.
pub(super) fn copy_with_links(from_dir: &Path, to_dir: &Path, path: &str) -> Result<()> {
    let (mut from, mut to) = (from_dir.to_owned(), to_dir.to_owned());
    for part in path.split('/') {
        from.push(part);
        to.push(part);
        // git reports files that are missing in the base.
        let Ok(meta) = from.symlink_metadata() else { return Ok(()) };
        if meta.is_symlink() {
            if to.symlink_metadata().is_err() {
                let target = fs::read_link(&from).on("cannot read the link", &from)?;
                symlink(target, &to).on("cannot link", &to)?;
            }
            return Ok(());
        }
        if meta.is_dir() {
            create_dir(&to)?;
        } else {
            fs::copy(&from, &to).on("cannot copy", &from)?;
            let bits = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&to, fs::Permissions::from_mode(bits)).on("cannot set the mode of", &to)?;
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a symlink stays in the tree, also through other symlinks. `link_at` returns the target of a
/// symlink in the patched tree.
///
/// A directory on the way must not be a symlink: `..` after one continues from its target, and with a symlink
/// to the top of the tree, harmless by itself, any number of them lead out. The last component may be a
/// symlink that stays inside.
pub(super) fn link_stays_inside(
    link: &str,
    target: &Path,
    link_at: &dyn Fn(&str) -> Option<PathBuf>,
) -> bool {
    let (mut link, mut target) = (link.to_owned(), target.to_owned());
    for _ in 0..MAX_LINKS {
        let mut here: Vec<String> = link.split('/').map(str::to_owned).collect();
        here.pop();
        let mut last = None;
        for part in target.components() {
            if last.is_some() {
                return false;
            }
            match part {
                Component::CurDir => (),
                Component::ParentDir => {
                    if here.pop().is_none() {
                        return false;
                    }
                }
                Component::Normal(name) => {
                    // A name that is not UTF-8 cannot be looked up.
                    let Some(name) = name.to_str() else { return false };
                    here.push(name.to_owned());
                    last = link_at(&here.join("/"));
                }
                Component::RootDir | Component::Prefix(_) => return false,
            }
        }
        match last {
            None => return true,
            Some(next) => (link, target) = (here.join("/"), next),
        }
    }
    false
}
