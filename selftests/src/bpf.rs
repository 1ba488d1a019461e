// SPDX-License-Identifier: MIT OR Apache-2.0
//! BPF objects, links and test runs, with the errno from the kernel.
//!
//! Calls libbpf directly where libbpf-rs would reduce the errno to an error kind: a test must distinguish
//! -E2BIG from -EBUSY.

mod skel {
    #![allow(
        clippy::all,
        clippy::undocumented_unsafe_blocks,
        clippy::unwrap_used,
        missing_docs,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/session.skel.rs"));
}
mod maps;
mod session;
pub use session::{Session, Unloaded};
pub use skel::types::{bss as Globals, call as Call, multi_seen as MultiSeen, seen as Seen, tally as Tally};

use crate::insn::{self, Insn};
use crate::syscall;
use libbpf_rs::{PrintLevel, libbpf_sys as sys};
use nix::errno::Errno;
use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// libbpf's messages since the last [`take_log`], including the verifier's log.
static LOG: Mutex<String> = Mutex::new(String::new());

/// Collects libbpf's messages instead of printing them on the console.
pub fn collect_log() {
    libbpf_rs::set_print(Some((PrintLevel::Info, |_, text| {
        if let Ok(mut log) = LOG.lock() {
            log.push_str(&text);
        }
    })));
}

/// The messages collected so far.
pub fn take_log() -> String {
    LOG.lock().map(|mut log| std::mem::take(&mut *log)).unwrap_or_default()
}

/// Whether programs are damaged on purpose.
static BLIND: AtomicBool = AtomicBool::new(false);

/// From now on the programs of the object ignore every call, and programs made of instructions do nothing and
/// are accepted. Affects this process; [`crate::support`] has probed the kernel before.
pub fn make_blind() {
    BLIND.store(true, Ordering::Relaxed);
}

/// The ID of no process.
const NOBODY: u32 = u32::MAX;

/// libbpf returns a negative errno.
fn check(ret: c_int) -> Result<c_int, Errno> {
    if ret < 0 { Err(Errno::from_raw(-ret)) } else { Ok(ret) }
}

/// How the kernel rejected a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The errno, including those that have no name in user space.
    pub errno: i32,
    pub log: String,
}

/// ENOTSUPP: internal to the kernel and not meant for user space, but returned for a kfunc call without a
/// JIT.
pub const ENOTSUPP: i32 = 524;

/// Name and meaning of an errno from the kernel.
pub fn errno_text(errno: i32) -> String {
    match errno {
        ENOTSUPP => format!("ENOTSUPP ({ENOTSUPP})"),
        errno => Errno::from_raw(errno).to_string(),
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.log.lines().filter(|line| !line.is_empty());
        let log: Vec<&str> = lines.filter(|line| !line.starts_with("processed ")).collect();
        write!(out, "{}, log {:?}", errno_text(self.errno), log.join("; "))
    }
}

/// The type of a minimal program and where it attaches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// At the entry of a function.
    Fentry,
    /// At the exit of a function.
    Fexit,
    /// At entry and exit.
    Fsession,
    /// At entry and exit of many functions, which are named when it is attached.
    FsessionMulti,
    /// Before a function, which it may replace.
    FmodRet,
    /// At a kprobe, or at many (BPF_TRACE_KPROBE_MULTI); loaded with this attach type.
    Kprobe(sys::bpf_attach_type),
    /// At a tracepoint, with its raw arguments; loaded with an attach type, which the kernel ignores.
    RawTracepoint(sys::bpf_attach_type),
    /// At entry and exit, through a kprobe.
    KprobeSession,
    /// At entry and exit of a function in user space.
    UprobeSession,
    /// At a tracepoint; loaded with an attach type, which the kernel ignores.
    Tracepoint(sys::bpf_attach_type),
    /// At a perf event; loaded with an attach type, which the kernel ignores.
    PerfEvent(sys::bpf_attach_type),
    /// At a hook of the security module.
    Lsm,
    /// For each object that an iterator shows.
    Iterator,
}

