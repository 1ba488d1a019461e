// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bpftool of the tree under test: what it shows of a session, and that it can load one. The host
//! provides it if the kernel was built from a tree; otherwise these subtests are not planned.

use super::info::{Counted, count_slow_runs};
use super::{Context, Subtest, subtests};
use crate::bpf;
use std::ffi::CString;
use std::process::Command;

/// Name of this group: its subtests need a bpftool.
pub const GROUP: &str = "tools";

subtests! { "tools":
    Normal link_show ["no_kfunc"] needs PlainSessions
        "`bpftool link show` names the attach type of a session's link: trace_fsession.";
    Normal link_show_json ["no_kfunc"] needs PlainSessions
        "`bpftool -j link show` names the attach type of a session's link: trace_fsession.";
    Normal prog_show ["slow"] needs PlainSessions
        "`bpftool prog show` has a session as a tracing program, and two runs a call.";
    Normal prog_show_json ["slow"] needs PlainSessions
        "`bpftool -j prog show` has a session as a tracing program, and two runs a call.";
    Normal prog_load_type [] needs PlainSessions
        "`bpftool prog load OBJ PIN type fsession` loads a program that attaches as a session and runs twice a call.";
}

/// Output of bpftool. Unless it succeeds, an error with its output.
fn bpftool(t: &Context, args: &[&str]) -> Result<String, String> {
    let what = || format!("bpftool {}", args.join(" "));
    let output = Command::new(t.bpftool)
        .args(args)
        .output()
        .map_err(|err| format!("{}: {}: {err}", what(), t.bpftool))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!("{}: {}: {}{}", what(), output.status, err.trim(), out.trim()));
    }
    Ok(out.into_owned())
}

const NAME: &str = "trace_fsession";

fn link_show(t: &mut Context) -> Result<(), String> {
    let link = t.attach("no_kfunc")?;
    let id = link.id().map_err(|errno| format!("info of the link: {errno}"))?.to_string();
    // Not `link show id ID`: its exit status is a stale errno, whatever it finds (in 6.18 and 7.3).
    let text = bpftool(t, &["link", "show"])?;
    let words = entry(&text, &id);
    let after = |word: &str| after(&words, word);
    t.checks.eq(format!("behind {id}:"), after(&format!("{id}:")), "tracing");
    t.checks.eq("behind prog_type", after("prog_type"), "tracing");
    t.checks.eq("behind attach_type", after("attach_type"), NAME);
    Ok(())
}

/// Words of the entry of a link: a line that starts with its ID, and the indented lines after it.
fn entry<'a>(text: &'a str, id: &str) -> Vec<&'a str> {
    let begins = |line: &&str| line.strip_prefix(id).is_some_and(|rest| rest.starts_with(':'));
    let lines = text.lines().skip_while(|line| !begins(line));
    let first_or_indented = |(at, line): &(usize, &str)| *at == 0 || line.starts_with(['\t', ' ']);
    let lines = lines.enumerate().take_while(first_or_indented);
    lines.flat_map(|(_, line)| line.split_ascii_whitespace()).collect()
}

/// The word after another.
fn after<'a>(words: &[&'a str], word: &str) -> &'a str {
    let at = words.iter().position(|found| *found == word);
    at.and_then(|at| words.get(at + 1)).copied().unwrap_or("nothing")
}

fn link_show_json(t: &mut Context) -> Result<(), String> {
    let link = t.attach("no_kfunc")?;
    let id = link.id().map_err(|errno| format!("info of the link: {errno}"))?;
    let text = bpftool(t, &["-j", "link", "show"])?;
    let links: Vec<serde_json::Value> =
        serde_json::from_str(&text).map_err(|err| format!("bpftool -j link show: {err}: {text}"))?;
    let ours: Vec<_> = links.iter().filter(|link| link["id"] == id).collect();
    t.checks.eq("entries of the link", ours.len(), 1);
    let text = |key: &str| ours.first().and_then(|link| link[key].as_str()).unwrap_or("nothing").to_owned();
    t.checks.eq("type", text("type"), "tracing".to_owned());
    t.checks.eq("prog_type", text("prog_type"), "tracing".to_owned());
    t.checks.eq("attach_type", text("attach_type"), NAME.to_owned());
    Ok(())
}

