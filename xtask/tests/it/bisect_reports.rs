// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports of `cargo xtask bisect`: every format for every way to end, the position of each kernel in its
//! history, and what is rejected before any work.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bisect::{FAIL, PASS, SKIP, UNBUILT, bisect, command, image, line, record, words};
use crate::support::{Done, World, git, text};

const FORMATS: [&str; 4] = ["text", "json", "markdown", "html"];

/// `--output` to a file for each format.
fn every_format() -> Vec<String> {
    FORMATS.iter().flat_map(|format| ["--output".to_owned(), format!("{format}=out.{format}")]).collect()
}

/// Asserts that every format was written and contains this answer; returns the data.
#[track_caller]
fn written(world: &World, answer: &str, code: i32, says: &[&str]) -> Value {
    let json: Value = serde_json::from_str(&world.read("out.json")).expect("JSON");
    assert_eq!((text(&json["answer"]), &json["exit_code"]), (answer.to_owned(), &code.into()));
    let read =
        |format: &str| world.read(&format!("out.{format}")).split_whitespace().collect::<Vec<_>>().join(" ");
    for format in ["text", "markdown", "html"] {
        for part in says {
            assert!(read(format).contains(part), "{format} does not say {part:?}\n{}", read(format));
        }
    }
    assert!(read("text").ends_with(&format!("exit {code}: {answer}")), "{}", read("text"));
    let (page, found) = (read("html"), answer == "found");
    assert!(page.contains(&format!("<title>vmtest: {answer} (first ")), "{page}");
    assert_eq!(page.contains("<span class=\"badge ok\">found</span>"), found, "{page}");
    assert!(page.ends_with("</body></html>") && page.contains("<svg class=\"bisection wide\""), "{page}");
    json
}

/// Asserts that each tested kernel has its position, and that the page of a run draws them.
#[track_caller]
fn drawn(world: &World, done: &Done, subjects: &[(&str, usize)]) {
    let report = &record(done)["report"];
    let path = report["path"].as_array().expect("a path");
    let history = report["history"].as_u64().expect("a number");
    assert!(path.iter().all(|step| step["place"].as_u64().is_some_and(|at| at <= history)), "{report:#}");
    for (name, place) in subjects {
        let step = path.iter().find(|step| step["subject"] == *name || step["name"] == *name);
        assert_eq!(step.unwrap_or_else(|| panic!("{name}\n{report:#}"))["place"], *place, "{name}");
    }
    let spec = format!("tree:{}", world.tree("beside", PASS).display());
    world.run(&["--kernel", &spec, "--boot", "direct"]).exits(0);
    let bisection = done.run_dir.as_ref().expect("a run").display().to_string();
    let words = ["report", "export", "--output", "html=page.html", "--bisection", &bisection];
    world.start(world.command(&words)).done().exits(0);
    let page = world.read("page.html");
    let mut names: Vec<String> = path.iter().map(|step| text(&step["name"])).collect();
    names.dedup();
    // For a screen, and for a phone.
    assert_eq!(page.matches("<line class=\"axis\"").count(), 2 * names.len(), "{page}");
    for name in names {
        assert!(page.contains(&format!("</tspan> {name}")), "{name}\n{page}");
    }
}

#[test]
fn every_format_is_written_whatever_the_end() {
    let world = World::new();
    let output = every_format();
    let output: Vec<&str> = output.iter().map(String::as_str).collect();
    let top = line(&world, &[PASS, PASS, PASS, PASS, FAIL, FAIL, FAIL, FAIL]);
    let done = bisect(&world, &top, "HEAD~7", "HEAD", &output);
    done.exits(0).says(&["first bad commit:", "exit 0: found"]);
    let says = ["number 4", "number 3", "basic/second fail", "all 3 tests passed", "t@example.org"];
    let json = written(&world, "found", 0, &says);
    assert_eq!(json, record(&done)["report"]);
    drawn(&world, &done, &[("first", 0), ("number 7", 7), ("number 4", 4), ("number 3", 3)]);

    let done = bisect(&world, &top, "HEAD~2", "HEAD", &output);
    done.exits(2);
    written(&world, "wrong end", 2, &["number 5", "(--good) is bad, not good"]);

    let world = World::new();
    let top = line(&world, &[PASS, UNBUILT, UNBUILT, UNBUILT, FAIL]);
    bisect(&world, &top, "HEAD~4", "HEAD", &output).exits(3);
    let json = written(&world, "hidden", 3, &["is one of 4", "number 1", "number 2", "kernel build failed"]);
    assert!(json["first"].is_null(), "{json:#}");
    assert!(world.read("out.html").contains("class=\"hides\""));

    let world = World::new();
    let top = line(&world, &[PASS, UNBUILT]);
    bisect(&world, &top, "HEAD~1", "HEAD", &output).exits(12);
    written(&world, "an end cannot be judged", 12, &["number 1", "kernel build failed"]);
}

#[test]
fn an_interruption_tells_how_far_it_came_and_gives_no_answer() {
    let world = World::new();
    let top = line(&world, &[PASS, PASS, "guest: idle", FAIL, FAIL]);
    let output = every_format();
    let output: Vec<&str> = output.iter().map(String::as_str).collect();
    let mut running = world.start(command(&world, &words(&top, "HEAD~4", "HEAD", &output)));
    running.wait_for_hang();
    running.signal(Signal::SIGINT);
    let done = running.done();
    done.exits(130).says(&["interrupted", "cargo xtask bisect --resume 20"]);
    let says = ["no answer yet after 2 kernel run(s)", "number 4", "cargo xtask bisect --resume 20"];
    // The Markdown is for readers of an answer; how to resume is in the other formats.
    for format in ["text", "html"] {
        says.iter().for_each(|part| {
            assert!(world.read(&format!("out.{format}")).contains(part), "{format}: {part}")
        });
    }
    let json = written(&world, "interrupted", 130, &says[..2]);
    assert!(json["first"].is_null() && json["path"].as_array().map(Vec::len) == Some(2), "{json:#}");
    // It is unfinished: no page of a run shows it as if it were finished.
    assert!(record(&done)["report"].is_null());
    let name = done.run_dir.expect("a run").display().to_string();
    let spec = format!("tree:{}", world.tree("beside", PASS).display());
    world.run(&["--kernel", &spec, "--boot", "direct"]).exits(0);
    let words = ["report", "export", "--output", "html=page.html", "--bisection", &name];
    world.start(world.command(&words)).done().refuses(30, &["it is not finished", "--resume"]);
}

