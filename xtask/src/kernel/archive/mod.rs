// SPDX-License-Identifier: MIT OR Apache-2.0
//! `src:` and `debian:`: kernels of the Debian archive through a private apt root in the cache. apt downloads and
//! verifies every byte with the archive's keyring; the host's own apt state is only asked for its mirror and proxies.

mod apt;
mod candidate;
mod image;
mod index;
mod list;
mod package;
mod source;
mod version;

pub(in crate::kernel) use image::{Choice as ImageChoice, fetch_image, resolve_image};
pub use index::{Form, ImageRelease, SourceRelease};
pub use list::{Listed, images_between, list};
pub(in crate::kernel) use source::{Choice as SourceChoice, fetch_source, resolve_source};
pub use version::compare_versions;
