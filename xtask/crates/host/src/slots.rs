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
mod tests;
