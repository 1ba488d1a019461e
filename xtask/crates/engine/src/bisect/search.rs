// SPDX-License-Identifier: MIT OR Apache-2.0
//! The search for the first kernel with some property: Good, Bad and Skip over a history. Pure: it builds,
//! boots and looks up nothing, and keeps no state. The next step follows from the runs so far alone, so a
//! search that was killed resumes as if nothing had happened, and a verdict that turns out to be wrong is
//! withdrawn automatically.
//!
//! Histories are ordered: *old* comes first and *new* last. A plain search goes from good (old) to bad (new),
//! a search for a fix from bad to good. One failure proves that a kernel is bad. That it is good is only ever
//! likely: a flaky test may have passed by chance. So if two verdicts contradict each other, the good one is
//! dropped.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use vmtest_base::error::Result;

/// The verdict of one run, or of all runs of one kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It would have been seen, and was not.
    Good,
    /// It was seen.
    Bad,
    /// Inconclusive, but another run may help.
    Skip,
    /// Inconclusive, and no further run will help: for example, it does not build.
    Never,
}

impl Verdict {
    /// Text shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Bad => "bad",
            Verdict::Skip | Verdict::Never => "skip",
        }
    }
}

/// Kernels in order; an ID names one of them.
pub trait History {
    /// `new` and its ancestors, without any of `olds` and their ancestors. Sorted by how evenly a verdict
    /// splits the rest, best first.
    fn between(&self, new: &str, olds: &[String]) -> Result<Vec<String>>;
    /// Whether `old` is `new` or one of its ancestors.
    fn precedes(&self, old: &str, new: &str) -> Result<bool>;
}

/// A history without branches.
#[derive(Debug, Clone)]
pub struct Line(pub Vec<String>);

impl Line {
    fn at(&self, id: &str) -> usize {
        self.0.iter().position(|other| other == id).unwrap_or(self.0.len())
    }
}

impl History for Line {
    fn between(&self, new: &str, olds: &[String]) -> Result<Vec<String>> {
        let from = olds.iter().map(|old| self.at(old) + 1).max().unwrap_or(0);
        let to = self.at(new);
        let Some(all) = self.0.get(from..=to) else { return Ok(Vec::new()) };
        // An answer at position i leaves i + 1 or all - i - 1 kernels.
        let mut ranked: Vec<(usize, &String)> = all.iter().enumerate().collect();
        ranked.sort_by_key(|(at, _)| (at + 1).max(all.len() - at - 1));
        Ok(ranked.into_iter().map(|(_, id)| id.clone()).collect())
    }

    fn precedes(&self, old: &str, new: &str) -> Result<bool> {
        Ok(self.at(old) <= self.at(new))
    }
}

/// The two endpoints, as given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Known to be before the change.
    pub old: String,
    /// Known to be the change, or after it.
    pub new: String,
    /// Merge bases of the two endpoints, unless that is the old endpoint: they must be old as well.
    pub bases: Vec<String>,
}

/// How much evidence a verdict requires.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    /// Most runs of one kernel.
    pub runs: u32,
    /// Required confidence in a good verdict: the chance that a bad kernel would have failed in one of the
    /// runs.
    pub confidence: f64,
}

/// Without any other result, this many failures mean that the failing endpoint always fails.
const SURELY: usize = 4;
/// Most inconclusive runs in a row.
const TIRED: usize = 3;

fn count(runs: &[Verdict], which: Verdict) -> usize {
    runs.iter().filter(|run| **run == which).count()
}

impl Trust {
    /// How often the failing endpoint fails. A little less than was observed, and the more so the fewer runs
    /// there are.
    pub fn rate(&self, runs: &[Verdict]) -> f64 {
        let (bad, good) = (count(runs, Verdict::Bad), count(runs, Verdict::Good));
        if self.runs == 1 { 1.0 } else { bad as f64 / (bad + good + 1) as f64 }
    }

    /// Number of good runs that make a good verdict with this confidence, if a bad kernel fails at this rate;
    /// at most the allowed number of runs.
    pub fn needed(&self, rate: f64) -> u32 {
        let miss = 1.0 - rate.clamp(0.0, 1.0);
        let wanted = (1..self.runs).find(|runs| miss.powf(f64::from(*runs)) <= 1.0 - self.confidence);
        wanted.unwrap_or(self.runs).max(1)
    }

    /// The chance that this many runs would have shown a failure.
    pub fn reached(rate: f64, runs: u32) -> f64 {
        1.0 - (1.0 - rate.clamp(0.0, 1.0)).powf(f64::from(runs))
    }

