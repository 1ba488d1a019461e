// SPDX-License-Identifier: MIT OR Apache-2.0
//! The history that is searched: the commits between two commits of a repository, the patches of a series, or
//! the images in the archive between two versions. Each kernel in it is a column like a column of `vmtest`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bisect::search::{Ends, History, Line};
use crate::plan::{Column, Upto};
use vmtest_base::error::{Error, Result};
use vmtest_host::context::Context;
use vmtest_host::process::shell_word;
use vmtest_kernel::series::Series;
use vmtest_kernel::source::archive;
use vmtest_kernel::source::{self, Commits};
use vmtest_kernel::spec::KernelSpec;

/// The history, as stored in `bisect.json`: versions and commits are resolved, so that a search resumes in
/// the same history even if branches have moved since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Axis {
    /// Commits; the IDs are their hashes.
    Commits {
        /// Absolute path of the repository.
        repo: PathBuf,
    },
    /// First patches of a series; the IDs are their numbers, 0 for none.
    Patches {
        /// The kernel that they are applied to.
        kernel: String,
        /// Keys of the kernel's source and of the series: different keys mean a different history.
        keys: [String; 2],
        /// Number of patches.
        of: usize,
    },
    /// Images in the archive, oldest first; the IDs are versions.
    Images {
        /// Flavour of all images.
        flavour: String,
        /// Versions of the images.
        versions: Vec<String>,
    },
}

/// How a kernel is presented to users.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Short name: the abbreviated hash of a commit, `patch 7`, `debian:7.0.4`.
    pub name: String,
    /// Full hash of a commit; empty for anything else.
    pub commit: String,
    /// Subject of a commit or patch; description of an image.
    pub subject: String,
    /// Author of a commit or patch; empty for anything else.
    pub author: String,
    /// Date of a commit; empty for anything else.
    pub date: String,
}

impl Known {
    /// Name and subject in one line.
    pub fn line(&self) -> String {
        match self.subject.is_empty() {
            true => self.name.clone(),
            false => format!("{} ({})", self.name, self.subject),
        }
    }
}

const FORMS: &str = "use two commits of one repository (git:PATH@A and git:PATH@B), two images from the archive \
                     (debian:A and debian:B), or one kernel with source twice and --patches to search a series";

impl Axis {
    /// Rejects kernels that cannot have a history between them, before accessing the host or the archive.
    ///
    /// # Errors
    /// Class `Usage`.
    pub fn plausible(good: &str, bad: &str) -> Result<()> {
        let (one, two): (KernelSpec, KernelSpec) = (good.parse()?, bad.parse()?);
        let no = |why: &str| {
            Err(Error::usage(format!("cannot search between {one} and {two}")).why(why).next(FORMS))
        };
        match (&one, &two) {
            (KernelSpec::GitRange { .. }, _) | (_, KernelSpec::GitRange { .. }) => {
                no("an endpoint is one kernel, not a range of commits")
            }
            _ if std::mem::discriminant(&one) != std::mem::discriminant(&two) => {
                no("they are of different kinds")
            }
            (KernelSpec::Image(_), _) => no("an image is one finished kernel"),
            (KernelSpec::Debian { flavour, .. }, KernelSpec::Debian { flavour: other, .. })
                if flavour != other =>
            {
                no("they are of different flavours")
            }
            (KernelSpec::Git { .. } | KernelSpec::Debian { .. }, _) => Ok(()),
            _ if one != two => no("they have no known history between them"),
            _ => Ok(()),
        }
    }

    /// The history between two kernels. The series is that of `--patches`.
    ///
    /// # Errors
    /// Class `Usage` if they have no common history, and `Host` if the archive cannot be reached.
    pub fn between(ctx: &Context, good: &str, bad: &str, series: Option<&Series>) -> Result<(Axis, Ends)> {
        Axis::plausible(good, bad)?;
        let (one, two): (KernelSpec, KernelSpec) = (good.parse()?, bad.parse()?);
        let no =
            |why: String| Error::usage(format!("cannot search between {one} and {two}")).why(why).next(FORMS);
        match (&one, &two) {
            (KernelSpec::Debian { version: from, flavour }, KernelSpec::Debian { version: to, .. }) => {
                Axis::images(ctx, flavour, from, to)
            }
            (KernelSpec::Git { repo, rev: from }, KernelSpec::Git { repo: other, rev: to }) => {
                let commits = Commits::open(ctx, repo)?;
                if Commits::open(ctx, other)?.repo != commits.repo {
                    return Err(no("they are in different repositories".to_owned()));
                }
                let (old, new) = (commits.commit(from)?, commits.commit(to)?);
                match series {
                    Some(series) if old == new => Axis::patches(ctx, &one, series),
                    _ if old == new => Err(no("they are the same commit".to_owned())),
                    _ if commits.precedes(&new, &old)? => {
                        Err(Error::usage("the endpoints are the wrong way round")
                            .why(format!("{two} is an ancestor of {one}"))
                            .next("--good is always the earlier one, even with --find-fix"))
                    }
                    _ => {
                        let bases = commits.merge_bases(&old, &new)?;
                        let bases = bases.into_iter().filter(|base| *base != old).collect();
                        Ok((Axis::Commits { repo: commits.repo }, Ends { old, new, bases }))
                    }
                }
            }
            _ => match series {
                Some(series) => Axis::patches(ctx, &one, series),
                None => Err(no("they are the same kernel, and no --patches are given".to_owned())),
            },
        }
    }

