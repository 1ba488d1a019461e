// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines that a series adds, as they are in the tree with all of its patches, and which patch added each.
//!
//! The hunks are applied to the files of the base, nearest to where they say, as git does. The result must be the file that
//! git made: otherwise nothing is known of its lines.

use std::collections::BTreeMap;
use std::path::Path;

use crate::diff::{FileDiff, Hunk, parse_stripped};
use crate::patched::PatchedTree;
use vmtest_base::beneath;
use vmtest_base::error::Result;

/// Largest file that is read.
const LARGEST: u64 = 16 << 20;

/// A line that a series adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Its number in the file, from 1.
    pub line: u64,
    /// Number of the patch, from 1.
    pub patch: usize,
    pub text: String,
}

/// A line of a file, and the number of the patch that added it.
type Line = (String, Option<usize>);

/// The added lines of each file that the series of a tree leaves behind, by path. `None`: git made another file than its hunks
/// say, so it is not known which lines are added.
///
/// # Errors
/// If a file cannot be read.
pub fn added(tree: &PatchedTree) -> Result<BTreeMap<String, Option<Vec<Added>>>> {
    let (Some(series), Some(overlay)) = (tree.series(), tree.overlay()) else { return Ok(BTreeMap::new()) };
    let mut files: BTreeMap<String, Option<Vec<Line>>> = BTreeMap::new();
    for (at, patch) in series.patches.iter().enumerate() {
        for file in parse_stripped(&String::from_utf8_lossy(&patch.diff), patch.strip) {
            let (file, from) = if patch.reverse { (reversed(file), None) } else { (file, Some(at + 1)) };
            let before = match &file.old {
                None => Some(Vec::new()),
                Some(old) => match files.remove(old) {
                    Some(known) => known,
                    None => Some(read(&tree.source().dir, old)?),
                },
            };
            let after = before.and_then(|before| applied(before, &file.hunks, from));
            if let Some(new) = file.new {
                files.insert(new, after);
            }
        }
    }
    let mut found = BTreeMap::new();
    for path in &overlay.changed {
        let made = read(&overlay.dir.join("files"), path)?;
        let lines = files.remove(path).flatten().filter(|lines| {
            lines.len() == made.len() && lines.iter().zip(&made).all(|((text, _), (other, _))| text == other)
        });
        found.insert(path.clone(), lines.map(only_added));
    }
    Ok(found)
}

fn only_added(lines: Vec<Line>) -> Vec<Added> {
    let numbered = (1..).zip(lines);
    numbered.filter_map(|(line, (text, patch))| Some(Added { line, patch: patch?, text })).collect()
}

/// The lines of a file; a symlink has none.
fn read(dir: &Path, path: &str) -> Result<Vec<Line>> {
    if !beneath::is_file(dir, path) {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&beneath::read_up_to(dir, path, LARGEST)?).into_owned();
    Ok(text.lines().map(|line| (line.to_owned(), None)).collect())
}

/// What takes a change back.
fn reversed(file: FileDiff) -> FileDiff {
    let swap = |line: String| match line.split_at_checked(1) {
        Some(("+", rest)) => format!("-{rest}"),
        Some(("-", rest)) => format!("+{rest}"),
        _ => line,
    };
    let hunk = |hunk: Hunk| Hunk { body: hunk.body.into_iter().map(swap).collect(), ..hunk };
    FileDiff {
        old: file.new,
        new: file.old,
        hunks: file.hunks.into_iter().map(hunk).collect(),
        ..FileDiff::default()
    }
}

/// A file with these hunks; `None` if one of them does not fit.
fn applied(mut lines: Vec<Line>, hunks: &[Hunk], patch: Option<usize>) -> Option<Vec<Line>> {
    let mut shift = 0_i64;
    let mut from = 0;
    for hunk in hunks {
        let old: Vec<&str> = sided(&hunk.body, '-').collect();
        // A hunk without old lines follows the line that it names.
        let said = i64::try_from(hunk.line).ok()? + shift - i64::from(!old.is_empty());
        let at = place(&lines, &old, usize::try_from(said).unwrap_or(0), from)?;
        shift += i64::try_from(at).ok()? - said;
        let mut new: Vec<Line> = Vec::new();
        let mut taken = at;
        for line in &hunk.body {
            match line.split_at_checked(1) {
                Some(("+", text)) => new.push((text.to_owned(), patch)),
                Some(("-", _)) => taken += 1,
                Some(("\\", _)) => (),
                _ => {
                    new.push(lines.get(taken)?.clone());
                    taken += 1;
                }
            }
        }
        shift += i64::try_from(new.len()).ok()? - i64::try_from(taken - at).ok()?;
        from = at + new.len();
        lines.splice(at..taken, new);
    }
    Some(lines)
}