    /// The verdict that follows from the runs of one kernel; `None` if more are needed.
    pub fn settle(&self, runs: &[Verdict], needed: u32) -> Option<Verdict> {
        let (good, skip) = (count(runs, Verdict::Good), count(runs, Verdict::Skip));
        if runs.contains(&Verdict::Bad) {
            return Some(Verdict::Bad);
        }
        if runs.contains(&Verdict::Never) {
            return Some(Verdict::Never);
        }
        if good >= needed.min(self.runs) as usize {
            return Some(Verdict::Good);
        }
        let tired = good == 0 && skip >= TIRED;
        (tired || runs.len() >= self.runs as usize).then_some(Verdict::Skip)
    }

    /// The same for the endpoint that must fail, which also determines the failure rate.
    fn settle_failing(&self, runs: &[Verdict]) -> Option<Verdict> {
        let (bad, good) = (count(runs, Verdict::Bad), count(runs, Verdict::Good));
        if runs.contains(&Verdict::Never) {
            return Some(Verdict::Never);
        }
        if runs.len() >= self.runs as usize
            || (good == 0 && bad >= SURELY)
            || (bad + good == 0 && runs.len() >= TIRED)
        {
            let verdict = if bad > 0 {
                Verdict::Bad
            } else if good == 0 {
                Verdict::Skip
            } else {
                Verdict::Good
            };
            return Some(verdict);
        }
        None
    }
}

/// Why a kernel is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It is an endpoint, or a merge base of the two.
    Verify,
    /// Its verdict narrows the range.
    Narrow,
    /// The answer depends on it being good.
    Confirm,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Run this kernel once.
    Run {
        /// ID of the kernel.
        id: String,
        /// Number of candidates that are left.
        left: usize,
        /// Why it is run.
        purpose: Purpose,
    },
    /// The first one is known.
    Found {
        /// ID of the first one.
        first: String,
        /// Its newest predecessors that are known to be old.
        before: Vec<String>,
    },
    /// Skipped kernels hide the first one.
    Hidden {
        /// One of these is the first; the last of them is known to be new.
        among: Vec<String>,
        /// The newest predecessors that are known to be old.
        before: Vec<String>,
    },
    /// An endpoint does not have the expected verdict.
    WrongEnd {
        /// ID of the endpoint.
        id: String,
        /// Its verdict.
        verdict: Verdict,
    },
}

/// A search.
#[derive(Debug, Clone)]
pub struct Search {
    /// The endpoints.
    pub ends: Ends,
    /// The old kernels are bad.
    pub find_fix: bool,
    /// How much evidence a verdict requires.
    pub trust: Trust,
    /// The verdict of each run, by kernel.
    pub runs: BTreeMap<String, Vec<Verdict>>,
}

impl Search {
    /// The endpoint that must fail.
    pub fn failing_end(&self) -> &str {
        if self.find_fix { &self.ends.old } else { &self.ends.new }
    }

    /// The endpoint that must pass.
    pub fn passing_end(&self) -> &str {
        if self.find_fix { &self.ends.new } else { &self.ends.old }
    }

    fn of(&self, id: &str) -> &[Verdict] {
        self.runs.get(id).map_or(&[], Vec::as_slice)
    }

    /// How often the failing endpoint fails, as far as known.
    pub fn rate(&self) -> f64 {
        self.trust.rate(self.of(self.failing_end()))
    }

    /// Number of good runs that make a verdict.
    pub fn needed(&self) -> u32 {
        self.trust.needed(self.rate())
    }

    /// The verdict on a kernel; `None` if it needs more runs.
    pub fn verdict(&self, id: &str) -> Option<Verdict> {
        if id == self.failing_end() {
            return self.trust.settle_failing(self.of(id));
        }
        self.trust.settle(self.of(id), self.needed())
    }

    /// A copy with one more run that had this verdict.
    pub fn supposing(&self, id: &str, verdict: Verdict) -> Search {
        let mut other = self.clone();
        other.runs.entry(id.to_owned()).or_default().push(verdict);
        other
    }

