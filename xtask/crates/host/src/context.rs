// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every stage needs.

use std::path::PathBuf;

use crate::store::Cache;
use vmtest_base::event::Bus;

/// Passed by reference to every stage.
#[derive(Clone)]
pub struct Context {
    /// Everything that can be rebuilt.
    pub cache: Cache,
    /// Reports what happens.
    pub bus: Bus,
    /// Root of this project's checkout.
    pub project: PathBuf,
    /// `--mirror` or `VMTEST_DEBIAN_MIRROR`; `None` for the mirror that the host's apt uses.
    pub mirror: Option<String>,
}

impl Context {
    /// The requested mirror. An empty text counts as none, because CI systems set variables without a value
    /// to that.
    pub fn mirror(&self) -> Option<&str> {
        self.mirror.as_deref().filter(|mirror| !mirror.is_empty())
    }
}
