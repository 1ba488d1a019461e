// SPDX-License-Identifier: MIT OR Apache-2.0
//! A condition of a variant: what has to be true in a guest for a pass to say what its column says. Variants declare it,
//! the judge checks it.

use regex::Regex;

use crate::error::{Error, Result};

/// What a variant is about, as the runner can read it in the guest.
#[derive(Debug, Clone)]
pub struct Condition {
    pub what: String,
    /// Which of the features that the runner tells.
    pub read: String,
    /// What that has to be, as it was written.
    pub text: String,
    /// The same, for the whole text.
    pub is: Regex,
    /// Whether nothing in a guest without it is a pass.
    pub must: bool,
}

impl Condition {
    /// `is`: a regular expression for the whole text.
    ///
    /// # Errors
    /// Class `Usage` for one that is none, or fits what was never read.
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
