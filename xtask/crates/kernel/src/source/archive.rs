// SPDX-License-Identifier: MIT OR Apache-2.0
//! `src:` and `debian:`: kernels of the Debian archive, through a private apt root in the cache. apt
//! downloads and verifies everything with the archive's keyring. Only the mirror and the network settings
//! come from the host's apt.

mod apt;
mod candidate;
mod image;
mod index;
mod list;
mod package;
mod source;
mod version;

pub use crate::source::archive::index::Form;
pub use crate::source::archive::index::ImageRelease;
pub use crate::source::archive::index::SourceRelease;
pub use crate::source::archive::list::Listed;
pub use crate::source::archive::list::images_between;
pub use crate::source::archive::list::list;
pub use crate::source::archive::version::compare_versions;
pub(crate) use image::{Choice as ImageChoice, fetch_image, resolve_image};
pub(crate) use source::{Choice as SourceChoice, fetch_source, newest, resolve_source};
