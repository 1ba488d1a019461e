// SPDX-License-Identifier: MIT OR Apache-2.0
//! Schedules access to the machine: guests as far as cores and memory allow, builds one at a time. Of those
//! that wait, the one with the longest expected time goes first, so that it does not delay the end of the
//! run.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What the machine has. `None`: unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Most holders at once.
    pub holders: usize,
    pub cores: Option<u32>,
    pub memory_mib: Option<u64>,
}

impl Capacity {
    /// For this many holders, regardless of their demands.
    pub fn of(holders: usize) -> Capacity {
        Capacity { holders, cores: None, memory_mib: None }
    }
}

/// What one holder takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Cores that it keeps busy.
    pub cores: u32,
    pub memory_mib: u64,
}

/// Admits holders while there is capacity. A single one always fits.
pub struct Slots {
    room: Capacity,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    holders: usize,
    cores: u32,
    memory_mib: u64,
    /// Weight and ticket of each that waits.
    waiting: Vec<(u64, u64)>,
    next_ticket: u64,
}

impl State {
    /// The heaviest that waits; the earliest of several with the same weight.
    fn first(&self) -> Option<u64> {
        let order = |(weight, ticket): &&(u64, u64)| (*weight, std::cmp::Reverse(*ticket));
        self.waiting.iter().max_by_key(order).map(|(_, ticket)| *ticket)
    }

    fn fits(&self, demand: Demand, room: Capacity) -> bool {
        let within = |used: u64, more: u64, most: Option<u64>| most.is_none_or(|most| used + more <= most);
        self.holders == 0
            || (self.holders < room.holders
                && within(self.cores.into(), demand.cores.into(), room.cores.map(u64::from))
                && within(self.memory_mib, demand.memory_mib, room.memory_mib))
    }
}

/// Occupies a slot until it is dropped.
pub struct Permit<'a> {
    gate: &'a Slots,
    demand: Demand,
}

impl Slots {
    /// With this capacity, all of it free.
    pub fn new(room: Capacity) -> Slots {
        Slots { room, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits for a slot. `weight` is the expected time, in any unit.
    pub fn acquire(&self, weight: u64, demand: Demand) -> Permit<'_> {
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push((weight, ticket));
        let not_yet = |state: &mut State| state.first() != Some(ticket) || !state.fits(demand, self.room);
        let mut state = self.changed.wait_while(state, not_yet).unwrap_or_else(PoisonError::into_inner);
        state.waiting.retain(|(_, other)| *other != ticket);
        state.holders += 1;
        state.cores += demand.cores;
        state.memory_mib += demand.memory_mib;
        drop(state);
        // The next in line may fit as well.
        self.changed.notify_all();
        Permit { gate: self, demand }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.holders -= 1;
        state.cores -= self.demand.cores;
        state.memory_mib -= self.demand.memory_mib;
        drop(state);
        self.gate.changed.notify_all();
    }
}

/// The memory that all guests together may use: three quarters of what is available now; `None` if unknown.
pub fn memory_for_guests() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    Some(available_mib(&text)? * 3 / 4)
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;

    #[test]
    fn the_heaviest_that_waits_goes_first() {
        let gate = Slots::new(Capacity::of(1));
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let held = gate.acquire(0, Demand::default());
            for weight in [1, 5, 3, 5] {
                let (gate, order) = (&gate, &order);
                scope.spawn(move || {
                    let _pass = gate.acquire(weight, Demand::default());
                    order.lock().expect("no panic").push(weight);
                });
            }
            while gate.lock().waiting.len() < 4 {
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(held);
        });
        assert_eq!(*order.lock().expect("no panic"), [5, 5, 3, 1]);
    }

    #[test]
    fn room_is_counted_and_one_alone_always_fits() {
        let room = Capacity { holders: 3, cores: Some(2), memory_mib: Some(1000) };
        let demand = |cores, memory_mib| Demand { cores, memory_mib };
        let state = |holders, cores, memory_mib| State { holders, cores, memory_mib, ..State::default() };
        assert!(state(0, 0, 0).fits(demand(16, 64_000), room));
        assert!(state(1, 1, 500).fits(demand(1, 500), room));
        assert!(!state(1, 1, 500).fits(demand(2, 500), room), "cores");
        assert!(!state(1, 1, 501).fits(demand(1, 500), room), "memory");
        assert!(!state(3, 0, 0).fits(demand(0, 0), room), "holders");
        assert!(state(1, 9, 9000).fits(demand(9, 9000), Capacity::of(2)), "nobody counts");
    }

    #[test]
    fn what_leaves_makes_room() {
        let gate = Slots::new(Capacity { holders: 9, cores: Some(1), memory_mib: None });
        drop(gate.acquire(0, Demand { cores: 1, memory_mib: 7 }));
        drop(gate.acquire(0, Demand { cores: 1, memory_mib: 7 }));
        let state = gate.lock();
        assert_eq!((state.holders, state.cores, state.memory_mib), (0, 0, 0));
    }

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:       24690000 kB\nMemFree: 1 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(available_mib(text), Some(20_000));
        assert_eq!(available_mib("MemTotal: 1 kB\n"), None);
    }
}
