// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask sources`: which kernels the Debian archive has, for `src:` and `debian:`.

use std::io::Write;

use crate::context::Context;
use crate::error::{Error, IoContext, Result};
use crate::kernel::archive::{self, Form, ImageRelease, Listed};

/// List the kernels that `src:` and `debian:` can name.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Debian mirror to ask; by default the one that this host's apt uses.
    #[arg(long, env = "VMTEST_DEBIAN_MIRROR", value_name = "URL")]
    pub mirror: Option<String>,
}

/// Prints what the archive lists, newest first.
///
/// # Errors
/// When the archive cannot be asked, or the output cannot be written.
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
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // `| head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.on("cannot write to", "standard output"),
    }
}

/// `*` marks what is in the cache.
fn table(rows: &[Listed]) -> String {
    let mut lines = vec![["VERSION".to_owned(), "SOURCE".to_owned(), "IMAGES".to_owned()]];
    for Listed { version, sources, images, source_cached, images_cached } in rows {
        let mut forms: Vec<String> = Vec::new();
        for source in sources {
            let form = match &source.form {
                Form::Tarball => format!("tarball ({})", source.suite),
                Form::Package(_) => format!("package ({})", source.suite),
            };
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
        let mark = if *source_cached { "*" } else { "" };
        let source = if forms.is_empty() { "-".to_owned() } else { format!("{}{mark}", forms.join(", ")) };
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

fn flavours(images: &[ImageRelease], cached: &[String]) -> String {
    let mut names: Vec<String> = images
        .iter()
        .map(|image| {
            let mark = if cached.contains(&image.flavour) { "*" } else { "" };
            format!("{}{mark}", image.flavour)
        })
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::archive::SourceRelease;

    #[test]
    fn the_table_marks_what_is_cached() {
        let source = SourceRelease {
            upstream: "7.3.4".to_owned(),
            version: "7.3.4-1~bpo13+1".to_owned(),
            form: Form::Tarball,
            suite: "backports".to_owned(),
            sha256: "00".to_owned(),
            size: 1,
        };
        let rows = [Listed {
            version: "7.3.4".to_owned(),
            sources: vec![source],
            images: Vec::new(),
            source_cached: true,
            images_cached: Vec::new(),
        }];
        let text = table(&rows);
        assert_eq!(text.lines().nth(1), Some("7.3.4    tarball (backports)*  -"));
    }
}
