// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that call futex_wait, many at once or asleep in it, each call with its own value; see
//! `bpf/concurrent.bpf.h`.
//!
//! Code that waits for them polls, because any other way of waiting is itself a futex.

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, gettid};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// Top byte of the bitset of our calls.
const OURS: u32 = 0x5a << 24;
const TICK: Duration = Duration::from_millis(2);
/// Longer than anything takes that we wait for here.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The CPUs that this process may use.
pub fn cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return vec![0] };
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()
}

/// Moves this thread to a CPU and keeps it there.
pub fn pin(cpu: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| format!("go to CPU {cpu}: {errno}"))
}

/// Waits until a condition holds, up to the limit. Returns whether it does.
pub fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !holds() {
        if started.elapsed() > limit {
            return false;
        }
        sleep(TICK);
    }
    true
}

/// Calls futex_wait as `caller`. It returns EAGAIN at once if the word is not `val`; otherwise it returns
/// when it is woken, or with ETIMEDOUT after `patience`.
pub fn call(word: &AtomicU32, val: u32, caller: u32, patience: Option<Duration>) -> Result<(), Errno> {
    let until = match patience {
        Some(patience) => {
            let now = Duration::from_nanos(clock_gettime(ClockId::CLOCK_MONOTONIC)?.num_nanoseconds() as u64);
            let until = now + patience;
            Some(libc::timespec {
                tv_sec: until.as_secs() as libc::time_t,
                tv_nsec: until.subsec_nanos().into(),
            })
        }
        None => None,
    };
    let until = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word and the time live until the call returns.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
            val,
            until,
            std::ptr::null::<u32>(),
            OURS | caller,
        )
    };
    Errno::result(ret).map(drop)
}

fn wake(word: &AtomicU32) {
    // SAFETY: the word is alive. It is not an error if nothing sleeps on it.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}

/// Shared by the threads of [`together`] and the one that started them.
#[derive(Default)]
pub struct Course {
    ready: AtomicUsize,
    go: AtomicBool,
    stop: AtomicBool,
    finished: AtomicUsize,
    changes: AtomicU64,
}

impl Course {
    /// Whether the threads should stop.
    pub fn is_over(&self) -> bool {
        self.stop.load(SeqCst)
    }

    /// Makes a change that [`Course::straddles`] detects.
    pub fn change<T>(&self, make: impl FnOnce() -> T) -> T {
        self.changes.fetch_add(1, SeqCst);
        let made = make();
        self.changes.fetch_add(1, SeqCst);
        made
    }

    /// Makes a call; returns its result and whether a change was made while it was in flight.
    pub fn straddles<T>(&self, call: impl FnOnce() -> T) -> (T, bool) {
        let before = self.changes.load(SeqCst);
        let returned = call();
        let after = self.changes.load(SeqCst);
        (returned, before != after || before % 2 == 1)
    }
}

/// Runs `body` in this many threads, which start together, and `meanwhile` in this one. Then tells the
/// threads to stop, and waits for them.
pub fn together<T: Send>(
    threads: usize,
    body: impl Fn(usize, &Course) -> Result<T, String> + Sync,
    meanwhile: impl FnOnce(&Course) -> Result<(), String>,
) -> Result<Vec<T>, String> {
    let course = Course::default();
    std::thread::scope(|scope| {
        let (body, course) = (&body, &course);
        let run = move |n: usize| {
            course.ready.fetch_add(1, SeqCst);
            while !course.go.load(SeqCst) {
                sleep(TICK);
            }
            let result = body(n, course);
            course.finished.fetch_add(1, SeqCst);
            result
        };
        let started: Vec<_> = (0..threads).map(|n| scope.spawn(move || run(n))).collect();
        while course.ready.load(SeqCst) < threads {
            sleep(TICK);
        }
        course.go.store(true, SeqCst);
        let result = meanwhile(course);
        course.stop.store(true, SeqCst);
        // Joining uses a futex. If a thread never ends, the host notices.
        while course.finished.load(SeqCst) < threads {
            sleep(TICK);
        }
        let results =
            started.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned()));
        let results: Result<Vec<T>, String> =
            results.map(|result| result.and_then(|result| result)).collect();
        result.and(results)
    })
}

/// Statistics of threads that call until told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Calls {
    pub threads: u64,
    /// Number of calls.
    pub made: u64,
    /// Calls with an unexpected result.
    pub wrong: u64,
    /// Calls that were in flight during a change.
    pub straddled: u64,
}

impl Calls {
    pub fn sum(all: &[Calls]) -> Calls {
        all.iter().fold(Calls::default(), |sum, one| Calls {
            threads: sum.threads + one.threads,
            made: sum.made + one.made,
            wrong: sum.wrong + one.wrong,
            straddled: sum.straddled + one.straddled,
        })
    }
}

/// Calls until told to stop: calls that return at once, or calls that sleep in the target for a time.
fn call_until_over(course: &Course, caller: u32, sleeps: bool) -> Calls {
    /// One shorter and one longer than a change takes: before a change frees the trampoline that it replaced,
    /// it waits until every task has slept or was outside of the kernel.
    const PATIENCE: [Duration; 2] = [Duration::from_millis(3), Duration::from_millis(400)];
    let word = AtomicU32::new(0);
    let mut calls = Calls { threads: 1, ..Calls::default() };
    let expected = if sleeps { Errno::ETIMEDOUT } else { Errno::EAGAIN };
    while !course.is_over() {
        let val = calls.made as u32 + 1;
        let patience = sleeps.then_some(PATIENCE[calls.made as usize % 2]);
        if sleeps {
            word.store(val, SeqCst);
        }
        let (returned, straddled) = course.straddles(|| call(&word, val, caller, patience));
        calls.made += 1;
        calls.wrong += u64::from(returned != Err(expected));
        calls.straddled += u64::from(straddled);
    }
    calls
}