fn prog_show(t: &mut Context) -> Result<(), String> {
    let Counted { id, runs } = count_slow_runs(t)?;
    let id = id.to_string();
    let text = bpftool(t, &["prog", "show"])?;
    let words = entry(&text, &id);
    t.checks.eq(format!("behind {id}:"), after(&words, &format!("{id}:")), "tracing");
    t.checks.eq("behind name", after(&words, "name"), "slow");
    t.checks.eq("behind run_cnt", after(&words, "run_cnt"), runs.to_string().as_str());
    Ok(())
}

fn prog_show_json(t: &mut Context) -> Result<(), String> {
    let Counted { id, runs } = count_slow_runs(t)?;
    let text = bpftool(t, &["-j", "prog", "show"])?;
    let programs: Vec<serde_json::Value> =
        serde_json::from_str(&text).map_err(|err| format!("bpftool -j prog show: {err}: {text}"))?;
    let ours: Vec<_> = programs.iter().filter(|program| program["id"] == id).collect();
    t.checks.eq("entries of the program", ours.len(), 1);
    let text = |key: &str| ours.first().and_then(|ours| ours[key].as_str()).unwrap_or("nothing").to_owned();
    t.checks.eq("type", text("type"), "tracing".to_owned());
    t.checks.eq("name", text("name"), "slow".to_owned());
    let seen = ours.first().map(|ours| ours["run_cnt"].to_string()).unwrap_or_default();
    t.checks.eq("run_cnt", seen, runs.to_string());
    Ok(())
}

/// Files of a subtest, removed with it.
struct Files([String; 2]);

impl Drop for Files {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path); // it may never have been created
        }
    }
}

fn prog_load_type(t: &mut Context) -> Result<(), String> {
    let id = std::process::id();
    let files = Files([format!("/tmp/tools-{id}.bpf.o"), format!("/sys/fs/bpf/tools-{id}")]);
    let [object, pin] = &files.0;
    std::fs::write(object, bpf::TOOLS_OBJECT).map_err(|err| format!("write {object}: {err}"))?;
    bpftool(t, &["prog", "load", object, pin, "type", "fsession"])?;
    let path = CString::new(pin.as_str()).map_err(|err| err.to_string())?;
    let program = bpf::pinned_session(&path).map_err(|errno| format!("open {pin}: {errno}"))?;
    let _stats = bpf::enable_stats().map_err(|errno| format!("BPF_ENABLE_STATS: {errno}"))?;
    let link = program.attach(0);
    let seen = link.as_ref().map_or_else(|errno| errno.to_string(), |_| "attached".to_owned());
    t.checks.eq("attaching it as a session", seen, "attached".to_owned());
    let runs = || program.runs().map_err(|errno| format!("info of {pin}: {errno}"));
    let before = runs()?;
    t.call_fentry_tests()?;
    t.checks.eq("its runs in one call", runs()? - before, 2);
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn an_entry_is_a_line_and_what_is_indented_below_it() {
        let text = "1: iter  prog 4  \n\ttarget_name bpf_map  \n12: tracing  prog 11  \n\tprog_type tracing  \
                    attach_type trace_fsession  \n\ttarget_obj_id 1  target_btf_id 34605  \n";
        assert_eq!(entry(text, "1"), ["1:", "iter", "prog", "4", "target_name", "bpf_map"]);
        assert_eq!(entry(text, "12")[4..8], ["prog_type", "tracing", "attach_type", "trace_fsession"]);
        assert!(entry(text, "2").is_empty());
    }
}