    /// The next step.
    ///
    /// # Errors
    /// Those of the history.
    pub fn next(&self, history: &impl History) -> Result<Next> {
        let verify = |id: &str| Next::Run { id: id.to_owned(), left: 0, purpose: Purpose::Verify };
        for (id, wanted) in [(self.failing_end(), Verdict::Bad), (self.passing_end(), Verdict::Good)] {
            match self.verdict(id) {
                None => return Ok(verify(id)),
                Some(verdict) if verdict != wanted => {
                    return Ok(Next::WrongEnd { id: id.to_owned(), verdict });
                }
                Some(_) => (),
            }
        }
        let (old, new) =
            if self.find_fix { (Verdict::Bad, Verdict::Good) } else { (Verdict::Good, Verdict::Bad) };
        for base in &self.ends.bases {
            match self.verdict(base) {
                None => return Ok(verify(base)),
                Some(verdict) if verdict == new => return Ok(Next::WrongEnd { id: base.clone(), verdict }),
                // If it cannot be judged, continue, as `git bisect` does after a warning.
                Some(_) => (),
            }
        }
        let known = |which: Verdict| -> Vec<String> {
            self.runs.keys().filter(|id| self.verdict(id) == Some(which)).cloned().collect()
        };
        let (mut olds, mut news) = (known(old), known(new));
        let untrue = self.contradicted(history, &olds, &news)?;
        olds.retain(|id| !untrue.contains(id));
        news.retain(|id| !untrue.contains(id));
        let mut first = self.ends.new.clone();
        for id in news {
            if history.precedes(&id, &first)? {
                first = id;
            }
        }
        let ranked = history.between(&first, &olds)?;
        let left = ranked.len();
        let (skipped, open): (Vec<String>, Vec<String>) = ranked
            .into_iter()
            .filter(|id| *id != first)
            .partition(|id| matches!(self.verdict(id), Some(Verdict::Skip | Verdict::Never)));
        if let Some(id) = choose(&open, skipped.len(), |id| !self.of(id).is_empty()) {
            return Ok(Next::Run { id, left, purpose: Purpose::Narrow });
        }
        let before = self.evidence(history, &first, &olds)?;
        // Confirm what the answer depends on and chance may have caused: good verdicts right next to the
        // change.
        let doubtful = if self.find_fix { std::slice::from_ref(&first) } else { &before[..] };
        let sure = self.needed().saturating_mul(2).min(self.trust.runs) as usize;
        if let Some(id) = doubtful.iter().find(|id| self.trust.runs > 1 && self.of(id).len() < sure) {
            return Ok(Next::Run { id: id.clone(), left, purpose: Purpose::Confirm });
        }
        if skipped.is_empty() {
            return Ok(Next::Found { first, before });
        }
        let mut among = skipped;
        among.push(first);
        Ok(Next::Hidden { among, before })
    }

    /// The old kernels that rule out every other kernel before `first`: the newest of those that lead to it,
    /// and, with merges, others that have a parent of it as an ancestor.
    fn evidence(&self, history: &impl History, first: &str, olds: &[String]) -> Result<Vec<String>> {
        let mut evidence: Vec<String> = Vec::new();
        let mut beside: Vec<&String> = Vec::new();
        for id in olds {
            if !history.precedes(id, first)? {
                beside.push(id);
                continue;
            }
            let mut newest = true;
            for other in olds.iter().filter(|other| *other != id) {
                newest &= !(history.precedes(id, other)? && history.precedes(other, first)?);
            }
            if newest {
                evidence.push(id.clone());
            }
        }
        let least = history.between(first, olds)?.len();
        let mut left = history.between(first, &evidence)?.len();
        for id in beside {
            if left == least {
                break;
            }
            evidence.push(id.clone());
            let now = history.between(first, &evidence)?.len();
            if now == left {
                evidence.pop();
            }
            left = now;
        }
        Ok(evidence)
    }

    /// Good verdicts that are disproved by a failure in another kernel.
    ///
    /// # Errors
    /// Those of the history.
    pub fn disproved(&self, history: &impl History) -> Result<BTreeSet<String>> {
        let known = |which: Verdict| -> Vec<String> {
            self.runs.keys().filter(|id| self.verdict(id) == Some(which)).cloned().collect()
        };
        let (good, bad) = (known(Verdict::Good), known(Verdict::Bad));
        if self.find_fix {
            self.contradicted(history, &bad, &good)
        } else {
            self.contradicted(history, &good, &bad)
        }
    }

    fn contradicted(
        &self,
        history: &impl History,
        olds: &[String],
        news: &[String],
    ) -> Result<BTreeSet<String>> {
        let mut untrue = BTreeSet::new();
        for old in olds {
            for new in news.iter().filter(|new| *new != old) {
                // A new kernel precedes an old one: one verdict is wrong, and it cannot be the bad one.
                if history.precedes(new, old)? {
                    untrue.insert(if self.find_fix { new.clone() } else { old.clone() });
                }
            }
        }
        Ok(untrue)
    }
}

/// Chooses the next kernel from the candidates, best first. A kernel that already has runs is completed
/// first. Untestable kernels come in ranges, because one commit breaks the build and a later one fixes it:
/// after each skip a distant candidate is tried instead of a neighbour.
fn choose(open: &[String], skipped: usize, begun: impl Fn(&String) -> bool) -> Option<String> {
    if let Some(id) = open.iter().find(|id| begun(id)) {
        return Some(id.clone());
    }
    // 1/2, 1/4, 3/4, 1/8, 5/8 .. of the better half.
    let (mut number, mut part, mut place) = (skipped, 0.5, 0.0);
    while number > 0 {
        place += part * (number % 2) as f64;
        number /= 2;
        part /= 2.0;
    }
    open.get((open.len() as f64 * place / 2.0) as usize).cloned()
}

/// Number of answers needed to single out one of this many.
pub fn steps(left: usize) -> u32 {
    left.max(1).next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests;