    fn images(ctx: &Context, flavour: &str, from: &str, to: &str) -> Result<(Axis, Ends)> {
        let exact = |version: &str| -> Result<String> {
            let spec = KernelSpec::Debian { version: version.to_owned(), flavour: flavour.to_owned() };
            let id = source::resolve(ctx, &spec)?.id;
            match id.parse()? {
                KernelSpec::Debian { version, .. } => Ok(version),
                other => Err(Error::host(format!("{spec} became {other}"))),
            }
        };
        let (old, new) = (exact(from)?, exact(to)?);
        let versions = archive::images_between(ctx, flavour, &old, &new)?;
        if versions.len() < 2 {
            return Err(Error::usage(format!("cannot search between debian:{old} and debian:{new}"))
                .why("--good is always the earlier version, even with --find-fix"));
        }
        Ok((Axis::Images { flavour: flavour.to_owned(), versions }, Ends { old, new, bases: Vec::new() }))
    }

    fn patches(ctx: &Context, kernel: &KernelSpec, series: &Series) -> Result<(Axis, Ends)> {
        let of = series.patches.len();
        let axis = Axis::Patches {
            kernel: kernel.to_string(),
            keys: [source_key(ctx, kernel)?, series.key().to_string()],
            of,
        };
        let ends = Ends { old: patch_id(0), new: patch_id(of), bases: Vec::new() };
        Ok((axis, ends))
    }

    /// Checks that an earlier search can be resumed: the commits, patches and sources are still the same.
    ///
    /// # Errors
    /// Class `Usage` if they are not.
    pub fn check(&self, ctx: &Context, series: Option<&Series>) -> Result<()> {
        let Axis::Patches { kernel, keys, .. } = self else { return Ok(()) };
        let series = series.map(|series| series.key().to_string()).unwrap_or_default();
        if [source_key(ctx, &kernel.parse()?)?, series] == *keys {
            return Ok(());
        }
        Err(Error::usage("cannot resume this bisection")
            .why(format!("{kernel} or its series has changed since the bisection started"))
            .next("start a new one"))
    }

    /// Opens the history.
    ///
    /// # Errors
    /// Class `Usage` if the repository no longer exists.
    pub fn history(&self, ctx: &Context) -> Result<Order> {
        Ok(match self {
            Axis::Commits { repo } => Order::Commits(Commits::open(ctx, repo)?),
            Axis::Patches { of, .. } => Order::Line(Line((0..=*of).map(patch_id).collect())),
            Axis::Images { versions, .. } => Order::Line(Line(versions.clone())),
        })
    }

    /// The column for a kernel of the history.
    ///
    /// # Errors
    /// Never for an ID of this history.
    pub fn column(&self, id: &str, like: &Column) -> Result<Column> {
        let spec = self.spec(id)?;
        let upto = match self {
            Axis::Patches { of, .. } if number(id) < *of => Upto::First { count: number(id), of: *of },
            _ => Upto::All,
        };
        Ok(Column { spec, upto, ..like.clone() })
    }

    fn spec(&self, id: &str) -> Result<KernelSpec> {
        Ok(match self {
            Axis::Commits { repo } => KernelSpec::Git { repo: repo.clone(), rev: id.to_owned() },
            Axis::Patches { kernel, .. } => kernel.parse()?,
            Axis::Images { flavour, .. } => {
                KernelSpec::Debian { version: id.to_owned(), flavour: flavour.clone() }
            }
        })
    }

