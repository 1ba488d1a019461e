// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a report goes: opened before the long work, so that a bad path costs a second and not an hour.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::commands::print;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::write_file;

/// Where a report goes.
#[derive(Debug)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file is replaced as a whole.
    File(PathBuf),
    /// A pipe or a device is written to: replacing it would take /dev/stdout away from everybody.
    Stream(PathBuf, File),
    /// A file that others write to as well gets it at its end. A summary that cannot be written is no reason to end
    /// otherwise than the run did: that is said, and no error.
    Summary(PathBuf),
}

impl Target {
    /// Whether it is standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Target::Stdout)
    }

    /// Opens it. `option` is what named it, for the error.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(option: &str, path: &Path) -> Result<Target> {
        if path.is_dir() {
            return Err(Error::usage(format!("{option} {} is a directory", path.display())));
        }
        let existed = path.exists();
        let file = OpenOptions::new().create(true).append(true).open(path).on("cannot write", path)?;
        if !file.metadata().on("cannot read", path)?.is_file() {
            return Ok(Target::Stream(path.to_owned(), file));
        }
        // Of a link, the file that it names.
        let place = path.canonicalize().on("cannot resolve", path)?;
        if !existed {
            std::fs::remove_file(&place).on("cannot write", &place)?;
        }
        Ok(Target::File(place))
    }

    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn write(self, text: &str) -> Result<()> {
        match self {
            Target::Stdout => print(text),
            Target::File(path) => write_file(&path, text),
            Target::Stream(path, mut file) => file.write_all(text.as_bytes()).on("cannot write", &path),
            Target::Summary(path) => {
                let file = OpenOptions::new().create(true).append(true).open(&path);
                if let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
                    let path = path.display();
                    let _ = writeln!(
                        std::io::stderr(),
                        "warning: GITHUB_STEP_SUMMARY={path} cannot be written: {error}"
                    );
                }
                Ok(())
            }
        }
    }
}
