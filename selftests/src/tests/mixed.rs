// SPDX-License-Identifier: MIT OR Apache-2.0
//! placeholder

use super::{Subtest, subtests};

subtests! { "mixed": }
