// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exporter: workflow commands, which GitHub shows as annotations on a run.

use std::fmt::Write as _;

use crate::escape::{command, command_property};
use crate::series;
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
    let classes = table::classes(story.run);
    let verdict = series::verdict(story.run).map_or(classes, |(_, sentence)| sentence);
    let _ = writeln!(text, "::{level} title=vmtest::{}", command(&verdict));
    if let Some(own) = findings::own_tests(story.run) {
        let why = format!("{}: {}", own.what, own.list());
        let _ = writeln!(text, "::notice title=tests of the series::{}", command(&why));
    }
    for reason in reasons.iter().take(MOST) {
        let error = findings::compiler_error(reason.finding.reason);
        let place = error.and_then(place).unwrap_or_default();
        let why = error.unwrap_or(&reason.why);
        let title = command_property(&reason.title());
        let _ = writeln!(text, "::error {place}title={title}::{}", command(why));
    }
    text
}

/// The properties for `kernel/bpf/a.c:12:3: error: ..`, which GitHub shows at that line of the change.
fn place(error: &str) -> Option<String> {
    let mut fields = error.split(':');
    let (file, line) = (fields.next()?, fields.next()?.parse::<u32>().ok()?);
    let column = fields.next().and_then(|column| column.parse::<u32>().ok());
    let column = column.map(|column| format!("col={column},")).unwrap_or_default();
    Some(format!("file={},line={line},{column}", command_property(file)))
}