impl Kind {
    fn types(self) -> (sys::bpf_prog_type, sys::bpf_attach_type) {
        match self {
            Kind::Fentry => (sys::BPF_PROG_TYPE_TRACING, sys::BPF_TRACE_FENTRY),
            Kind::Fexit => (sys::BPF_PROG_TYPE_TRACING, sys::BPF_TRACE_FEXIT),
            Kind::Fsession => (sys::BPF_PROG_TYPE_TRACING, sys::BPF_TRACE_FSESSION),
            Kind::FsessionMulti => (sys::BPF_PROG_TYPE_TRACING, FSESSION_MULTI),
            Kind::FmodRet => (sys::BPF_PROG_TYPE_TRACING, sys::BPF_MODIFY_RETURN),
            Kind::Kprobe(attach_type) => (sys::BPF_PROG_TYPE_KPROBE, attach_type),
            Kind::RawTracepoint(attach_type) => (sys::BPF_PROG_TYPE_RAW_TRACEPOINT, attach_type),
            Kind::KprobeSession => (sys::BPF_PROG_TYPE_KPROBE, sys::BPF_TRACE_KPROBE_SESSION),
            Kind::UprobeSession => (sys::BPF_PROG_TYPE_KPROBE, sys::BPF_TRACE_UPROBE_SESSION),
            Kind::Tracepoint(attach_type) => (sys::BPF_PROG_TYPE_TRACEPOINT, attach_type),
            Kind::PerfEvent(attach_type) => (sys::BPF_PROG_TYPE_PERF_EVENT, attach_type),
            Kind::Iterator => (sys::BPF_PROG_TYPE_TRACING, sys::BPF_TRACE_ITER),
            Kind::Lsm => (sys::BPF_PROG_TYPE_LSM, sys::BPF_LSM_MAC),
        }
    }

    pub fn attach_type(self) -> sys::bpf_attach_type {
        self.types().1
    }
}

/// Loads a program that only calls these kfuncs one after the other, the first with its context as argument.
/// `target` is the BTF ID of the function for kinds that are loaded for one, otherwise 0.
pub fn load_minimal(kind: Kind, target: u32, kfuncs: &[u32]) -> Result<Copy, Refusal> {
    let insns: Vec<_> = kfuncs.iter().map(|&kfunc| insn::call(kfunc)).chain(insn::leave(0)).collect();
    load_insns(&insns, kind.types(), target)
}

/// Loads a program that only returns a value.
pub fn load_returning(kind: Kind, target: u32, value: i32) -> Result<Copy, Refusal> {
    load_insns(&insn::leave(value), kind.types(), target)
}

/// Loads a program that executes this code and returns 0.
pub fn load_code(kind: Kind, target: u32, code: &[Insn]) -> Result<Copy, Refusal> {
    load_insns(&[code, &insn::leave(0)].concat(), kind.types(), target)
}

/// Loads a sleepable program that only returns 0. `target` is the BTF ID of the function for kinds that are loaded for
/// one, otherwise 0.
pub fn load_sleepable(kind: Kind, target: u32) -> Result<Copy, Refusal> {
    load_with(&insn::leave(0), kind.types(), target, sys::BPF_F_SLEEPABLE, &mut vec![0; 64 * 1024])
}

fn load_insns(
    insns: &[sys::bpf_insn],
    types: (sys::bpf_prog_type, sys::bpf_attach_type),
    attach_btf_id: u32,
) -> Result<Copy, Refusal> {
    load_with(insns, types, attach_btf_id, 0, &mut vec![0; 64 * 1024])
}

/// Without room for a log the verifier writes none.
fn load_with(
    insns: &[sys::bpf_insn],
    (program_type, attach_type): (sys::bpf_prog_type, sys::bpf_attach_type),
    attach_btf_id: u32,
    prog_flags: u32,
    log: &mut [u8],
) -> Result<Copy, Refusal> {
    // mov64 r0, 0; exit
    let nothing = [0xb7, 0x95].map(|code| sys::bpf_insn { code, ..Default::default() });
    let insns = if BLIND.load(Ordering::Relaxed) { &nothing } else { insns };
    let mut opts = sys::bpf_prog_load_opts {
        sz: size_of::<sys::bpf_prog_load_opts>() as u64,
        expected_attach_type: attach_type,
        attach_btf_id,
        prog_flags,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log_buf: if log.is_empty() { std::ptr::null_mut() } else { log.as_mut_ptr().cast::<c_char>() },
        ..Default::default()
    };
    // SAFETY: all pointers refer to live memory of the given sizes.
    let ret = unsafe {
        sys::bpf_prog_load(
            program_type,
            c"copy".as_ptr(),
            c"Dual BSD/GPL".as_ptr(),
            insns.as_ptr(),
            insns.len() as u64,
            &mut opts,
        )
    };
    if ret >= 0 {
        return Ok(Copy { fd: own(ret), attach_type });
    }
    let len = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    Err(Refusal { errno: -ret, log: String::from_utf8_lossy(&log[..len]).into_owned() })
}

