// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every stage needs and no stage owns.

use std::path::PathBuf;

use crate::store::Cache;
use vmtest_base::event::Bus;

/// Handed by reference to every stage.
#[derive(Clone)]
pub struct Context {
    /// Everything that can be made again.
    pub cache: Cache,
    /// Who wants to know what happens.
    pub bus: Bus,
    /// Root of this project's checkout.
    pub project: PathBuf,
    /// `--mirror` or `VMTEST_DEBIAN_MIRROR`; `None`: take the one that the host's apt uses.
    pub mirror: Option<String>,
}

impl Context {
    /// The mirror that was asked for. A CI system sets a variable that nobody gave a value to the empty text.
    pub fn mirror(&self) -> Option<&str> {
        self.mirror.as_deref().filter(|mirror| !mirror.is_empty())
    }
}
