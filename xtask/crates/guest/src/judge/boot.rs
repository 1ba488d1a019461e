// SPDX-License-Identifier: MIT OR Apache-2.0
//! The outcome of one boot: the rules that turn what was seen of a guest into a class and a reason. Pure; a
//! pass is the last branch.

use std::sync::LazyLock;

use regex::Regex;
use vmtest_protocol::{WorkerEnd, taint};

use crate::console::Hit;
use crate::observed::{End, Observed};
use vmtest_base::error::Class;
use vmtest_record::allow_list::Allowed;

/// The outcome of one boot.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// `Pass` if the boot completed and the runner is trusted; tests may still have failed.
    pub class: Class,
    pub reason: String,
}

/// What a boot is judged by, besides what was seen of it.
#[derive(Debug)]
pub struct Terms<'a> {
    /// The release that the kernel must report; empty if unknown.
    pub release: &'a str,
    /// Build ID of the kernel file that was started; empty if unknown (a compressed image).
    pub build_id: &'a str,
    /// Splats that do not count.
    pub allowed: &'a Allowed,
    /// The emulator, if it is known to execute patched code incorrectly; `None` otherwise.
    pub emulator: Option<&'a str>,
}

/// Judges a boot as a whole, before its cells.
pub fn judge(seen: &Observed, terms: &Terms<'_>) -> Verdict {
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
        return no(Class::Host, format!("the event channel cannot be trusted: {fault}{more}"));
    }
    let release = terms.release;
    if let Some(hello) = stream.hello.as_ref().filter(|hello| !release.is_empty() && hello.release != release)
    {
        return no(
            Class::Host,
            format!("the guest runs {:?}, the kernel to test is {release:?}", hello.release),
        );
    }
    if let Some(why) = stream.hello.as_ref().and_then(|hello| other_kernel(&hello.build_id, terms.build_id)) {
        return no(Class::Host, why);
    }
    let Some(done) = &stream.done else {
        return no(
            Class::GuestLost,
            format!(
                "the guest exited without a final message{}{}{}",
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
        return no(Class::Splat, format!("{} more kernel warnings than are kept", seen.console.dropped));
    }
    if let Some(title) = unexplained_taint(seen).filter(|title| terms.allowed.allows(title).is_none()) {
        return no(Class::Splat, title);
    }
    if done.tainted.is_none() {
        return no(Class::Host, "the runner could not read whether the kernel is tainted".to_owned());
    }
    if let Some(why) = turned_down(seen) {
        return no(Class::Host, why);
    }
    no(Class::Pass, String::new())
}

/// Why the kernel that ran may not be the one that was started; `None` if it is, or if the file has no build
/// ID.
///
/// How it could be wrong: the linker makes the ID. Two files with the same ID differ at most in what was
/// changed after linking, and a kernel can report a false ID.
fn other_kernel(runs: &str, started: &str) -> Option<String> {
    if started.is_empty() || runs == started {
        return None;
    }
    Some(if runs.is_empty() {
        format!("the guest does not show the build id of its kernel; that of the kernel to test is {started}")
    } else {
        format!("the guest runs a kernel with build id {runs}, that of the kernel to test is {started}")
    })
}

/// Taint that indicates a problem and that no warning on the console or from the runner explains, as the
/// title of a splat.
///
/// How it could be wrong: a bit can be set only once. After one allowed warning, another one shows only in
/// the log.
pub fn unexplained_taint(seen: &Observed) -> Option<String> {
    let shown = seen.console.splats().map(|hit| &hit.title);
    let titles = shown.chain(seen.stream.splats.iter().map(|splat| &splat.title));
    let explained = titles.fold(0, |bits, title| bits | explains(title));
    let bits = taint::bad_bits(seen.stream.done.as_ref()?.tainted?) & !explained;
    (bits != 0).then(|| taint::title(bits))
}

/// The taint bits that the kernel may set along with a warning of this title. Most set the bit of a warning.
fn explains(title: &str) -> u64 {
    let has = |words: &[&str]| words.iter().any(|word| title.contains(word));
    let of = |bit: u64, words: &[&str]| if has(words) { bit } else { 0 };
    taint::named(title)
        | taint::WARNED
        | of(
            taint::BAD_PAGE,
            &["KASAN", "KFENCE", "KMSAN", "Bad page", "Bad rss", "bad pmd", "BUG ", "corruption"],
        )
        | of(taint::SOFT_LOCKUP, &["soft lockup"])
        | of(taint::MACHINE_CHECK, &["Machine check", "Hardware Error"])
}

/// Why the console does not prove that the kernel printed no warnings; `None` if it does. It must show the
/// start of the kernel, and the warning that the runner logs at the very end: then everything of at least
/// that level in between reached the console.
///
/// How it could be wrong: a kernel or program that deliberately lowers the console level and raises it again.
fn turned_down(seen: &Observed) -> Option<String> {
    let missing = match (seen.console.kernels > 0, seen.console.last_word) {
        (true, true) => return None,
        (false, _) => "the start of the kernel",
        (true, false) => "the runner's last word, which is a warning in the kernel's log",
    };
    Some(format!("the console does not show {missing}: kernel warnings may be missing as well"))
}

/// The symbol in a register dump: `RIP: 0010:name+0x1/0x2`.
#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static RIP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"RIP: \w+:([A-Za-z_]\S*)\+0x").unwrap());

/// A death caused by an emulator that translates code while another CPU patches it: the temporary breakpoint
/// of the patching is reported as one that no handler owns. In a BPF trampoline, or in code without a symbol,
/// it may be a kernel bug, and remains a death of the kernel.
///
/// How it could be wrong: a kernel that leaves a breakpoint in its text dies in the same way and is not
/// blamed here. It does not pass either, and `--cpus 1` or KVM tells the two apart.
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
            "an emulator failure, not the kernel's: an int3 oops in {symbol}; {emulator} causes it when text is patched \
             while it runs; try --cpus 1 or KVM"
        )
    })
}

