// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask doctor`: what this host has, what is missing, and the command that fixes it.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::settings::Settings;
use vmtest_base::error::{Class, Error, Result};
use vmtest_host::doctor::{self, Check, Status, Toolchain};

const EXAMPLES: &str = "\
Examples:
  cargo xtask doctor
  cargo xtask doctor --toolchain host
  cargo xtask doctor --json";

/// Check this host and print the command that fixes each problem
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print a JSON array with one object per check
    #[arg(long)]
    json: bool,
    /// Check what this toolchain needs
    #[arg(long, value_enum, default_value_t, value_name = "WHOSE")]
    toolchain: Toolchain,
}

/// Checks the host and prints the result: [`Class::Pass`], or [`Class::Host`] if something required is
/// missing.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: &Args) -> Result<Class> {
    let Args { json, toolchain } = args;
    let checks = doctor::examine(*toolchain);
    let settings = Settings::read()?.all();
    let mut text = if *json { as_json(&checks)? } else { as_table(&checks) };
    if !*json && !settings.is_empty() {
        text.push_str("\nsettings (the command line and the environment come first)\n");
        settings.iter().for_each(|setting| text.push_str(&format!("    {setting}\n")));
    }
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Error::host("cannot write to standard output").why(error))?;
    let missing = checks.iter().any(|check| check.status == Status::Missing);
    Ok(if missing { Class::Host } else { Class::Pass })
}

fn as_json(checks: &[Check]) -> Result<String> {
    let text = serde_json::to_string_pretty(checks)
        .map_err(|error| Error::host("cannot write the checks as JSON").why(error))?;
    Ok(text + "\n")
}

/// A table of 80 columns, followed by the problems, each with its fix on a separate line that can be copied.
fn as_table(checks: &[Check]) -> String {
    let mut text = String::new();
    let mut row = |status: &str, name: &str, found: &str, minimum: &str, needed_for: &str| {
        let line = format!("{status:8}{name:23}{found:13}{minimum:9}{needed_for}");
        text.push_str(line.trim_end());
        text.push('\n');
    };
    row("", "what", "found", "minimum", "needed for");
    for check in checks {
        row(
            check.status.label(),
            check.name,
            check.found.as_deref().unwrap_or("-"),
            check.minimum.as_deref().unwrap_or(""),
            &check.needed_for.iter().map(|need| need.label()).collect::<Vec<_>>().join(", "),
        );
    }
    for check in checks.iter().filter(|check| check.status != Status::Ok) {
        let problem = check.problem.as_deref().unwrap_or("not found");
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{}: {} ({})", check.status.label(), check.name, check.why);
        let _ = writeln!(text, "\n{}", wrapped(problem, "    "));
        if let Some(fix) = &check.fix {
            let _ = writeln!(text, "    fix: {fix}");
        }
    }
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let _ = writeln!(
        text,
        "\n{} ok, {} warning, {} missing",
        count(Status::Ok),
        count(Status::Warning),
        count(Status::Missing)
    );
    text
}

/// Wraps text at spaces so that it fits 80 columns with this indent.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![indent.to_owned()];
    for word in text.split_whitespace() {
        let mut line = lines.pop().unwrap_or_default();
        if line.len() > indent.len() {
            if line.len() + 1 + word.len() > 80 {
                lines.push(line);
                line = indent.to_owned();
            } else {
                line.push(' ');
            }
        }
        line.push_str(word);
        lines.push(line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
