// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page of a run in a real browser: what it shows, what its filters and keys do, and that it is
//! self-contained.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::pages;
use crate::bisect::{FAIL, PASS, UNBUILT, bisect, line};
use crate::support::{TESTS, World};

/// Its names in various distributions.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const DARK: &str = "--blink-settings=preferredColorScheme=0";

/// Runs headless Chromium on a page. Without it nothing is proven, so that is a failure.
fn browser(page: &str, words: &[&str]) -> String {
    let profile = tempfile::tempdir().expect("a directory");
    for name in BROWSERS {
        let mut command = Command::new(name);
        // Its sandbox needs permissions that a container may not have; the page is our own.
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.args(["--window-size=1300,1000", "--virtual-time-budget=5000"]).args(words).arg(page);
        match command.output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{name}: {said}");
                return String::from_utf8_lossy(&output.stdout).into_owned();
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
            Err(error) => panic!("{name}: {error}"),
        }
    }
    panic!("none of {BROWSERS:?} is there; scripts/setup.sh --ci installs one");
}

/// The page of a run with two columns, in which a test fails and a guest dies.
fn page(world: &World) -> PathBuf {
    let kernel =
        |name: &str, does: &str| format!("tree:{}", world.tree(name, &format!("guest: {does}")).display());
    let (fine, fails, dies) =
        (kernel("fine", "pass"), kernel("fails", "contradicts"), kernel("dies", "panic"));
    let file = world.path("page.html");
    let output = format!("html={}", file.display());
    let kernels = ["--kernel", &fine, "--kernel", &fails, "--kernel", &dies];
    world.run(&[&kernels[..], &["--boot", "direct", "--output", &output]].concat()).exits(21);
    file
}

/// The result of a script that runs in the page and acts like its reader.
fn told(world: &World, page: &Path, script: &str, words: &[&str]) -> Value {
    let text = fs::read_to_string(page).expect("the page");
    let driven = text.replace(
        "</body>",
        &format!(
            "<script>\n{HELPERS}\n(async () => {{\nconst out = {{}};\n\
             try {{\n{script}\n}} catch (error) {{ out.error = String(error); }}\n\
             const pre = document.createElement('pre');\npre.id = 'told';\npre.textContent = JSON.stringify(out);\n\
             document.body.append(pre);\n}})();\n</script></body>"
        ),
    );
    assert_ne!(driven, text);
    let file = world.write("driven.html", &driven);
    let dom = browser(&format!("file://{}", file.display()), &[&["--dump-dom"], words].concat());
    let told = dom.split("<pre id=\"told\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let told = told.unwrap_or_else(|| panic!("the script did not come to its end\n{dom}"));
    let told = told.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let value: Value = serde_json::from_str(&told).expect("JSON");
    assert!(value["error"].is_null(), "{value:#}");
    value
}

const HELPERS: &str = include_str!("scripts/helpers.js");

#[test]
#[ignore = "runs in CI, where a browser is installed: cargo xtask test --interop"]
fn filters_and_keys_do_what_they_say() {
    let world = World::new();
    let page = page(&world);
    let script = include_str!("scripts/filters.js");
    let told = told(&world, &page, script, &[]);
    let is = |name: &str, value: Value| assert_eq!(told[name], value, "{name}\n{told:#}");
    is("start", serde_json::json!(["basic: second", "many: third"]));
    is("few", "2 of 3 tests".into());
    is("all", serde_json::json!([3, "3 tests"]));
    is("text", serde_json::json!(["basic: first"]));
    is("reason", serde_json::json!(["basic: second", "many: third"]));
    is("column", serde_json::json!(["many: third"]));
    is("none", serde_json::json!([0, "0 of 3 tests"]));
    is("again", serde_json::json!(["basic: second", "many: third"]));
    is("slash", "filter-text".into());
    is("first", "fail: basic/second on tree:fails".into());
    is("right", "crash: basic/second on tree:dies".into());
    is("beside", "missing: many/third on tree:dies".into());
    is("left", "crash: basic/second on tree:dies".into());
    assert!(told["copied"].as_str().is_some_and(|text| text.ends_with(" --test basic/second")), "{told:#}");
    is("panel", serde_json::json!(["block", "fixed", "dialog", true]));
    is("heading", "crash basic/second".into());
    assert!(told["mark"].as_str().is_some_and(|line| line.contains("NULL pointer dereference")), "{told:#}");
    is("others", 1.into());
    is("closed", serde_json::json!([0, true]));
    is("wrong", "crash basic/second".into());
    is("shut", 0.into());
}

#[test]
#[ignore = "runs in CI, where a browser is installed: cargo xtask test --interop"]
fn it_is_readable_in_light_and_dark_and_everything_has_a_name() {
    let world = World::new();
    let page = page(&world);
    let script = include_str!("scripts/readable.js");
    for (words, dark) in [(&[][..], false), (&[DARK], true), (&["--window-size=520,900"], false)] {
        let told = told(&world, &page, script, words);
        assert_eq!(told["dark"], dark, "{told:#}");
        assert!(told["checked"].as_u64().is_some_and(|count| count > 60), "{told:#}");
        for name in ["faint", "twice", "nowhere"] {
            assert_eq!(told[name], serde_json::json!([]), "{name}\n{told:#}");
        }
        for name in ["nameless", "labels", "scopes", "loaded"] {
            assert_eq!(told[name], 0, "{name}\n{told:#}");
        }
        assert_eq!(told["wide"], true, "nothing is wider than the window\n{told:#}");
    }
}

#[test]
#[ignore = "runs in CI, where a browser is installed: cargo xtask test --interop"]
fn without_a_network_and_without_a_script_everything_is_there() {
    let world = World::new();
    let page = page(&world);
    let text = fs::read_to_string(&page).expect("the page");
    for word in ["http://", "https://", "src=", "url(", "@import", "<link"] {
        assert!(!text.contains(word), "{word}");
    }
    let address = format!("file://{}", page.display());
    let blocked = text.replace("script-src 'unsafe-inline'", "script-src 'none'");
    assert_ne!(blocked, text);
    let blocked = world.write("blocked.html", &blocked);
    let dom = browser(&format!("file://{}", blocked.display()), &["--dump-dom"]);
    assert!(dom.contains("<html lang=\"en\">"), "no script ran\n{dom}");
    assert!(
        TESTS.iter().all(|test| dom.contains(&format!(">{}</th>", test.rsplit('/').next().unwrap_or(test)))),
        "{dom}"
    );
    assert!(dom.contains("<mark>") && dom.contains("NULL pointer dereference"), "{dom}");
    for (name, words) in [("light", &[][..]), ("dark", &[DARK])] {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}.png"));
        let _ = fs::remove_file(&file);
        browser(
            // Without an anchor: headless screenshots of a scrolled page are blank.
            &address,
            &[&[&*format!("--screenshot={}", file.display())], words].concat(),
        );
        let picture = fs::read(&file).expect("a picture");
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{} bytes", picture.len());
    }
}