/// What QEMU prints when one of its own assertions fails. Seen with 10.0 in about one of a hundred boots on a
/// busy host: `qemu-system-x86_64: system/physmem.c:2671: iotlb_to_section: Assertion `section_index <
/// d->map.sections_nb' failed.`
#[expect(clippy::unwrap_used, reason = "a constant pattern; the tests compile it")]
static ASSERTION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^qemu-system-\w+: \S+\.c:\d+: .*Assertion .* failed\.?$").unwrap());

/// At most this many lines of the console may follow it.
const LAST_WORDS: usize = 5;

/// Why the emulator died, if it did and the kernel did not. QEMU prints it on standard error, which under vng
/// is the console.
///
/// How it could be wrong: a guest can print that line before it exits. A death of its kernel counts anyway,
/// and without one nothing in that boot passes.
pub fn emulator_died(seen: &Observed) -> Option<String> {
    if !matches!(seen.end, End::Exited(status) if !status.success()) || seen.console.death().is_some() {
        return None;
    }
    let tail = seen.console.tail(LAST_WORDS);
    let mut lines = tail.iter().map(String::as_str).chain(seen.complaint.lines()).map(str::trim);
    lines.find(|line| ASSERTION.is_match(line)).map(str::to_owned)
}

/// The first kernel warning: it may be why the guest ended as it did.
fn complained(seen: &Observed) -> String {
    let first = seen.console.splats().next();
    first.map_or_else(String::new, |hit| format!("; the kernel had said: {}", hit.title))
}

/// A boot whose runner never sent `hello`.
fn judge_silence(seen: &Observed) -> Verdict {
    let how = match seen.end {
        End::NoFirstByte => "no byte within the limit".to_owned(),
        End::BootLimit | End::IdleLimit | End::RunLimit | End::ShutdownLimit | End::StayedDead => {
            "not ready within the limit".to_owned()
        }
        End::Exited(status) => format!("the virtual machine {}", vmtest_host::process::ended(status)),
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
