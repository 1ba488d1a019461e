// SPDX-License-Identifier: MIT OR Apache-2.0
//! The subtests and the code that they share. One file for each group.

mod basic;
mod concurrent;
mod cookie;
mod cost;
mod elsewhere;
mod failnth;
mod faults;
mod in_flight;
mod info;
mod mixed;
mod multi;
mod reject;
mod stress;
mod tools;
mod unsupported;

use crate::bpf::{self, Globals, Link, Refusal, Session, Unloaded};
use crate::check::Checks;
use crate::features::{Features, InFlight, Profile};
use crate::glob;
use crate::params::Params;
use crate::support::Needs;
use nix::errno::Errno;
use std::ffi::{CStr, c_int};
use vmtest_protocol::{Effort, Listed, TestName};

pub struct Subtest {
    pub test: &'static str,
    /// Its name within the group.
    pub subtest: &'static str,
    /// One sentence: what it proves.
    pub about: &'static str,
    /// Smallest effort that includes it.
    pub effort: Effort,
    /// What it requires: on a kernel without support that says so correctly, it is a skip.
    pub needs: Needs,
    /// What it requires of the machine.
    pub demands: &'static [Demand],
    /// Programs that must be loaded; one that is rejected fails the subtest.
    pub programs: &'static [&'static str],
    /// Checks its expectations. An error is why it could not complete, and a failure.
    pub run: fn(&mut Context) -> Result<(), String>,
}

/// What a subtest requires of the machine that it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    SeveralCpus,
    /// It patches code while other CPUs run it: emulators only survive that with one thread for all CPUs.
    SingleThread,
    /// userfaultfd(2), for pages that others wait for until they are filled.
    Userfaultfd,
    /// Allocations that fail on request, through /proc/thread-self/fail-nth.
    FailNth,
}

/// Defines the subtests of a group: effort, function (which names the subtest), programs, requirements
/// (unless sessions that call kfuncs), machine requirements (if any), one sentence.
macro_rules! subtests {
    ($test:literal: $($effort:ident $run:ident [$($program:literal),*] $(needs $needs:ident)?
        $(on [$($demand:ident),+])? $about:literal;)*) => {
        /// The subtests of this group, in the order in which they run.
        pub const SUBTESTS: &[Subtest] = &[$(Subtest {
            test: $test,
            subtest: stringify!($run),
            about: $about,
            effort: vmtest_protocol::Effort::$effort,
            needs: $crate::tests::needs!($($needs)?),
            demands: &[$($($crate::tests::Demand::$demand),+)?],
            programs: &[$($program),*],
            run: $run,
        }),*];
    };
}
use subtests;

/// The requirements of a line of [`subtests`].
macro_rules! needs {
    () => {
        $crate::support::Needs::Sessions
    };
    ($needs:ident) => {
        $crate::support::Needs::$needs
    };
}
use needs;

/// Index of the record of a program's entry run.
pub const ENTRY: usize = 0;
/// Index of the record of a program's exit run.
pub const EXIT: usize = 1;

const CALL_FENTRY_TESTS: &str = "call_fentry_tests";
const CALL_MODIFY_RETURN_TESTS: &str = "call_modify_return_tests";

/// What a subtest works with.
pub struct Context<'a> {
    /// The BPF object with the subtest's programs; its globals are cleared.
    pub session: &'a Session,
    /// Where it records its expectations.
    pub checks: &'a mut Checks,
    /// What differs between kernels.
    pub profile: &'a Profile,
    /// The features of the kernel.
    pub features: &'a Features,
    pub effort: Effort,
    /// Whether it may try what is known to kill or corrupt this kernel (`vmtest.provoke=1`).
    pub provoke: bool,
    /// Whether the clock counts instructions (`vmtest.icount=1`).
    pub icount: bool,
    /// bpftool of the tree under test; empty for a subtest that does not use it.
    pub bpftool: &'a str,
}

