// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree that a series is for: what it names itself, or the newest one on which it applies.

use std::path::{Path, PathBuf};

use vmtest_base::error::{Class, Error, Result};
use vmtest_engine::plan::Plan;
use vmtest_engine::request::Request;
use vmtest_host::context::Context;
use vmtest_kernel::maintained;
use vmtest_kernel::patched::PatchedTree;
use vmtest_kernel::series::Series;
use vmtest_kernel::source::archive;
use vmtest_kernel::source::{self, Commits, Fetched};
use vmtest_kernel::spec::KernelSpec;

/// Most releases that are tried.
const TRIED: usize = 5;

/// The tree for the series of a request; the user's choice comes first. Says which one, and why.
///
/// # Errors
/// Class `Usage` if it applies to none.
pub(super) fn find(ctx: &Context, request: &Request) -> Result<KernelSpec> {
    let series =
        maintained::load(ctx, &Plan::new(&Request { kernels: Vec::new(), ..request.clone() })?.patches)?;
    let series = series.ok_or_else(|| Error::usage("no series was named"))?;
    let chosen: Option<KernelSpec> = request.kernels.first().map(|kernel| kernel.parse()).transpose()?;
    if let Some(chosen) = chosen {
        let KernelSpec::Tree(repo) = &chosen else { return Ok(chosen) };
        return match named(ctx, repo, &series) {
            Some(named) => Ok(named),
            None => Ok(newest_in(ctx, repo, &series)?.unwrap_or(chosen)),
        };
    }
    if let Some(version) = request.patches.first().and_then(|path| maintained::version(&ctx.project, path)) {
        let spec = KernelSpec::Src(version);
        ctx.bus.note(format!("reviewing on {spec}, which the series is maintained for"));
        return Ok(spec);
    }
    let (_, listed) = archive::list(ctx)?;
    let released = listed.iter().filter(|one| !one.sources.is_empty());
    let released = released.map(|one| KernelSpec::Src(one.version.clone()));
    match newest(ctx, &series, released.take(TRIED))? {
        Ok(spec) => Ok(spec),
        Err(why) => {
            Err(Error::new(Class::SeriesDoesNotApply, "the series applies to none of the newest releases")
                .detail(why)
                .next("name its tree: --on TREE"))
        }
    }
}

/// The tree as it is, or the newest tag of a release on which the series applies; `None` if it applies to neither,
/// or if it is not a repository.
fn newest_in(ctx: &Context, repo: &Path, series: &Series) -> Result<Option<KernelSpec>> {
    let Ok(commits) = Commits::open(ctx, repo) else { return Ok(None) };
    let tags = commits.releases().into_iter().take(TRIED);
    let tags = tags.map(|rev| KernelSpec::Git { repo: repo.to_owned(), rev });
    let found = newest(ctx, series, std::iter::once(KernelSpec::Tree(repo.to_owned())).chain(tags))?;
    Ok(found.ok())
}

/// The commit in this repository that the series says it is for, if the repository has it.
fn named(ctx: &Context, repo: &Path, series: &Series) -> Option<KernelSpec> {
    let base = series.base_commit.as_deref()?;
    let no = |why: &str| {
        ctx.bus.warn(format!("{} {why}: reviewing on the tree as it is", repo.display()));
        None
    };
    let Ok(commits) = Commits::open(ctx, repo) else {
        return no("is not a repository, so it does not have the base-commit of the series");
    };
    let Ok(mut rev) = commits.commit(base) else {
        return no(&format!("does not have the base-commit of the series, {base}"));
    };
    let mut what = "the base-commit of the series".to_owned();
    if !series.prerequisites.is_empty() {
        let head = commits.commit("HEAD").ok()?;
        match commits.with_patches(&head, &series.prerequisites) {
            Ok(Some(commit)) => {
                what = format!(
                    "which has the {} prerequisite patches of the series",
                    series.prerequisites.len()
                );
                rev = commit;
            }
            _ => return no("does not have the prerequisite patches of the series in its last 1000 commits"),
        }
    }
    ctx.bus.note(format!("reviewing on {rev}, {what}"));
    Some(KernelSpec::Git { repo: PathBuf::from(repo), rev })
}

/// The first of these trees on which the series applies; if it applies to none, why not.
fn newest(
    ctx: &Context,
    series: &Series,
    trees: impl Iterator<Item = KernelSpec>,
) -> Result<std::result::Result<KernelSpec, Vec<String>>> {
    let mut why = Vec::new();
    for spec in trees {
        ctx.bus.note(format!("trying {spec}: the series does not say which tree it is for"));
        let fetched = source::fetch(ctx, &source::resolve(ctx, &spec)?)?;
        let Fetched::Source(tree) = fetched else { continue };
        match PatchedTree::patched(ctx, tree, series) {
            Ok(_) => {
                ctx.bus.note(format!("reviewing on {spec}, the newest on which the series applies"));
                return Ok(Ok(spec));
            }
            Err(error) if error.class == Class::SeriesDoesNotApply => {
                why.push(format!("{spec}: {}", error.what));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Err(why))
}
