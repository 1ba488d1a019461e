// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one boot came to: the rules that turn what was seen of a guest into a class and a reason. Pure, and a pass is the last
//! branch.

use std::sync::LazyLock;

use regex::Regex;
use vmtest_protocol::WorkerEnd;

use crate::allow::Allowed;
use crate::error::Class;
use crate::vm::console::Hit;
use crate::vm::session::{End, Observed};

/// What one boot came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// `Pass` when the boot went through and the runner was believed; tests may have failed all the same.
    pub class: Class,
    /// Why not.
    pub reason: String,
}

/// What a boot is judged by besides what was seen of it.
#[derive(Debug)]
pub struct Terms<'a> {
    /// What the kernel must call itself; empty where nobody knows.
    pub release: &'a str,
    /// Splats that do not count.
    pub allowed: &'a Allowed,
    /// The emulator, where it is one of those that run patched text wrongly; `None` elsewhere.
    pub emulator: Option<&'a str>,
}

/// Judges a boot as a whole, before its cells.
pub fn judge_boot(seen: &Observed, terms: &Terms<'_>) -> Verdict {
    let no = |class: Class, reason: String| Verdict { class, reason };
    let stream = &seen.stream;
    if let End::Interrupted(class) = seen.end {
        return no(class, "the run was interrupted".to_owned());
    }
    if let Some(death) = seen.console.death() {
        return match emulator_failure(death, terms.emulator) {
            Some(why) => no(Class::Host, why),
            None => no(Class::Panic, death.title.clone()),
        };
    }
    if let Some(line) = emulator_died(seen) {
        return no(Class::Host, format!("the emulator died, not the kernel: {line}{}", during(seen)));
    }
    if stream.hello.is_none() {
        return judge_silence(seen);
    }
    match seen.end {
        End::IdleLimit => {
            return no(Class::Hang, format!("no output for too long{}{}", during(seen), complained(seen)));
        }
        End::RunLimit => {
            return no(
                Class::WallClock,
                format!("not done within the limit{}{}", during(seen), complained(seen)),
            );
        }
        End::Interrupted(_) | End::Exited(_) | End::ShutdownLimit => (),
        End::NoFirstByte | End::BootLimit | End::StayedDead => (),
    }
    // A garbled channel explains a missing `done` better than a lost guest does.
    if let Some(fault) = stream.faults.first() {
        let more = stream.faults.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        return no(Class::Host, format!("the event channel cannot be believed: {fault}{more}"));
    }
    let release = terms.release;
    if let Some(hello) = stream.hello.as_ref().filter(|hello| !release.is_empty() && hello.release != release)
    {
        return no(
            Class::Host,
            format!("the guest runs {:?}, the kernel to test is {release:?}", hello.release),
        );
    }
    let Some(done) = &stream.done else {
        return no(
            Class::GuestLost,
            format!(
                "the guest went away without a word{}{}{}",
                during(seen),
                restarted(seen),
                complained(seen)
            ),
        );
    };
    if seen.truncated {
        return no(Class::Host, "more output than is stored; what was cut could hold a death".to_owned());
    }
    match done.worker {
        WorkerEnd::Exited(0) => (),
        WorkerEnd::Exited(code) => {
            return no(Class::RunnerDied, format!("the runner exited with {code}{}", during(seen)));
        }
        WorkerEnd::Signaled(signal) => {
            return no(Class::RunnerDied, format!("signal {signal} killed the runner{}", during(seen)));
        }
    }
    let planned = stream.plan.as_ref().map_or(0, Vec::len);
    if done.planned as usize != planned || done.ended as usize != stream.ended.len() {
        return no(
            Class::Host,
            format!(
                "counts differ: the runner planned {} and ended {}, {planned} and {} arrived",
                done.planned,
                done.ended,
                stream.ended.len()
            ),
        );
    }
    if seen.end == End::ShutdownLimit {
        return no(Class::Hang, "the tests were done, but the guest did not switch off".to_owned());
    }
    let shown = seen.console.splats().map(|hit| &hit.title);
    let mut titles = shown.chain(stream.splats.iter().map(|splat| &splat.title));
    if let Some(title) = titles.find(|title| terms.allowed.allows(title).is_none()) {
        return no(Class::Splat, title.clone());
    }
    if seen.console.dropped > 0 {
        return no(Class::Splat, format!("{} complaints more than are kept", seen.console.dropped));
    }
    no(Class::Pass, String::new())
}

