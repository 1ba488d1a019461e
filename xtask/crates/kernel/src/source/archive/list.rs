// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists the kernels of the archive, and which of them are in the cache.

use crate::source::archive::apt::Archive;
use crate::source::archive::image::{cached_image, cached_versions};
use crate::source::archive::index::{ImageRelease, Index, SourceRelease};
use crate::source::archive::source::cached_source;
use crate::source::archive::version::compare_versions;
use vmtest_base::error::Result;
use vmtest_host::context::Context;

/// One row of `cargo xtask sources`.
#[derive(Debug, serde::Serialize)]
pub struct Listed {
    pub version: String,
    /// Sources, in the order to try.
    pub sources: Vec<SourceRelease>,
    /// Images, in the order of the lists.
    pub images: Vec<ImageRelease>,
    /// Whether its source is in the cache.
    pub source_cached: bool,
    /// Flavours whose image is in the cache.
    pub images_cached: Vec<String>,
}

/// Everything that the archive lists, newest first, and the mirror of that list.
///
/// # Errors
/// If the archive cannot be reached.
pub fn list(ctx: &Context) -> Result<(String, Vec<Listed>)> {
    let index = Archive::new(ctx).index()?;
    let rows = index.versions().into_iter().map(|version| row(ctx, &index, version)).collect();
    Ok((index.mirror, rows))
}

/// Versions of the images of one flavour from `from` to `to`, both included, oldest first: those that the
/// archive lists, and cached ones that it no longer lists.
///
/// # Errors
/// If the archive cannot be reached.
pub fn images_between(ctx: &Context, flavour: &str, from: &str, to: &str) -> Result<Vec<String>> {
    let index = Archive::new(ctx).index()?;
    let listed = index.images.iter().filter(|image| image.flavour == flavour);
    let mut all: Vec<String> = listed.map(|image| image.upstream.clone()).collect();
    all.extend(cached_versions(ctx, flavour));
    all.sort_by(|a, b| compare_versions(a, b));
    all.dedup();
    let within =
        |version: &String| compare_versions(from, version).is_le() && compare_versions(version, to).is_le();
    Ok(all.into_iter().filter(within).collect())
}

fn row(ctx: &Context, index: &Index, version: &str) -> Listed {
    let sources = index.sources_for(version).into_iter().filter(|source| source.upstream == version);
    let images: Vec<ImageRelease> =
        index.images.iter().filter(|image| image.upstream == version).cloned().collect();
    let mut images_cached: Vec<String> = images
        .iter()
        .map(|image| image.flavour.clone())
        .filter(|flavour| cached_image(ctx, version, flavour).is_some())
        .collect();
    images_cached.sort();
    images_cached.dedup();
    Listed {
        version: version.to_owned(),
        sources: sources.cloned().collect(),
        images,
        source_cached: cached_source(ctx, version).is_some(),
        images_cached,
    }
}