impl Context<'_> {
    /// Attaches a program that must attach.
    pub fn attach(&self, program: &str) -> Result<Link, String> {
        self.attach_with_cookie(program, 0)
    }

    /// Attaches a program that must attach, with an attach cookie.
    pub fn attach_with_cookie(&self, program: &str, cookie: u64) -> Result<Link, String> {
        self.session.attach(program, cookie)?.map_err(|errno| format!("attach {program}: {errno}"))
    }

    /// Checks that attaching a program is rejected with `expected`.
    pub fn refused(&mut self, what: &str, program: &str, expected: Errno) -> Result<(), String> {
        let seen = match self.session.attach(program, 0)? {
            Ok(_link) => "attached".to_owned(),
            Err(errno) => errno.to_string(),
        };
        self.checks.eq(what, seen, expected.to_string());
        Ok(())
    }

    /// Calls bpf_fentry_test1 and its siblings once, each with the same arguments every time.
    pub fn call_fentry_tests(&self) -> Result<(), String> {
        self.session.test_run(CALL_FENTRY_TESTS).map(drop)
    }

    /// Calls bpf_modify_return_test(1, &b) and bpf_modify_return_test2(1, &b, 3, 4, 5, 6, 7) with b = 2.
    /// Returns the sum of their return values, and above bit 16 how many of them changed b.
    pub fn call_modify_return_tests(&self) -> Result<u32, String> {
        self.session.test_run(CALL_MODIFY_RETURN_TESTS)
    }

    /// What a call in flight loses here when links on its target change.
    pub fn in_flight(&self) -> Result<InFlight, String> {
        self.profile.in_flight.ok_or_else(|| format!("calls in flight: {}", self.profile.in_flight_rule()))
    }

    /// Clears the records of the programs.
    pub fn reset(&self) {
        self.session.reset(std::process::id());
    }

    /// The records of the programs so far.
    pub fn seen(&self) -> Globals {
        self.session.globals()
    }
}

/// All orders of 0..n, each made from the previous one by moving one number to the end, which is the effect
/// of detaching and attaching one program. Attaching is slow, so each order after the first costs only one.
fn walk(n: usize) -> Vec<Vec<usize>> {
    fn go_on(path: &mut Vec<Vec<usize>>, wanted: usize) -> bool {
        let Some(here) = path.last().cloned().filter(|_| path.len() < wanted) else { return true };
        for place in 0..here.len().saturating_sub(1) {
            let mut next = here.clone();
            let moved = next.remove(place);
            next.push(moved);
            if !path.contains(&next) {
                path.push(next);
                if go_on(path, wanted) {
                    return true;
                }
                path.pop();
            }
        }
        false
    }
    let mut path = vec![(0..n).collect()];
    let complete = go_on(&mut path, (1..=n).product());
    debug_assert!(complete, "there is such a walk for every n that a test uses");
    path
}

/// Loads programs of the object apart from the others of the plan. `prepare` selects them.
fn load_apart(
    prepare: impl FnOnce(&mut Unloaded) -> Result<(), String>,
) -> Result<Result<Session, Refusal>, String> {
    let mut object = Unloaded::open()?;
    prepare(&mut object)?;
    bpf::take_log();
    let loaded = object.load_or_number();
    let log = bpf::take_log();
    Ok(match loaded {
        Ok(session) => {
            session.reset(std::process::id());
            Ok(session)
        }
        Err(errno) => Err(Refusal { errno, log: last_words(&log) }),
    })
}

