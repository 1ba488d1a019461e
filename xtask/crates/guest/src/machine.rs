// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many CPUs a guest has, how many threads emulate them, and why. Pure.

use crate::spec::Boot;
use vmtest_host::accel::Kind;

/// Enough for tests that need more than one.
const SEVERAL: u32 = 2;

/// What the chosen subtests require of the machine: for each kind, how many need it and the first of them.
/// `None` if none do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demands {
    /// They need more than one CPU.
    pub several_cpus: Option<(usize, String)>,
    /// They patch code while other CPUs run it.
    pub single_thread: Option<(usize, String)>,
    /// Nothing was chosen but figures that can be counted in instructions.
    pub only_counted: bool,
}

/// What a guest runs on, each with its reason for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub cpus: u32,
    /// Why this many.
    pub cpus_reason: String,
    /// QEMU's `thread=`; used only for emulation.
    pub tcg_thread: &'static str,
    pub tcg_thread_reason: String,
    /// Whether an emulated guest's clock counts its instructions: then figures are the same in each run.
    pub icount: bool,
}

impl Machine {
    /// Chooses the machine. `cpus`: the number that the user requested.
    pub fn of(cpus: Option<u32>, boot: Boot, demands: &Demands, qemu: (u32, u32)) -> Machine {
        let usual = boot.default_cpus();
        // The clock advances with the instructions of all CPUs.
        let icount = demands.only_counted && cpus.is_none_or(|cpus| cpus == 1);
        let (cpus, cpus_reason) = match (cpus, &demands.several_cpus) {
            (Some(cpus), _) => (cpus, "requested".to_owned()),
            (None, _) if icount => (1, "only costs are measured".to_owned()),
            (None, Some(who)) if usual < SEVERAL => (SEVERAL, format!("{} more than one", need(who))),
            (None, _) => (usual, format!("default for {} boot", boot.name())),
        };
        let (tcg_thread, tcg_thread_reason) = match icount {
            true => ("single", "instructions are counted (-icount)".to_owned()),
            false => tcg_thread(demands, qemu),
        };
        Machine { cpus, cpus_reason, tcg_thread, tcg_thread_reason, icount }
    }
}

impl Machine {
    /// Describes the emulator if it is known to execute code incorrectly while another CPU patches it: one
    /// with a thread for each CPU. See [`tcg_thread`].
    pub fn risky_emulator(&self, accel: Kind) -> Option<String> {
        let risky = accel == Kind::Tcg && self.cpus > 1 && self.tcg_thread == "multi";
        risky.then(|| format!("an emulator with a thread for each of {} CPUs", self.cpus))
    }
}

/// "3 of the subtests (stress/x first) need".
fn need((count, first): &(usize, String)) -> String {
    match count {
        1 => format!("{first} needs"),
        _ => format!("{count} of the subtests, {first} first, need"),
    }
}

/// QEMU's `thread=` under TCG for more than one guest CPU.
///
/// Before 8.1, QEMU could translate a page while another CPU patched it: three of about 150 boots died of an
/// `int3` oops at a jump label, some without a message. 8.1 locks pages before it translates them. Tracing
/// depends on patching kernel code, so older versions get one thread for all CPUs, which costs a fifth of the
/// speed.
///
/// Code that is patched while all CPUs run it (programs attached and detached under load) also kills guests
/// of QEMU 10 in the same way. With one thread none died.
fn tcg_thread(demands: &Demands, qemu: (u32, u32)) -> (&'static str, String) {
    if qemu < (8, 1) {
        return ("single", format!("QEMU {}.{} is older than 8.1", qemu.0, qemu.1));
    }
    match &demands.single_thread {
        Some(who) => ("single", format!("{} it: text is patched under load", need(who))),
        None => ("multi", "QEMU is 8.1 or newer, and no subtest patches text under load".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demands(several: bool, single: bool) -> Demands {
        let who = |asks: bool| asks.then(|| (2, "stress/a".to_owned()));
        Demands { several_cpus: who(several), single_thread: who(single), only_counted: false }
    }

    #[test]
    fn costs_alone_are_counted_on_one_cpu() {
        let of = |cpus, only_counted| {
            let demands = Demands { only_counted, ..demands(false, false) };
            let machine = Machine::of(cpus, Boot::Vng, &demands, (10, 0));
            (machine.cpus, machine.tcg_thread, machine.icount)
        };
        assert_eq!(of(None, true), (1, "single", true));
        assert_eq!(of(Some(1), true), (1, "single", true));
        assert_eq!(of(Some(2), true), (2, "multi", false));
        assert_eq!(of(None, false), (2, "multi", false));
    }

    #[test]
    fn cpus_are_what_is_asked_for_else_what_is_needed() {
        let cpus = |asked, boot, several| Machine::of(asked, boot, &demands(several, false), (10, 0)).cpus;
        assert_eq!(cpus(None, Boot::Direct, false), 1);
        assert_eq!(cpus(None, Boot::Direct, true), 2);
        assert_eq!(cpus(None, Boot::Vng, true), 2);
        assert_eq!(cpus(Some(1), Boot::Direct, true), 1, "then they are a skip");
        assert_eq!(cpus(Some(4), Boot::Vng, false), 4);
        let machine = Machine::of(None, Boot::Direct, &demands(true, false), (10, 0));
        assert!(machine.cpus_reason.contains("stress/a"), "{machine:?}");
    }

    #[test]
    fn only_an_emulator_with_several_threads_is_suspected() {
        let risky = |accel, cpus, qemu| {
            Machine::of(Some(cpus), Boot::Vng, &demands(false, false), qemu).risky_emulator(accel).is_some()
        };
        assert!(risky(Kind::Tcg, 2, (10, 0)));
        assert!(
            !risky(Kind::Tcg, 1, (10, 0)) && !risky(Kind::Tcg, 2, (7, 2)) && !risky(Kind::Kvm, 2, (10, 0))
        );
    }

    #[test]
    fn old_emulators_and_patching_under_load_get_one_thread() {
        let thread = |single, qemu| Machine::of(None, Boot::Vng, &demands(false, single), qemu).tcg_thread;
        for (single, qemu, expected) in [
            (false, (7, 2), "single"),
            (false, (8, 0), "single"),
            (false, (8, 1), "multi"),
            (false, (10, 0), "multi"),
            (true, (10, 0), "single"),
            (true, (7, 2), "single"),
        ] {
            assert_eq!(thread(single, qemu), expected, "{single} {qemu:?}");
        }
        let reason =
            |single, qemu| Machine::of(None, Boot::Vng, &demands(false, single), qemu).tcg_thread_reason;
        assert!(reason(true, (10, 0)).contains("stress/a") && reason(true, (7, 2)).contains("7.2"));
    }
}