#[test]
fn merges_patches_and_images_have_places_too() {
    let world = World::new();
    let top = world.repo("linux", PASS);
    git(&top, &["checkout", "-qb", "side"]);
    fs::write(top.join("side"), "1\n").expect("written");
    world.commit(&top, "side 1");
    git(&top, &["checkout", "-q", "main"]);
    fs::write(top.join("main"), "1\n").expect("written");
    world.commit(&top, "main 1");
    git(&top, &["merge", "-q", "--no-ff", "--no-commit", "side"]);
    fs::write(top.join("fake.does"), FAIL).expect("written");
    world.commit(&top, "the merge");
    let done = bisect(&world, &top, "main~2", "main", &[]);
    done.exits(0).says(&["the merge"]);
    drawn(&world, &done, &[("first", 0), ("the merge", 3)]);
    // The good endpoint is on a separate branch: the merge base is at position 0 as well.
    git(&top, &["checkout", "-qb", "apart", "main~2"]);
    fs::write(top.join("apart"), "1\n").expect("written");
    world.commit(&top, "apart 1");
    let done = bisect(&world, &top, "apart", "main", &[]);
    done.exits(0);
    drawn(&world, &done, &[("apart 1", 0), ("first", 0), ("the merge", 3)]);

    let world = World::new();
    let top = line(&world, &[SKIP, SKIP, SKIP, PASS, PASS, PASS]);
    git(&top, &["format-patch", "-q", "-o", "../series", "HEAD~5"]);
    git(&top, &["checkout", "-q", "HEAD~5"]);
    let tree = format!("tree:{}", top.display());
    let first = ["bisect", "--toolchain", "host", "--accel", "tcg", "--find-fix", "--test", "basic/*"];
    let more = ["--boot", "direct", "--good", &tree, "--bad", &tree, "--patches", "series"];
    let done = world.start(world.command(&[&first[..], &more].concat())).done();
    done.exits(0).says(&["patch 3"]);
    drawn(&world, &done, &[("no patch", 0), ("patch 2", 2), ("patch 3", 3), ("patch 5", 5)]);

    let world = World::new();
    let versions = ["6.9.1", "6.10.3", "6.12.94", "6.12.107", "7.0.4", "7.0.12"];
    for (at, version) in versions.iter().enumerate() {
        image(&world, version, if at < 3 { SKIP } else { PASS });
    }
    let index = serde_json::json!({ "mirror": "fake", "read_at": 0, "sources": [], "images": [] });
    world.write("cache/apt/host/index.json", &index.to_string());
    let more = ["--good", "debian:6.9.1", "--bad", "debian:7.0.12"];
    let done = world.start(world.command(&[&first[..], &more].concat())).done();
    done.exits(0);
    drawn(
        &world,
        &done,
        &[("debian:6.9.1", 0), ("debian:6.12.94", 2), ("debian:6.12.107", 3), ("debian:7.0.12", 5)],
    );
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_any_work() {
    let world = World::new();
    let top = line(&world, &[PASS, FAIL]);
    let refuses = |more: &[&str], code: i32, says: &[&str]| {
        bisect(&world, &top, "HEAD~1", "HEAD", more).refuses(code, says);
    };
    for format in ["junit", "ktap", "table", "nothing"] {
        let done = bisect(&world, &top, "HEAD~1", "HEAD", &["--output", &format!("{format}=x")]);
        assert_eq!(done.status.code(), Some(2), "{done}");
        done.says(&[&format!("unknown format \"{format}\"; formats are text, json, markdown, html")]);
    }
    refuses(&["--output", "html=nowhere/at/all.html"], 30, &["nowhere/at/all.html"]);
    refuses(&["--output", "html=bin"], 2, &["is a directory"]);
    refuses(&["--output", "html", "--json", "-"], 2, &["two reports would go to standard output"]);
    let script = bisect(&world, &top, "HEAD~1", "HEAD", &["--script", "--output", "html=x"]);
    assert_eq!(script.status.code(), Some(2), "{script}");
    assert!(!world.path("state/vmtest/runs").exists() && world.made("vmlinux") == 0, "no run was begun");
}

#[test]
fn standard_output_holds_one_report_and_a_job_gets_a_summary() {
    let world = World::new();
    let top = line(&world, &[PASS, FAIL]);
    let summary = world.write("summary.md", "before\n");
    let mut command = command(&world, &words(&top, "HEAD~1", "HEAD", &["--output", "json"]));
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
    let done = world.start(command).done();
    let json: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}\n{done}"));
    assert_eq!(json["answer"], "found");
    let text = fs::read_to_string(summary).expect("the summary");
    assert!(text.starts_with("before\n# First bad commit") && text.contains("number 1"), "{text}");
    let done = bisect(&world, &top, "HEAD~1", "HEAD", &["--output", "html"]);
    assert!(done.stdout.starts_with("<!DOCTYPE html>") && done.stdout.ends_with("</html>\n"), "{done}");
}
