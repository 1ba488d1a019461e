// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys: hashes of all inputs of something.

use std::fs::File;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{IoContext, Result};

/// Hash of all inputs of something, as 20 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// Starts a key. `kind`, which includes a version, separates the keys of different kinds of things.
    pub fn of(kind: &str) -> KeyBuilder {
        KeyBuilder { hash: Sha256::new() }.field("kind", kind)
    }

    /// A key that was written down.
    pub fn stored(text: String) -> Key {
        Key(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

/// Hashes the inputs of a [`Key`]. Each name and value is preceded by its length, so different lists of
/// fields cannot collide by concatenation.
#[derive(Clone)]
pub struct KeyBuilder {
    hash: Sha256,
}

impl KeyBuilder {
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> KeyBuilder {
        for part in [name.as_bytes(), value.as_ref()] {
            self.hash.update((part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
        self
    }

    pub fn finish(self) -> Key {
        let digest = self.hash.finalize();
        Key(hex(&digest[..10]))
    }
}

/// SHA-256 of a file's content, as hex digits.
pub fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).on("cannot open", path)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).on("cannot read", path)?;
    Ok(hex(&hash.finalize()))
}

/// SHA-256 of bytes, as hex digits.
pub fn hash_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let joined = Key::of("k").field("a", "bc").finish();
        assert_ne!(joined, Key::of("k").field("ab", "c").finish());
        assert_ne!(joined, Key::of("k").field("a", "b").field("c", "").finish());
        assert_eq!(joined, Key::of("k").field("a", "bc").finish());
    }
}