/// BPF_TRACE_FSESSION_MULTI, which libbpf does not know.
pub const FSESSION_MULTI: sys::bpf_attach_type = 61;

/// The value of BPF_TRACE_FSESSION that libbpf passes to the kernel.
pub const FSESSION: i64 = sys::BPF_TRACE_FSESSION as i64;

/// An object with one fentry program, for bpftool to load.
pub const TOOLS_OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tools.bpf.o"));

/// Opens a pinned program as an fsession.
pub fn pinned_session(path: &CStr) -> Result<Copy, Errno> {
    // SAFETY: the path is a string that lives until the call returns.
    let fd = check(unsafe { sys::bpf_obj_get(path.as_ptr()) })?;
    Ok(Copy { fd: own(fd), attach_type: sys::BPF_TRACE_FSESSION })
}

/// A separate program, outside of the object. A target only accepts the same code again as a different
/// program.
pub struct Copy {
    fd: OwnedFd,
    attach_type: sys::bpf_attach_type,
}

impl Copy {
    /// Attaches it to its target with an attach cookie (0: none).
    pub fn attach(&self, cookie: u64) -> Result<Link, Errno> {
        attach(self.fd.as_raw_fd(), self.attach_type, cookie)
    }

    pub fn raw(&self) -> c_int {
        self.fd.as_raw_fd()
    }

    /// Its system-wide ID.
    pub fn id(&self) -> Result<u32, Errno> {
        syscall::program_info(self.fd.as_raw_fd()).map(|info| info.id)
    }

    /// Runs it once without data; returns its return value.
    pub fn test_run(&self) -> Result<u32, Errno> {
        test_run(self.fd.as_raw_fd())
    }

    /// How often it ran while statistics were enabled.
    pub fn runs(&self) -> Result<u64, Errno> {
        syscall::program_info(self.fd.as_raw_fd()).map(|info| info.run_cnt)
    }

    /// Attaches it as a kprobe session to a kernel function.
    pub fn attach_to_symbol(&self, symbol: &CStr) -> Result<Link, Errno> {
        let mut opts = link_opts();
        let mut symbol = symbol.as_ptr();
        opts.__bindgen_anon_1.kprobe_multi.syms = &mut symbol;
        opts.__bindgen_anon_1.kprobe_multi.cnt = 1;
        // SAFETY: the options, and the one name that they point to, live until the call returns.
        check(unsafe { sys::bpf_link_create(self.fd.as_raw_fd(), 0, self.attach_type, &opts) }).map(Link::own)
    }

    /// Attaches it as a uprobe session to a location in a file.
    pub fn attach_to_file(&self, place: &FilePlace) -> Result<Link, Errno> {
        let mut opts = link_opts();
        opts.__bindgen_anon_1.uprobe_multi.path = place.path.as_ptr();
        opts.__bindgen_anon_1.uprobe_multi.offsets = &place.offset;
        opts.__bindgen_anon_1.uprobe_multi.cnt = 1;
        // SAFETY: the options, and what they point to, live until the call returns.
        check(unsafe { sys::bpf_link_create(self.fd.as_raw_fd(), 0, self.attach_type, &opts) }).map(Link::own)
    }
}

/// A location in an executable file.
#[derive(Debug, Clone, PartialEq)]
pub struct FilePlace {
    pub path: CString,
    /// Offset from the start of the file.
    pub offset: u64,
}

