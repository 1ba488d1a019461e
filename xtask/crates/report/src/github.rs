// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: workflow commands, which GitHub shows as annotations on a run.

use std::fmt::Write as _;

use crate::escape::{command, command_property};
use crate::story::Story;
use crate::table;
use vmtest_base::error::Class;
use vmtest_record::findings;

/// GitHub shows ten errors per step: the verdict, and these.
const MOST: usize = 9;

/// The verdict, then the reasons that decide it.
pub fn render(story: &Story<'_>) -> String {
    let columns = findings::columns(story.run);
    let reasons = findings::reasons(&columns);
    let mut text = String::new();
    let level = if reasons.is_empty() && story.run.exit_code == Class::Pass { "notice" } else { "error" };
    let _ = writeln!(text, "::{level} title=vmtest::{}", command(&table::classes(story.run)));
    if let Some(own) = findings::own_tests(story.run) {
        let why = format!("{}: {}", own.what, own.list());
        let _ = writeln!(text, "::notice title=tests of the series::{}", command(&why));
    }
    for reason in reasons.iter().take(MOST) {
        let _ =
            writeln!(text, "::error title={}::{}", command_property(&reason.title()), command(&reason.why));
    }
    text
}