/// Load on every CPU: one thread whose calls return at once, and one whose calls sleep, while `meanwhile`
/// runs.
pub fn on_every_cpu(meanwhile: impl FnOnce(&Course) -> Result<(), String>) -> Result<Calls, String> {
    let cpus = cpus();
    let body = |n: usize, course: &Course| {
        pin(cpus[n / 2])?;
        Ok(call_until_over(course, n as u32, n % 2 == 1))
    };
    together(2 * cpus.len(), body, meanwhile).map(|calls| Calls::sum(&calls))
}

/// The same with one thread on each CPU, whose calls return at once.
pub fn without_sleep(meanwhile: impl FnOnce(&Course) -> Result<(), String>) -> Result<Calls, String> {
    let cpus = cpus();
    let body = |n: usize, course: &Course| {
        pin(cpus[n])?;
        Ok(call_until_over(course, n as u32, false))
    };
    together(cpus.len(), body, meanwhile).map(|calls| Calls::sum(&calls))
}

/// A thread that is asleep in futex_wait.
pub struct Sleeper {
    word: Arc<AtomicU32>,
    tid: i32,
    thread: JoinHandle<Result<Result<(), Errno>, String>>,
}

impl Sleeper {
    /// Starts one as `caller`, optionally pinned to a CPU. It is asleep in its call when this returns.
    pub fn start(caller: u32, cpu: Option<usize>) -> Result<Self, String> {
        // A different value each time, so that no two calls of a caller are the same.
        static VAL: AtomicU32 = AtomicU32::new(0x1000_0000);
        let val = VAL.fetch_add(1, SeqCst);
        let word = Arc::new(AtomicU32::new(val));
        let tid = Arc::new(AtomicI32::new(0));
        let shared = (Arc::clone(&word), Arc::clone(&tid));
        let thread = std::thread::spawn(move || {
            let (word, tid) = shared;
            cpu.map_or(Ok(()), pin)?;
            tid.store(gettid().as_raw(), SeqCst);
            // From here on, nothing sleeps before the call does.
            Ok(call(&word, val, caller, None))
        });
        let started = wait_until(LIMIT, || thread.is_finished() || is_asleep(tid.load(SeqCst)));
        if !started || thread.is_finished() {
            return Err(format!("a call of futex_wait as {caller} does not sleep"));
        }
        let tid = tid.load(SeqCst);
        Ok(Self { word, tid, thread })
    }

    pub fn is_asleep(&self) -> bool {
        is_asleep(self.tid)
    }

    /// Wakes it; returns the result of its call.
    pub fn wake(self) -> Result<Result<(), Errno>, String> {
        self.end(|sleeper| wake(&sleeper.word))
    }

    /// Interrupts it with a signal; returns the result of its call.
    pub fn interrupt(self) -> Result<Result<(), Errno>, String> {
        extern "C" fn nothing(_: libc::c_int) {}
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.map_err(|errno| format!("sigaction: {errno}"))?;
        self.end(|sleeper| {
            // SAFETY: takes no pointer.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), sleeper.tid, libc::SIGUSR1) };
        })
    }

    fn end(self, how: impl FnOnce(&Self)) -> Result<Result<(), Errno>, String> {
        how(&self);
        if !wait_until(LIMIT, || self.thread.is_finished()) {
            return Err("a sleeping call does not wake up".to_owned());
        }
        self.thread.join().map_err(|_| "a thread panicked".to_owned())?
    }
}

/// Whether a thread of this process is in an interruptible sleep.
fn is_asleep(tid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_return_what_they_have_to() {
        let word = AtomicU32::new(1);
        assert_eq!(call(&word, 2, 0, None), Err(Errno::EAGAIN));
        assert_eq!(call(&word, 1, 0, Some(Duration::from_millis(1))), Err(Errno::ETIMEDOUT));
        assert_eq!(Sleeper::start(0, None).expect("asleep").wake(), Ok(Ok(())));
        let sleeper = Sleeper::start(0, None).expect("asleep");
        assert!(sleeper.is_asleep());
        assert_eq!(sleeper.interrupt(), Ok(Err(Errno::EINTR)));
    }

    #[test]
    fn a_change_is_noticed_by_the_calls_around_it() {
        let course = Course::default();
        assert_eq!(course.straddles(|| 1), (1, false));
        assert_eq!(course.straddles(|| course.change(|| 2)), (2, true));
        assert_eq!(course.change(|| course.straddles(|| 3)), (3, true));
        assert_eq!(course.straddles(|| 4), (4, false));
    }

    #[test]
    fn threads_run_until_it_is_over() {
        let calls = on_every_cpu(|course| {
            sleep(Duration::from_millis(20));
            course.change(|| sleep(Duration::from_millis(5)));
            Ok(())
        });
        let calls = calls.expect("they ran");
        assert!(calls.made > 0 && calls.straddled > 0 && calls.wrong == 0, "{calls:?}");
        let failed = together(2, |n, _| if n == 1 { Err("no".to_owned()) } else { Ok(()) }, |_| Ok(()));
        assert_eq!(failed, Err("no".to_owned()));
    }
}
