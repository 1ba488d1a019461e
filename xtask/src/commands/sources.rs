// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask sources`: which kernels the Debian archive has, for `src:` and `debian:`.

use crate::commands::print;
use vmtest_base::error::{Error, Result};
use vmtest_host::context::Context;
use vmtest_kernel::source::archive::{self, Form, ImageRelease, Listed, SourceRelease};

const EXAMPLES: &str = "\
Examples:
  cargo xtask sources
  cargo xtask sources --json";

/// List the kernels available from the Debian archive
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// Debian mirror to query [default: the one that this host's apt uses]
    #[arg(long, env = "VMTEST_DEBIAN_MIRROR", value_name = "URL")]
    pub mirror: Option<String>,
}

/// Prints what the archive lists, newest first.
///
/// # Errors
/// When the archive cannot be reached, or the output cannot be written.
pub fn run(ctx: &Context, args: &Args) -> Result<()> {
    let Args { json, mirror } = args;
    let ctx = Context {
        mirror: mirror.clone().filter(|mirror| !mirror.is_empty()).or_else(|| ctx.mirror.clone()),
        ..ctx.clone()
    };
    let (mirror, rows) = archive::list(&ctx)?;
    let text = if *json {
        let value = serde_json::json!({ "schema": 1, "mirror": mirror, "versions": rows });
        let text = serde_json::to_string_pretty(&value);
        text.map_err(|error| Error::host("cannot write the list as JSON").why(error))? + "\n"
    } else {
        table(&rows)
    };
    print(&text)
}

/// `*` marks what is in the cache. Fits 80 columns; the JSON output has the rest.
fn table(rows: &[Listed]) -> String {
    let mut lines = vec![["VERSION".to_owned(), "SOURCE".to_owned(), "IMAGES".to_owned()]];
    for Listed { version, sources, images, source_cached, images_cached } in rows {
        let mark = if *source_cached { "*" } else { "" };
        let source = forms(sources).map_or_else(|| "-".to_owned(), |forms| format!("{forms}{mark}"));
        lines.push([version.clone(), source, flavours(images, images_cached)]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let mut text = String::new();
    for [version, source, images] in &lines {
        text.push_str(format!("{version:first$}  {source:second$}  {images}").trim_end());
        text.push('\n');
    }
    text.push_str("\n* in the cache. Use them as src:VERSION and debian:VERSION[/FLAVOUR].\n");
    text
}

/// `tarball, package (backports)`: each form with the suite that it would be taken from; `None` without any.
fn forms(sources: &[SourceRelease]) -> Option<String> {
    let suite = |wanted: fn(&Form) -> bool| {
        let first = sources.iter().find(|source| wanted(&source.form));
        first.map(|source| source.suite.as_str())
    };
    let tarball = suite(|form| matches!(form, Form::Tarball));
    let package = suite(|form| matches!(form, Form::Package(_)));
    match (tarball, package) {
        (Some(tarball), Some(package)) if tarball == package => Some(format!("tarball, package ({package})")),
        (Some(tarball), Some(package)) => Some(format!("tarball ({tarball}), package ({package})")),
        (Some(tarball), None) => Some(format!("tarball ({tarball})")),
        (None, Some(package)) => Some(format!("package ({package})")),
        (None, None) => None,
    }
}

fn flavours(images: &[ImageRelease], cached: &[String]) -> String {
    let mut names: Vec<&str> = images.iter().map(|image| image.flavour.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return "-".to_owned();
    }
    let marked = names.into_iter().map(|name| {
        let mark = if cached.iter().any(|cached| cached == name) { "*" } else { "" };
        format!("{name}{mark}")
    });
    marked.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