/// A reader's questions, each answered within two clicks: which patch, since when, expected and seen, how to
/// repeat, is it new.
#[test]
#[ignore = "runs in CI, where a browser is installed: cargo xtask test --interop"]
fn pages_fit_a_phone_and_a_screen() {
    let world = World::new();
    let write = |name: &str, text: String| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.html"));
        fs::write(&file, text).expect("written");
        file
    };
    let series = write("series", pages::page(&pages::series()));
    let failing = write("failing", pages::page(&pages::failing()));
    let [found, hidden] = bisections(&world);
    let matrix = page(&world);
    let pages =
        [("series", series), ("failing", failing), ("matrix", matrix), ("found", found), ("hidden", hidden)];
    for (name, page) in pages {
        for (size, width, page) in [("screen", 1280, page.clone()), ("phone", 400, phone(&world, &page))] {
            for (mode, dark) in [("light", &[][..]), ("dark", &[DARK])] {
                let words = [&["--window-size=1280,1600"], dark].concat();
                let script = "await rest();\nconst frame = document.querySelector('iframe');\n\
                              const shown = frame ? frame.contentWindow : window;\n\
                              out.wide = [shown.document.documentElement.scrollWidth, shown.innerWidth];";
                if mode == "light" {
                    let told = told(&world, &page, script, &words);
                    assert_eq!(told["wide"], serde_json::json!([width, width]), "{name} {size}");
                }
                let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{size}-{mode}.png"));
                let shot = format!("--screenshot={}", file.display());
                browser(&format!("file://{}", page.display()), &[&[&*shot], &words[..]].concat());
                assert!(fs::read(&file).expect("a picture").starts_with(b"\x89PNG"));
            }
        }
    }
}

/// The same page, 400 pixels wide: a window has at least 500.
fn phone(world: &World, page: &Path) -> PathBuf {
    let text = fs::read_to_string(page).expect("the page");
    let text = text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let frame =
        format!("<iframe style=\"border:0\" width=\"400\" height=\"1600\" srcdoc=\"{text}\"></iframe>");
    world.write("phone.html", &format!("<!DOCTYPE html><html><body style=\"margin:0\">{frame}</body></html>"))
}

