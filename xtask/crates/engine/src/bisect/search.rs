// SPDX-License-Identifier: MIT OR Apache-2.0
//! The search for the first kernel in which something is so: Good, Bad and Skip over a history. Pure: nothing is built,
//! booted or looked up here, and nothing is remembered. What to do next follows from the runs so far alone, so a search
//! that was killed goes on as if nothing had happened, and a verdict that turns out to be wrong is taken back by
//! itself.
//!
//! Histories are ordered: *old* comes first and *new* last. A plain search goes from good (old) to bad (new), one for
//! a fix from bad to good. One failure proves a kernel bad. That it is good is only ever likely: a test that fails
//! sometimes may have passed by chance. So where two verdicts contradict each other, the good one gives way.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use vmtest_base::error::Result;

/// What one run says, or all runs of one kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was there to be seen, and was not.
    Good,
    /// It was seen.
    Bad,
    /// Nobody can tell, and another run may.
    Skip,
    /// Nobody can tell, and no further run will: it does not build, say.
    Never,
}

impl Verdict {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Bad => "bad",
            Verdict::Skip | Verdict::Never => "skip",
        }
    }
}

/// Kernels in their order; `Id` names one.
pub trait History {
    /// `new` and what comes before it, without any of `olds` and what comes before those. First the one whose verdict
    /// halves the rest best, and so on.
    fn between(&self, new: &str, olds: &[String]) -> Result<Vec<String>>;
    /// Whether `old` is `new` or comes before it.
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
        // An answer at place i leaves i + 1 or all - i - 1 kernels.
        let mut ranked: Vec<(usize, &String)> = all.iter().enumerate().collect();
        ranked.sort_by_key(|(at, _)| (at + 1).max(all.len() - at - 1));
        Ok(ranked.into_iter().map(|(_, id)| id.clone()).collect())
    }

    fn precedes(&self, old: &str, new: &str) -> Result<bool> {
        Ok(self.at(old) <= self.at(new))
    }
}

/// The two ends, as they were given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Known to be before it.
    pub old: String,
    /// Known to be it, or after it.
    pub new: String,
    /// Where the histories of both ends part, unless that is the old end: it has to be old as well.
    pub bases: Vec<String>,
}

/// How much it takes to believe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    /// Most runs of one kernel.
    pub runs: u32,
    /// How sure a good verdict has to be: where the kernel is bad after all, the chance that a failure was seen.
    pub confidence: f64,
}

/// Failures that make the end that fails a sure failure, if nothing else was seen.
const SURELY: usize = 4;
/// Runs in a row that say nothing.
const TIRED: usize = 3;

fn count(runs: &[Verdict], which: Verdict) -> usize {
    runs.iter().filter(|run| **run == which).count()
}

impl Trust {
    /// How often the end that fails does so. A little less than was seen: the less was seen, the less.
    pub fn rate(&self, runs: &[Verdict]) -> f64 {
        let (bad, good) = (count(runs, Verdict::Bad), count(runs, Verdict::Good));
        if self.runs == 1 { 1.0 } else { bad as f64 / (bad + good + 1) as f64 }
    }

    /// Good runs that make a good verdict of this confidence, where a bad kernel fails at this rate; no more than
    /// allowed.
    pub fn needed(&self, rate: f64) -> u32 {
        let miss = 1.0 - rate.clamp(0.0, 1.0);
        let wanted = (1..self.runs).find(|runs| miss.powf(f64::from(*runs)) <= 1.0 - self.confidence);
        wanted.unwrap_or(self.runs).max(1)
    }

    /// The chance that so many good runs would have shown a failure.
    pub fn reached(rate: f64, runs: u32) -> f64 {
        1.0 - (1.0 - rate.clamp(0.0, 1.0)).powf(f64::from(runs))
    }

    /// What the runs of one kernel come to; `None` where it takes more.
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

    /// The same of the end that has to fail: it also tells how often.
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
    /// It is an end, or where the ends part.
    Verify,
    /// Its verdict narrows the range.
    Narrow,
    /// The answer rests on its being good.
    Confirm,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Run this one, once.
    Run {
        /// Which.
        id: String,
        /// Kernels among which the first one is.
        left: usize,
        /// Why.
        purpose: Purpose,
    },
    /// The first one is known.
    Found {
        /// It.
        first: String,
        /// The newest before it that are known to be old.
        before: Vec<String>,
    },
    /// Those that could not be judged hide it.
    Hidden {
        /// One of these is the first: the last of them is known to be new.
        among: Vec<String>,
        /// As above.
        before: Vec<String>,
    },
    /// What was said of an end is not so.
    WrongEnd {
        /// Which.
        id: String,
        /// What it is.
        verdict: Verdict,
    },
}

/// A search.
#[derive(Debug, Clone)]
pub struct Search {
    /// From where to where.
    pub ends: Ends,
    /// The old ones are bad.
    pub find_fix: bool,
    /// When to believe.
    pub trust: Trust,
    /// What each kernel came to, run by run.
    pub runs: BTreeMap<String, Vec<Verdict>>,
}

impl Search {
    /// The end that has to fail.
    pub fn failing_end(&self) -> &str {
        if self.find_fix { &self.ends.old } else { &self.ends.new }
    }

    /// The end that must not.
    pub fn passing_end(&self) -> &str {
        if self.find_fix { &self.ends.new } else { &self.ends.old }
    }

    fn of(&self, id: &str) -> &[Verdict] {
        self.runs.get(id).map_or(&[], Vec::as_slice)
    }

    /// How often the failing end fails, as far as that is known.
    pub fn rate(&self) -> f64 {
        self.trust.rate(self.of(self.failing_end()))
    }

    /// Good runs that make a verdict.
    pub fn needed(&self) -> u32 {
        self.trust.needed(self.rate())
    }

    /// What a kernel came to; `None` where it takes more runs.
    pub fn verdict(&self, id: &str) -> Option<Verdict> {
        if id == self.failing_end() {
            return self.trust.settle_failing(self.of(id));
        }
        self.trust.settle(self.of(id), self.needed())
    }

    /// With one more run that came to this.
    pub fn supposing(&self, id: &str, verdict: Verdict) -> Search {
        let mut other = self.clone();
        other.runs.entry(id.to_owned()).or_default().push(verdict);
        other
    }

    /// What to do next.
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
                // Of one that cannot be judged `git bisect` warns and goes on.
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
        // What the answer rests on, and what chance may have made: good verdicts right beside the step.
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

    /// The old ones that leave no other kernels before `first`: the newest of those that lead to it, and, with merges,
    /// others whose past holds a parent of it.
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

    /// Good verdicts that a failure in another kernel disproves.
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
                // New before old: one of them is wrong, and bad ones are not.
                if history.precedes(new, old)? {
                    untrue.insert(if self.find_fix { new.clone() } else { old.clone() });
                }
            }
        }
        Ok(untrue)
    }
}

/// The next one of what can be asked, best first. One that was begun is ended. Kernels that cannot be judged come in
/// runs, one commit breaks the build and a later one mends it: after each skip another place is tried, and not the
/// neighbour.
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

/// Answers that it takes to single one out of so many.
pub fn steps(left: usize) -> u32 {
    left.max(1).next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests;