    /// The options of `vmtest` that select this kernel: `--kernel ..`, and `--first-n ..`.
    ///
    /// # Errors
    /// Never for an ID of this history.
    pub fn words(&self, id: &str) -> Result<Vec<String>> {
        let mut words = vec!["--kernel".to_owned(), shell_word(&self.spec(id)?.to_string())];
        if let Axis::Patches { of, .. } = self {
            if (1..*of).contains(&number(id)) {
                words.extend(["--first-n".to_owned(), number(id).to_string()]);
            }
        }
        Ok(words)
    }

    /// Whether a kernel of the history has any patches of `--patches` on top.
    pub fn has_patches(&self, id: &str) -> bool {
        match self {
            Axis::Commits { .. } => true,
            Axis::Patches { .. } => number(id) > 0,
            Axis::Images { .. } => false,
        }
    }

    /// How a kernel is presented to users.
    ///
    /// # Errors
    /// When git cannot read the commit.
    pub fn known(&self, id: &str, order: &Order, series: Option<&Series>) -> Result<Known> {
        let known = Known { name: id.to_owned(), ..Known::default() };
        Ok(match (self, order) {
            (Axis::Commits { .. }, Order::Commits(commits)) => {
                let about = commits.about(id)?;
                Known {
                    name: id[..12.min(id.len())].to_owned(),
                    commit: id.to_owned(),
                    subject: about.subject,
                    author: about.author,
                    date: about.date,
                }
            }
            (Axis::Patches { kernel, .. }, _) => match number(id).checked_sub(1) {
                None => Known { name: kernel.clone(), subject: "no patch".to_owned(), ..known },
                Some(at) => {
                    let patch = series.and_then(|series| series.patches.get(at));
                    let author = patch.and_then(|patch| from_line(&patch.raw)).unwrap_or_default();
                    let subject = patch.map(|patch| patch.subject.clone()).unwrap_or_default();
                    Known { name: format!("patch {}", at + 1), subject, author, ..known }
                }
            },
            (Axis::Images { .. }, _) => Known { name: self.spec(id)?.to_string(), ..known },
            (Axis::Commits { .. }, Order::Line(_)) => known,
        })
    }

    /// What a kernel of this history is called.
    pub fn noun(&self) -> &'static str {
        match self {
            Axis::Commits { .. } => "commit",
            Axis::Patches { .. } => "patch",
            Axis::Images { .. } => "image",
        }
    }
}

/// Zero-padded, so that IDs sort by number.
fn patch_id(count: usize) -> String {
    format!("{count:04}")
}

fn number(id: &str) -> usize {
    id.parse().unwrap_or(0)
}

fn source_key(ctx: &Context, kernel: &KernelSpec) -> Result<String> {
    match source::fetch(ctx, &source::resolve(ctx, kernel)?)? {
        source::Fetched::Source(tree) => Ok(tree.key.to_string()),
        source::Fetched::Range { .. } | source::Fetched::Prebuilt(_) => {
            Err(Error::usage(format!("patches cannot be applied to {kernel}")))
        }
    }
}

/// The author of a mailed patch.
fn from_line(raw: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(raw);
    let head = text.split("\n\n").next()?.lines().find_map(|line| line.strip_prefix("From: "))?;
    Some(head.trim().to_owned())
}

/// The order of the kernels in a history.
#[derive(Debug)]
pub enum Order {
    /// Git's commit graph.
    Commits(Commits),
    /// A linear order.
    Line(Line),
}

impl Order {
    /// The position of each kernel between the endpoints, from 0 at the old one. Merge bases older than both
    /// are at 0.
    ///
    /// # Errors
    /// When git cannot walk the history.
    pub fn places(&self, ends: &Ends) -> Result<BTreeMap<String, usize>> {
        let after = match self {
            Order::Commits(commits) => commits.line(&ends.new, &ends.old)?,
            Order::Line(line) => line.0.iter().skip_while(|id| **id != ends.old).skip(1).cloned().collect(),
        };
        let old = std::iter::once(&ends.old).chain(&ends.bases).cloned().map(|id| (id, 0));
        Ok(after.into_iter().enumerate().map(|(at, id)| (id, at + 1)).chain(old).collect())
    }
}

impl History for Order {
    fn between(&self, new: &str, olds: &[String]) -> Result<Vec<String>> {
        match self {
            Order::Commits(commits) => commits.between(new, olds),
            Order::Line(line) => line.between(new, olds),
        }
    }

    fn precedes(&self, old: &str, new: &str) -> Result<bool> {
        match self {
            Order::Commits(commits) => commits.precedes(old, new),
            Order::Line(line) => line.precedes(old, new),
        }
    }
}

#[cfg(test)]
mod tests;
