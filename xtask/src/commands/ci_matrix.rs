// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask ci-matrix`: the jobs of a matrix for a CI system. Standard output contains only data. An
//! empty matrix is an error, because a CI system treats an empty list as success.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::commands::print;
use vmtest_base::error::{Error, Result};
use vmtest_engine::matrix::{Matrix, Shard};
use vmtest_host::process::shell_word;

const EXAMPLES: &str = "\
Examples:
  cargo xtask ci-matrix                        matrix.toml, for GitHub
  cargo xtask ci-matrix my.toml --format gitlab    a child pipeline
  cargo xtask ci-matrix my.toml --shards 4     four jobs, whatever its size

Each job runs `cargo xtask vmtest --matrix FILE --cell ID` (or --shard I/N)
and uploads its run directory even if it fails. The final result comes from
`cargo xtask report merge DIR... --matrix FILE`.";

/// Most jobs that GitHub accepts in one matrix.
const MAX_GITHUB: usize = 256;

/// Print the jobs of a matrix for a CI system
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Matrix file [default: matrix.toml in the working directory, else in the project]
    #[arg(value_name = "FILE", value_parser = crate::commands::path())]
    file: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "github")]
    format: Format,
    /// Create N jobs that each run a part, instead of one job per cell; at most one per cell
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256), value_name = "N")]
    shards: Option<u32>,
}

/// Formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One line for `strategy.matrix`: {"include": [..]}
    Github,
    /// A child pipeline, as JSON (which is valid YAML)
    Gitlab,
    /// JSON for other programs
    Json,
}

/// The file that is used if none is given.
pub const DEFAULT_FILE: &str = "matrix.toml";

/// Prints the jobs.
///
/// # Errors
/// Class `Usage` for a matrix that is invalid, empty, or too large for the CI system.
pub fn run(args: &Args, project: &Path) -> Result<()> {
    let here = PathBuf::from(DEFAULT_FILE);
    let file = match &args.file {
        Some(file) => file.clone(),
        None if here.is_file() => here,
        None => project.join(DEFAULT_FILE),
    };
    let matrix = Matrix::load(&file, project)?;
    let jobs = jobs(&matrix, args.shards);
    let text = match args.format {
        Format::Github => {
            if jobs.len() > MAX_GITHUB {
                return Err(Error::usage(format!("{} has {} jobs", file.display(), jobs.len()))
                    .why(format!("GitHub allows at most {MAX_GITHUB} jobs in one matrix"))
                    .next("use --shards N"));
            }
            json!({ "include": jobs }).to_string()
        }
        Format::Gitlab => format!("{:#}", gitlab(&file, &jobs)),
        Format::Json => format!("{:#}", json!({ "schema": 1, "cells": jobs })),
    };
    print(&format!("{text}\n"))
}

fn jobs(matrix: &Matrix, shards: Option<u32>) -> Vec<Value> {
    let cells = || matrix.jobs.iter().map(|job| &job.axes);
    let Some(shards) = shards else {
        let select = |id: &str| format!("--cell={id}");
        return cells()
            .map(|axes| {
                json!({
                    "id": axes.id, "select": select(&axes.id), "kernel": axes.kernel, "series": axes.series,
                    "variant": axes.variant, "boot": axes.boot, "suite": axes.suite,
                })
            })
            .collect();
    };
    // An empty shard would be a job that always fails.
    let of = (shards as usize).min(matrix.jobs.len());
    let ids: Vec<&str> = cells().map(|axes| axes.id.as_str()).collect();
    Shard::all(of)
        .enumerate()
        .map(|(at, shard)| {
            json!({
                "id": format!("shard-{}-of-{of}", at + 1), "select": format!("--shard={shard}"),
                "cells": ids[shard.places(ids.len())],
            })
        })
        .collect()
}

/// Directories of the cache that jobs share. Their entries are named by hashes of all inputs, including the
/// origin; build objects are never shared.
const SHARED: [&str; 8] = ["root", "vng", "runner", "kernel", "bpftool", "image", "hashes", "tools"];

/// Jobs that may fail, and one that decides the result: it requires a run of each.
fn gitlab(file: &Path, jobs: &[Value]) -> Value {
    let file = shell_word(&file.to_string_lossy());
    let paths = SHARED.map(|dir| format!("vmtest-cache/{dir}"));
    let cache =
        |policy: &str| json!({ "key": "vmtest-1", "paths": paths, "policy": policy, "when": "always" });
    let setup = "scripts/setup.sh --ci";
    let mut pipeline = serde_json::Map::new();
    let mut add = |name: &str, job: Value| pipeline.insert(name.to_owned(), job);
    add("stages", json!(["build", "cells", "merge"]));
    // Runners check out the project at different paths, and what one builds is used by the others.
    add(
        "variables",
        json!({ "VMTEST_CACHE_DIR": "$CI_PROJECT_DIR/vmtest-cache", "VMTEST_ORIGIN_BASE": "$CI_PROJECT_DIR" }),
    );
    add(
        "build",
        json!({
            "stage": "build",
            "script": [setup, format!("cargo xtask vmtest --matrix {file} --build-only")],
            "cache": cache("pull-push"),
            // A kernel that does not build also fails in its cells, with its class.
            "allow_failure": true,
        }),
    );
    for job in jobs {
        let (id, select) =
            (job["id"].as_str().unwrap_or_default(), job["select"].as_str().unwrap_or_default());
        add(
            id,
            json!({
                "stage": "cells",
                // Regardless of the result of the build.
                "when": "always",
                "script": [setup, format!("cargo xtask vmtest --matrix {file} {select} --out vmtest-runs/{id}")],
                "cache": cache("pull"),
                "artifacts": { "when": "always", "paths": [format!("vmtest-runs/{id}")] },
                // `merge` decides whether that matters.
                "allow_failure": true,
            }),
        );
    }
    let merge = format!(
        "cargo xtask report merge vmtest-runs --matrix {file} --out vmtest-run \
         --output table --output junit=vmtest.xml --output html=vmtest.html"
    );
    add(
        "merge",
        json!({
            "stage": "merge",
            "when": "always",
            "script": [setup, "mkdir -p vmtest-runs", merge],
            "artifacts": {
                "when": "always",
                "paths": ["vmtest-run", "vmtest.html"],
                "reports": { "junit": "vmtest.xml" },
            },
        }),
    );
    Value::Object(pipeline)
}
