// SPDX-License-Identifier: MIT OR Apache-2.0
//! A condition of a variant: what must be true in the guest before a pass in the variant's column means
//! anything. Variants declare conditions, the judge checks them.

use regex::Regex;

use crate::error::{Error, Result};

/// A property of the guest that defines a variant, as the runner can read it.
#[derive(Debug, Clone)]
pub struct Condition {
    pub what: String,
    /// Which of the features that the runner reports.
    pub read: String,
    /// The required value, as it was written.
    pub text: String,
    /// The same, anchored to match the whole value.
    pub is: Regex,
    /// Whether no test passes in a guest that does not meet it.
    pub must: bool,
}

impl Condition {
    /// `is` is a regular expression that must match the whole value.
    ///
    /// # Errors
    /// Class `Usage` if `is` is not a valid expression or matches the empty text, or if `what` or `read` is
    /// empty.
    pub fn new(what: &str, read: &str, is: &str, must: bool) -> Result<Condition> {
        let wrong = |why: String| Error::usage(format!("`[[condition]]` {what:?} makes no sense")).why(why);
        let whole = Regex::new(&format!("^(?:{is})$")).map_err(|error| wrong(error.to_string()))?;
        if what.trim().is_empty() || read.trim().is_empty() {
            return Err(wrong("`what` and `read` have to say something".to_owned()));
        }
        if whole.is_match("") {
            return Err(wrong(format!("`is` {is:?} fits the empty text")));
        }
        Ok(Condition { what: what.to_owned(), read: read.to_owned(), text: is.to_owned(), is: whole, must })
    }
}