fn link_opts() -> sys::bpf_link_create_opts {
    sys::bpf_link_create_opts { sz: size_of::<sys::bpf_link_create_opts>() as u64, ..Default::default() }
}

/// Attaches a tracing program to the target that it was loaded for.
fn attach(program: c_int, attach_type: sys::bpf_attach_type, cookie: u64) -> Result<Link, Errno> {
    syscall::link_create(program, attach_type, cookie).map(|fd| Link { fd })
}

/// Takes ownership of a descriptor that a system call has just returned.
pub fn own(fd: c_int) -> OwnedFd {
    // SAFETY: nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The kernel's counters of a program.
#[derive(Debug, PartialEq)]
pub struct Stats {
    /// Runs while statistics were enabled.
    pub runs: u64,
    /// Runs skipped because the program was already running on that CPU.
    pub misses: u64,
}

/// Enables the kernel's statistics until the result is dropped.
pub fn enable_stats() -> Result<OwnedFd, Errno> {
    // SAFETY: takes no pointer.
    check(unsafe { sys::bpf_enable_stats(sys::BPF_STATS_RUN_TIME) }).map(own)
}

/// BPF_PROG_TEST_RUN without data; returns `retval`.
pub fn test_run(fd: c_int) -> Result<u32, Errno> {
    test_run_with(fd, &[])
}

/// BPF_PROG_TEST_RUN with a packet, if there is any data; returns `retval`.
pub fn test_run_with(fd: c_int, packet: &[u8]) -> Result<u32, Errno> {
    let mut opts = sys::bpf_test_run_opts {
        sz: size_of::<sys::bpf_test_run_opts>() as u64,
        data_in: if packet.is_empty() { std::ptr::null() } else { packet.as_ptr().cast() },
        data_size_in: packet.len() as u32,
        ..Default::default()
    };
    // SAFETY: the options and the packet live until the call returns.
    check(unsafe { sys::bpf_prog_test_run_opts(fd, &mut opts) })?;
    Ok(opts.retval)
}

/// A link of a tracing program; dropping it detaches.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

impl From<OwnedFd> for Link {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl Link {
    /// Takes ownership of the descriptor of a link that a system call has just returned.
    pub fn own(fd: c_int) -> Self {
        Self { fd: own(fd) }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its system-wide ID.
    pub fn id(&self) -> Result<u32, Errno> {
        syscall::link_info(self).map(|info| info.id)
    }
}

/// Pins a link in bpffs: it exists without descriptors.
pub fn pin(link: &Link, path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path is a string that lives until the call returns.
    check(unsafe { sys::bpf_obj_pin(link.fd.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// Deletes from a map with keys of 32 bits; the key may be absent.
pub fn delete(map: c_int, key: u32) {
    // SAFETY: the key has the size of the map's definition.
    let _ = unsafe { sys::bpf_map_delete_elem(map, (&raw const key).cast()) };
}

/// IDs of all objects of a kind, as listed by the kernel.
fn ids(next: impl Fn(u32, &mut u32) -> c_int) -> Result<Vec<u32>, Errno> {
    let (mut all, mut id) = (Vec::new(), 0);
    loop {
        let after = id;
        match check(next(after, &mut id)) {
            Ok(_) => all.push(id),
            Err(Errno::ENOENT) => return Ok(all),
            Err(errno) => return Err(errno),
        }
    }
}

/// IDs of all links in the system.
pub fn link_ids() -> Result<Vec<u32>, Errno> {
    // SAFETY: writes one number.
    ids(|after, id| unsafe { sys::bpf_link_get_next_id(after, id) })
}

/// IDs of all programs in the system.
pub fn program_ids() -> Result<Vec<u32>, Errno> {
    // SAFETY: writes one number.
    ids(|after, id| unsafe { sys::bpf_prog_get_next_id(after, id) })
}

/// A link made by libbpf; dropping it detaches.
#[derive(Debug)]
pub struct Probe(NonNull<sys::bpf_link>);

impl Drop for Probe {
    fn drop(&mut self) {
        // SAFETY: made by libbpf and destroyed only here. If that fails, the link dies with this process.
        unsafe { sys::bpf_link__destroy(self.0.as_ptr()) };
    }
}
