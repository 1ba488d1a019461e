// SPDX-License-Identifier: MIT OR Apache-2.0
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
