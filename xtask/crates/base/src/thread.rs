// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads of the harness.

/// Joins a thread and returns its result.
pub fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    // A panic of the harness is not a test result: it continues here, and the process exits with 101.
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