/// The symbol in a register dump: `RIP: 0010:name+0x1/0x2`.
#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static RIP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"RIP: \w+:([A-Za-z_]\S*)\+0x").unwrap());

/// What an emulator does that translates text while another CPU patches it: the breakpoint that stands there for a moment
/// is taken for one of nobody's. In code that a program's trampoline consists of, or that has no name, it may be the
/// kernel's own mistake, and stays its death.
///
/// How it could be wrong: a kernel that forgets a breakpoint in its text dies in the same way, and is not accused here. It
/// is no pass either, and with `--cpus 1` or under KVM it is told apart.
fn emulator_failure(death: &Hit, emulator: Option<&str>) -> Option<String> {
    let emulator = emulator?;
    let is_int3 = |line: &String| line.contains("Oops: int3");
    if !death.title.starts_with("Oops: int3") && !death.report.iter().any(is_int3) {
        return None;
    }
    let lines = death.report.iter().skip_while(|line| !is_int3(line));
    let symbol = lines.filter_map(|line| RIP.captures(line)).next()?.get(1)?.as_str().to_owned();
    let ours = ["bpf_trampoline_", "bpf_prog_", "bpf_dispatcher_"];
    (!ours.iter().any(|prefix| symbol.starts_with(prefix))).then(|| {
        format!(
            "an emulator failure, not the kernel's: an int3 oops in {symbol}, as {emulator} makes of text that is patched \
             while it runs; --cpus 1 or KVM would tell"
        )
    })
}

/// What QEMU says when it stops at an assertion of its own. Seen of 10.0 in one of some hundred boots of a busy host:
/// `qemu-system-x86_64: system/physmem.c:2671: iotlb_to_section: Assertion `section_index < d->map.sections_nb' failed.`
#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static ASSERTION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^qemu-system-\w+: \S+\.c:\d+: .*Assertion .* failed\.?$").unwrap());

/// So many lines of the console may stand behind it.
const LAST_WORDS: usize = 5;

/// What the emulator died of, if it did and the kernel did not. QEMU tells it on its standard error, which is the console
/// under vng.
///
/// How it could be wrong: a guest can write that line before it goes away. A death of its kernel counts all the same, and
/// without one nothing of it is a pass.
pub fn emulator_died(seen: &Observed) -> Option<String> {
    if !matches!(seen.end, End::Exited(status) if !status.success()) || seen.console.death().is_some() {
        return None;
    }
    let tail = seen.console.tail(LAST_WORDS);
    let mut lines = tail.iter().map(String::as_str).chain(seen.complaint.lines()).map(str::trim);
    lines.find(|line| ASSERTION.is_match(line)).map(str::to_owned)
}

/// What the kernel complained of first: it may be why the guest ended as it did.
fn complained(seen: &Observed) -> String {
    let first = seen.console.splats().next();
    first.map_or_else(String::new, |hit| format!("; the kernel had said: {}", hit.title))
}

/// A boot that never came to hello.
fn judge_silence(seen: &Observed) -> Verdict {
    let how = match seen.end {
        End::NoFirstByte => "no byte within the limit".to_owned(),
        End::BootLimit | End::IdleLimit | End::RunLimit | End::ShutdownLimit | End::StayedDead => {
            "not ready within the limit".to_owned()
        }
        End::Exited(status) => format!("the virtual machine {}", crate::proc::ended(status)),
        End::Interrupted(_) => "interrupted".to_owned(),
    };
    let mut reason = format!("{how}: {}{}", seen.console.progress.text(), restarted(seen));
    if let Some(line) = seen.complaint.lines().find(|line| !line.trim().is_empty()) {
        reason.push_str(&format!("; it said: {}", line.trim()));
    }
    Verdict { class: Class::BootFailed, reason }
}

fn during(seen: &Observed) -> String {
    seen.stream.running.as_ref().map_or_else(String::new, |name| format!(" during {}", name.path()))
}

fn restarted(seen: &Observed) -> &'static str {
    if seen.console.kernels > 1 { "; the kernel started more than once" } else { "" }
}
