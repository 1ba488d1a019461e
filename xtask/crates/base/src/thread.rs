// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads of the harness.

/// What a thread returns.
pub fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    // A panic of the harness is not a verdict: it continues here, and the process ends with 101.
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