/// The end of the verifier's log among the messages of libbpf: before it are the instructions.
fn last_words(log: &str) -> String {
    const LINES: usize = 30;
    let log = log.split("-- BEGIN PROG LOAD LOG --").nth(1).unwrap_or_default();
    let log = log.split("-- END PROG LOAD LOG --").next().unwrap_or_default();
    let lines = log.lines().filter(|line| !line.is_empty() && !line.starts_with("processed "));
    let lines: Vec<&str> = lines.filter(|line| !line.starts_with("libbpf: ")).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Loads one program apart from the others.
fn load_alone(name: &str) -> Result<Result<Session, Refusal>, String> {
    load_apart(|object| object.choose(name))
}

/// Loads one program for a function of another BPF program.
fn load_for(name: &str, target: c_int, function: &CStr) -> Result<Session, String> {
    let loaded = load_apart(|object| {
        object.set_target(name, target, function)?;
        object.choose(name)
    });
    loaded?.map_err(|refusal| format!("load {name} for {}: {refusal}", function.to_string_lossy()))
}

/// The result of attaching or changing something, in words.
fn told<T>(answer: &Result<T, Errno>, done: &str) -> String {
    answer.as_ref().map_or_else(Errno::to_string, |_| done.to_owned())
}

/// Links in the order of attaching, of programs identified by index.
#[derive(Default)]
struct Attached(Vec<(usize, Link)>);

impl Attached {
    /// Detaches and attaches what is needed to have exactly these programs in this order.
    fn become_order(&mut self, t: &Context, programs: &[&str], order: &[usize]) -> Result<(), String> {
        // Keep the links that form the longest prefix of the order.
        let mut keep = 0;
        self.0.retain(|(n, _)| {
            let stays = order.get(keep) == Some(n);
            keep += usize::from(stays);
            stays
        });
        for &n in &order[keep..] {
            self.0.push((n, t.attach(programs[n])?));
        }
        Ok(())
    }
}

impl Subtest {
    /// The programs that it names, and those that call the targets. Without a JIT even the latter are
    /// rejected, because a trampoline cannot be made: a subtest that needs nothing gets none of them.
    pub fn all_programs(&self) -> Vec<&'static str> {
        let callers = [CALL_FENTRY_TESTS, CALL_MODIFY_RETURN_TESTS];
        let callers = callers.into_iter().filter(|_| self.needs != Needs::Nothing);
        callers.chain(self.programs.iter().copied()).collect()
    }

    /// Whether it requires this of the machine.
    fn asks(&self, demand: Demand) -> bool {
        self.demands.contains(&demand)
    }

    /// What a machine with this many CPUs does not provide for it, in words.
    pub fn lacks(&self, cpus: usize) -> Option<String> {
        if self.asks(Demand::SeveralCpus) && cpus < 2 {
            return Some(format!("it needs more than one CPU, and the guest has {cpus}"));
        }
        if self.asks(Demand::FailNth)
            && let Err(why) = crate::fail_nth::is_there()
        {
            return Some(why);
        }
        (self.asks(Demand::Userfaultfd) && !crate::userfault::is_there())
            .then(|| "it needs userfaultfd(2), and the kernel is built without CONFIG_USERFAULTFD".to_owned())
    }

    /// Whether it uses the bpftool of the tree under test.
    fn uses_bpftool(&self) -> bool {
        self.test == tools::GROUP
    }

    /// Whether it tests what most kernels do not have, so that only those who name its group expect it to run.
    fn is_optional(&self) -> bool {
        matches!(self.needs, Needs::MultiSessions | Needs::SessionsAndLsm) || self.asks(Demand::FailNth)
    }

    /// Whether it runs only if its group is named.
    fn only_named(&self) -> bool {
        self.test == faults::GROUP
    }

    pub fn name(&self) -> TestName {
        TestName { test: self.test.to_owned(), subtest: self.subtest.to_owned() }
    }
}

fn all() -> impl Iterator<Item = &'static Subtest> {
    basic::SUBTESTS
        .iter()
        .chain(cookie::SUBTESTS)
        .chain(concurrent::SUBTESTS)
        .chain(in_flight::SUBTESTS)
        .chain(mixed::SUBTESTS)
        .chain(reject::SUBTESTS)
        .chain(elsewhere::SUBTESTS)
        .chain(unsupported::SUBTESTS)
        .chain(multi::SUBTESTS)
        .chain(info::SUBTESTS)
        .chain(tools::SUBTESTS)
        .chain(cost::SUBTESTS)
        .chain(stress::SUBTESTS)
        .chain(failnth::SUBTESTS)
        .chain(faults::SUBTESTS)
}

/// The subtests that the host requests, in order. One that is named in full or selected by index is included
/// at any effort. Indices of another list select nothing, and the host notices that its planned subtests are
/// missing.
pub fn plan(params: &Params) -> Vec<&'static Subtest> {
    let offered = |test: &Subtest| params.bpftool.is_some() || !test.uses_bpftool();
    if let Some(pick) = &params.pick {
        let places = vmtest_protocol::picked(pick, all().count()).unwrap_or_default();
        let picked = all().zip(places).filter(|(test, picked)| *picked && offered(test));
        return picked.map(|(test, _)| test).collect();
    }
    let wanted = |test: &&Subtest| {
        let path = test.name().path();
        let (enough, globs) = (test.effort <= params.effort, &params.tests);
        let named = |glob: &String| !test.only_named() || vmtest_protocol::names_group(glob, test.test);
        let asked = |glob: &String| *glob == path || (enough && named(glob) && glob::matches(glob, &path));
        offered(test) && if globs.is_empty() { enough && !test.only_named() } else { globs.iter().any(asked) }
    };
    all().filter(wanted).collect()
}

