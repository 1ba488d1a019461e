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
    let ctx = Context { mirror: mirror.clone().or_else(|| ctx.mirror.clone()), ..ctx.clone() };
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
mod tests {
    use super::*;

    fn source(form: Form, suite: &str) -> SourceRelease {
        SourceRelease {
            upstream: "6.12.107".to_owned(),
            version: "6.12.107-1".to_owned(),
            form,
            suite: suite.to_owned(),
            sha256: "00".to_owned(),
            size: 1,
        }
    }

    fn image(flavour: &str) -> ImageRelease {
        ImageRelease {
            upstream: "6.12.107".to_owned(),
            flavour: flavour.to_owned(),
            package: "linux-image".to_owned(),
            version: "6.12.107-1".to_owned(),
            config_package: None,
            signed: true,
            suite: "stable".to_owned(),
            sha256: "00".to_owned(),
            size: 1,
        }
    }

    #[test]
    fn the_table_marks_what_is_cached() {
        let rows = [Listed {
            version: "7.3.4".to_owned(),
            sources: vec![source(Form::Tarball, "backports")],
            images: Vec::new(),
            source_cached: true,
            images_cached: Vec::new(),
        }];
        let text = table(&rows);
        assert_eq!(text.lines().nth(1), Some("7.3.4    tarball (backports)*  -"));
    }

    #[test]
    fn the_widest_row_fits_80_columns() {
        let package = |suite| source(Form::Package("linux-source-6.12".to_owned()), suite);
        let flavours = ["amd64", "cloud-amd64", "rt-amd64"];
        let rows = [Listed {
            version: "6.12.107".to_owned(),
            sources: vec![source(Form::Tarball, "backports"), package("testing"), package("stable")],
            images: flavours.into_iter().chain(flavours).map(image).collect(),
            source_cached: true,
            images_cached: flavours.map(str::to_owned).to_vec(),
        }];
        let text = table(&rows);
        let widest = text.lines().max_by_key(|line| line.len()).expect("lines");
        assert_eq!(
            widest,
            "6.12.107  tarball (backports), package (testing)*  amd64* cloud-amd64* rt-amd64*"
        );
        assert!(widest.len() <= 80, "{}", widest.len());
    }
}