/// The pages of two bisections of 23 commits: one finds its culprit, in the other one skips hide it.
fn bisections(world: &World) -> [PathBuf; 2] {
    let mut does = vec![PASS; 15];
    does.extend([FAIL; 8]);
    (does[11], does[17]) = (UNBUILT, UNBUILT);
    let top = line(world, &does);
    let (found, hidden) = (world.path("found.html"), world.path("hidden.html"));
    let words = |file: &Path| ["--output".to_owned(), format!("html={}", file.display())];
    bisect(world, &top, "HEAD~22", "HEAD", &words(&found).each_ref().map(String::as_str)).exits(0);
    (does[13], does[14], does[15]) = (UNBUILT, UNBUILT, UNBUILT);
    let world_of_skips = World::new();
    let top = line(&world_of_skips, &does);
    let hides = words(&hidden);
    bisect(&world_of_skips, &top, "HEAD~22", "HEAD", &hides.each_ref().map(String::as_str)).exits(3);
    [found, hidden]
}

#[test]
#[ignore = "runs in CI, where a browser is installed: cargo xtask test --interop"]
fn the_picture_of_a_bisection_is_readable() {
    let world = World::new();
    let readable = include_str!("scripts/readable.js");
    let picture = include_str!("scripts/bisection.js");
    for (page, name) in bisections(&world).iter().zip(["found", "hidden"]) {
        for (words, mode) in [(&[][..], "light"), (&[DARK], "dark"), (&["--window-size=520,900"], "narrow")] {
            let told = told(&world, page, &format!("{readable}\n{picture}"), words);
            assert_eq!(told["dark"], mode == "dark", "{told:#}");
            for list in ["faint", "twice", "nowhere", "overlaps", "outside"] {
                assert_eq!(told[list], serde_json::json!([]), "{name} {mode} {list}\n{told:#}");
            }
            for count in ["nameless", "labels", "scopes", "loaded"] {
                assert_eq!(told[count], 0, "{name} {mode} {count}\n{told:#}");
            }
            assert_eq!(told["wide"], true, "{name} {mode}\n{told:#}");
            let count = |what: &str| told[what].as_u64().unwrap_or_default();
            // A shape for each verdict: not everyone can distinguish the colours.
            assert!(
                count("discs") >= 2 && count("squares") >= 2 && count("diamonds") >= 1,
                "{name}\n{told:#}"
            );
            assert_eq!(count("discs") + count("squares") + count("diamonds"), count("rows"), "{told:#}");
            assert_eq!(told["culprit"], name == "found", "{told:#}");
            assert_eq!(told["hides"], name == "hidden", "{told:#}");
            assert_eq!(told["through"], name == "found", "its line goes through its mark\n{told:#}");
            if mode != "narrow" {
                let file =
                    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bisection-{name}-{mode}.png"));
                let shot = format!("--screenshot={}", file.display());
                browser(&format!("file://{}", page.display()), &[&[&*shot], words].concat());
                assert!(fs::read(&file).expect("a picture").starts_with(b"\x89PNG"));
            }
        }
    }
}

#[test]
#[ignore = "runs in CI, where a browser is installed: cargo xtask test --interop"]
fn what_a_guest_says_never_runs() {
    let world = World::new();
    let page = page(&world);
    let dir = world.path("state/vmtest/runs/latest");
    let file = dir.join("run.json");
    let mut json: Value = serde_json::from_str(&fs::read_to_string(&file).expect("read")).expect("JSON");
    let hostile = "</pre></script><script>document.title='owned'</script>\
                   <img src=x onerror=\"document.title='owned'\">\" onfocus=\"document.title='owned'";
    for cell in json["cells"].as_array_mut().expect("cells") {
        for field in ["reason", "log", "subtest", "kernel"] {
            cell[field] = format!("{}{hostile}", cell[field].as_str().unwrap_or_default()).into();
        }
    }
    for boot in json["boots"].as_array_mut().expect("boots") {
        boot["kernel"] = format!("{}{hostile}", boot["kernel"].as_str().unwrap_or_default()).into();
    }
    fs::write(&file, json.to_string()).expect("written");
    let output = format!("html={}", page.display());
    let done = world.start(world.command(&["report", "export", "--output", &output])).done();
    assert_eq!(done.status.code(), Some(21), "{done}");
    let script = "document.querySelectorAll('a').forEach((a) => a.focus());\nawait rest();\n\
                  out.title = document.title;\n\
                  out.scripts = document.scripts.length;\nout.images = document.images.length;";
    let told = told(&world, &page, script, &[]);
    let title = told["title"].as_str().unwrap_or_default();
    assert!(title.starts_with("vmtest: FAILED: kernel panic or oops during basic/second</pre>"), "{told:#}");
    // The page's own script, and that of this test.
    assert_eq!((&told["scripts"], &told["images"]), (&2.into(), &0.into()), "{told:#}");
}
