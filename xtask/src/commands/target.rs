// SPDX-License-Identifier: MIT OR Apache-2.0
//! The destination of a report: opened before the long work, so that a bad path fails after a second, not
//! after an hour.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::commands::print;
use vmtest_base::error::{Error, IoContext, Result};
use vmtest_base::files::write_file;

/// The destination of a report.
#[derive(Debug)]
pub enum Target {
    Stdout,
    /// A regular file, which is replaced as a whole.
    File(PathBuf),
    /// A pipe or a device, which is written to: replacing it would break /dev/stdout for all processes.
    Stream(PathBuf, File),
    /// A file that others append to as well. If it cannot be written, that is only a warning and does not
    /// change the exit code.
    Summary(PathBuf),
}

impl Target {
    pub fn is_stdout(&self) -> bool {
        matches!(self, Target::Stdout)
    }

    /// Opens it. `option` is the option that named it, for the error.
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
        // Through a link, the file that it points to.
        let place = path.canonicalize().on("cannot resolve", path)?;
        if !existed {
            std::fs::remove_file(&place).on("cannot write", &place)?;
        }
        Ok(Target::File(place))
    }

    /// Writes the report.
    ///
    /// # Errors
    /// When it cannot be written.
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
