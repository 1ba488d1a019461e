// SPDX-License-Identifier: MIT OR Apache-2.0
//! One module per subcommand: the order of its steps, and nothing that another command needs too.

pub mod baseline;
pub mod bisect;
pub mod cache;
pub mod ci_matrix;
pub mod clean;
pub mod doctor;
pub mod look;
pub mod matrix;
pub mod mutants;
pub mod output;
pub mod papers;
pub mod report;
pub mod sources;
mod start;
pub mod target;
pub mod test;
pub mod vmtest;

use std::io::Write;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use vmtest_protocol::Effort;

use crate::error::{Class, Error, Result};
use crate::plain;

/// Writes data to standard output.
///
/// # Errors
/// When it is closed or full.
pub fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(plain::with_colours(text).as_bytes()) {
        // `vmtest .. | head`: the reader has what it wanted.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(|error| Error::new(Class::Host, "cannot write to standard output").why(error)),
    }
}

/// Words of `--effort`, whose type the guest shares and which therefore knows nothing of clap.
pub fn effort() -> impl TypedValueParser<Value = Effort> {
    let words = [
        PossibleValue::new("quick").help("One look at each group"),
        PossibleValue::new("normal").help("Everything that ends within seconds"),
        PossibleValue::new("soak").help("The same, and stress in full: minutes"),
    ];
    PossibleValuesParser::new(words).try_map(|word| Effort::of_name(&word).ok_or("unknown effort"))
}