/// The lines of a side of a hunk: those that stay, and those with this sign.
fn sided(body: &[String], sign: char) -> impl Iterator<Item = &str> {
    body.iter().filter_map(move |line| match line.chars().next() {
        None => Some(""),
        Some(' ') => Some(&line[1..]),
        Some(first) if first == sign => Some(&line[1..]),
        Some(_) => None,
    })
}

/// The index nearest to `said` at which these lines are.
fn place(lines: &[Line], wanted: &[&str], said: usize, from: usize) -> Option<usize> {
    let last = lines.len().checked_sub(wanted.len())?;
    let fits = |at: &usize| lines[*at..].iter().zip(wanted).all(|((text, _), wanted)| text == wanted);
    (from..=last).filter(fits).min_by_key(|at| at.abs_diff(said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::parse_diff;

    fn lines(text: &str) -> Vec<Line> {
        text.split(' ').map(|line| (line.to_owned(), None)).collect()
    }

    fn shown(lines: Option<Vec<Line>>) -> String {
        let one = |(text, patch): Line| patch.map_or(text.clone(), |patch| format!("{text}:{patch}"));
        lines.expect("it fits").into_iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn hunks(body: &str) -> Vec<Hunk> {
        let text = format!("diff --git a/x.c b/x.c\n--- a/x.c\n+++ b/x.c\n{body}");
        parse_diff(&text).remove(0).hunks
    }

    #[test]
    fn lines_know_their_patch_wherever_they_move() {
        let first = hunks("@@ -1,3 +1,4 @@\n a\n+new\n b\n c\n@@ -5,2 +6,2 @@\n e\n-f\n+g\n");
        let once = applied(lines("a b c d e f"), &first, Some(1));
        assert_eq!(shown(once.clone()), "a new:1 b c d e g:1");
        // The second takes one of them away, and its numbers are wrong by two lines.
        let second = hunks("@@ -4,2 +4,3 @@\n-new\n b\n+more\n+lines\n");
        assert_eq!(shown(applied(once.expect("fits"), &second, Some(2))), "a b more:2 lines:2 c d e g:1");
    }

    #[test]
    fn a_hunk_goes_to_the_nearest_place_and_never_before_the_last_one() {
        let twice = "x y x y x y";
        let at = |line: u64| hunks(&format!("@@ -{line},2 +{line},3 @@\n x\n+n\n y\n"));
        assert_eq!(shown(applied(lines(twice), &at(3), Some(1))), "x y x n:1 y x y");
        assert_eq!(shown(applied(lines(twice), &at(9), Some(1))), "x y x y x n:1 y");
        let both = [at(5), at(1)].concat();
        assert_eq!(applied(lines(twice), &both, Some(1)), None, "git refuses it as well");
    }

    #[test]
    fn what_does_not_fit_is_not_guessed_and_new_files_begin_at_the_first_line() {
        assert_eq!(applied(lines("a b"), &hunks("@@ -1,2 +1,3 @@\n a\n+n\n c\n"), Some(1)), None);
        let new = hunks("@@ -0,0 +1,2 @@\n+one\n+two\n");
        assert_eq!(shown(applied(Vec::new(), &new, Some(3))), "one:3 two:3");
        let behind = hunks("@@ -1,0 +2 @@\n+n\n");
        assert_eq!(shown(applied(lines("a b"), &behind, Some(1))), "a n:1 b");
    }

    #[test]
    fn a_reverted_patch_adds_what_it_took() {
        let text = "diff --git a/x.c b/x.c\n--- a/x.c\n+++ b/x.c\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n";
        let file = reversed(parse_diff(text).remove(0));
        assert_eq!(shown(applied(lines("a c"), &file.hunks, None)), "a b");
    }
}