/// For `--list`.
pub fn listed() -> Vec<Listed> {
    let listed = |test: &Subtest| Listed {
        name: test.name(),
        about: test.about.to_owned(),
        effort: test.effort,
        single_thread: test.asks(Demand::SingleThread),
        several_cpus: test.asks(Demand::SeveralCpus),
        bpftool: test.uses_bpftool(),
        counted: test.test == cost::GROUP,
        only_named: test.only_named(),
        optional: test.is_optional(),
    };
    all().map(listed).collect()
}

#[cfg(test)]
mod unit {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_plain() {
        let mut names = BTreeSet::new();
        for test in all() {
            let path = test.name().path();
            assert!(
                path.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_/".contains(c)),
                "{path}"
            );
            assert!(test.about.ends_with('.') && !test.about.contains('\n'), "{path}: about is one sentence");
            assert!(names.insert(path.clone()), "{path} twice");
        }
    }

    #[test]
    fn every_program_exists_and_is_used() {
        let object = Unloaded::open().expect("opening needs no kernel support");
        let known: BTreeSet<&str> = object.names().collect();
        let used: BTreeSet<&str> = all().flat_map(|test| test.all_programs()).collect();
        assert_eq!(used.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "named but not there");
    }

    #[test]
    fn a_walk_goes_through_every_order_by_single_moves() {
        for (n, count) in [(1, 1), (2, 2), (3, 6), (4, 24)] {
            let walk = walk(n);
            assert_eq!(walk.iter().collect::<BTreeSet<_>>().len(), count, "{n}");
            for pair in walk.windows(2) {
                let moved = pair[1].last().expect("n is at least 1");
                let stayed =
                    |order: &[usize]| order.iter().copied().filter(|m| m != moved).collect::<Vec<_>>();
                assert_eq!(stayed(&pair[0]), stayed(&pair[1]));
            }
        }
    }

    #[test]
    fn one_cpu_is_not_several() {
        let several = all().find(|test| test.asks(Demand::SeveralCpus)).expect("some do");
        assert!(several.lacks(1).is_some_and(|reason| reason.contains("CPU")));
        assert_eq!(several.lacks(2), None);
        let plain = all().find(|test| test.demands.is_empty()).expect("most do not");
        assert_eq!(plain.lacks(1), None);
    }

    #[test]
    fn globs_and_effort_choose() {
        let params =
            |text: &str| Params::parse(&format!("vmtest.nonce=n vmtest.port=p {text}")).expect("names a run");
        let faults = all().filter(|test| test.only_named()).count();
        assert_eq!(plan(&params("vmtest.bpftool=/b")).len(), all().count() - faults);
        assert_eq!(plan(&params("vmtest.bpftool=/b vmtest.test=*")).len(), all().count() - faults);
        assert_eq!(
            (
                plan(&params("vmtest.test=faults/*")).len(),
                plan(&params("vmtest.test=faults/p*,basic/*"))
                    .iter()
                    .filter(|test| test.only_named())
                    .count()
            ),
            (faults, 2)
        );
        assert!(
            plan(&params("")).iter().all(|test| !test.uses_bpftool())
                && plan(&params("vmtest.test=tools/*")).is_empty()
        );
        let quick = plan(&params("vmtest.effort=quick"));
        assert!(quick.len() >= 3 && quick.len() < all().count());
        let named = plan(&params("vmtest.effort=quick vmtest.test=cookie/all_64_bits,basic/*"));
        assert!(named.iter().any(|test| test.subtest == "all_64_bits") && named.len() < quick.len());
        let some = plan(&params("vmtest.test=basic/one_entry*,nothing/*"));
        assert!(!some.is_empty() && some.iter().all(|test| test.subtest.starts_with("one_entry")));
        assert!(plan(&params("vmtest.test=nothing")).is_empty());
        let pick =
            vmtest_protocol::pick(all().map(|test| test.subtest.contains("args") || test.only_named()));
        let picked = plan(&params(&format!("vmtest.effort=quick vmtest.test=mixed/* vmtest.pick={pick}")));
        assert_eq!(
            picked.len(),
            all().filter(|test| test.subtest.contains("args") || test.only_named()).count()
        );
        assert!(plan(&params("vmtest.pick=ff")).is_empty(), "of another list");
    }
}
