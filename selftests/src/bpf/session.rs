// SPDX-License-Identifier: MIT OR Apache-2.0
//! The BPF object of the suite: which of its programs are loaded, its globals, and copies of its programs for other
//! targets.

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{AsRawLibbpf, OpenObject, libbpf_sys as sys};
use nix::errno::Errno;

use super::{
    BLIND, Copy, FilePlace, Globals, Kind, Link, NOBODY, Probe, Stats, attach, check, errno_text, load_insns,
    load_with, skel, test_run,
};
use crate::syscall;

/// The object of the suite, with some of its programs loaded.
pub struct Session {
    programs: Vec<(String, NonNull<sys::bpf_program>)>,
    globals: NonNull<Globals>,
    pub(super) skel: skel::OpenSessionSkel<'static>,
}

/// The object, opened but not loaded.
pub struct Unloaded(pub(super) Session);

impl Unloaded {
    /// Opens the object; no program is selected yet. Needs neither privileges nor BPF support.
    pub fn open() -> Result<Self, String> {
        // Leaked: it lives as long as the process, which runs one subtest. Simpler than carrying the lifetime
        // everywhere.
        let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut skel =
            skel::SessionSkelBuilder::default().open(storage).map_err(|err| format!("open object: {err}"))?;
        let globals = skel.maps.bss_data.as_deref_mut().ok_or("the object has no globals")?;
        let globals = NonNull::from(globals);
        let mut programs = Vec::new();
        for mut program in skel.open_object_mut().progs_mut() {
            program.set_autoload(false);
            programs.push((program.name().to_string_lossy().into_owned(), program.as_libbpf_object()));
        }
        Ok(Self(Session { programs, globals, skel }))
    }

    /// Names of all programs.
    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.programs.iter().map(|(name, _)| name.as_str())
    }

    /// Selects a program to be loaded.
    pub fn choose(&mut self, name: &str) -> Result<(), String> {
        let program = self.0.program(name)?;
        // SAFETY: a program of an open object, which lives in `skel`.
        check(unsafe { sys::bpf_program__set_autoload(program.as_ptr(), true) })
            .map(drop)
            .map_err(|errno| format!("choose {name}: {errno}"))
    }

    /// Makes a function of another BPF program the target of a program.
    pub fn set_target(&mut self, name: &str, target: c_int, function: &CStr) -> Result<(), String> {
        let program = self.0.program(name)?;
        // SAFETY: a program of an open object, which lives in `skel`; libbpf copies the name.
        check(unsafe { sys::bpf_program__set_attach_target(program.as_ptr(), target, function.as_ptr()) })
            .map(drop)
            .map_err(|errno| format!("target of {name}: {errno}"))
    }

    /// Makes a program one of another kind, which need not be known to libbpf.
    pub fn set_kind(&mut self, name: &str, kind: Kind) -> Result<(), String> {
        let program = self.0.program(name)?.as_ptr();
        let (program_type, attach_type) = kind.types();
        // SAFETY: a program of an open object, which lives in `skel`.
        let ret = unsafe {
            match sys::bpf_program__set_type(program, program_type) {
                0 => sys::bpf_program__set_expected_attach_type(program, attach_type),
                ret => ret,
            }
        };
        check(ret).map(drop).map_err(|errno| format!("type of {name}: {errno}"))
    }

    /// Loads the selected programs. After an error, the reason is in the collected log.
    pub fn load(self) -> Result<Session, Errno> {
        self.load_or_number().map_err(Errno::from_raw)
    }

    /// The same with the number of the errno, which may have no name in user space.
    pub fn load_or_number(self) -> Result<Session, i32> {
        let object = self.0.skel.open_object().as_libbpf_object();
        // SAFETY: an open object, loaded once because this consumes the only handle that can.
        let ret = unsafe { sys::bpf_object__load(object.as_ptr()) };
        if ret < 0 { Err(-ret) } else { Ok(self.0) }
    }
}

impl Session {
    /// Opens the object and loads the named programs.
    pub fn load(names: &[&str]) -> Result<Self, String> {
        let mut object = Unloaded::open()?;
        for name in names {
            object.choose(name)?;
        }
        object.load().map_err(|errno| format!("loading {}: {errno}", names.join(", ")))
    }

    /// A copy of the programs' globals. Volatile, because programs write to them behind the compiler's back.
    pub fn globals(&self) -> Globals {
        // SAFETY: the mapping lives as long as the object, and every bit pattern is a value.
        unsafe { self.globals.as_ptr().read_volatile() }
    }

    /// Clears everything that the programs recorded; from now on calls of the process `tgid` count.
    pub fn reset(&self, tgid: u32) {
        self.set(|globals| {
            // SAFETY: integers and arrays of them, for which zeros are valid.
            *globals = unsafe { std::mem::zeroed() };
            globals.tgid = if BLIND.load(Ordering::Relaxed) { NOBODY } else { tgid };
        });
    }

    /// Changes the globals. No program may be running: its concurrent writes would be lost.
    pub fn set(&self, change: impl FnOnce(&mut Globals)) {
        let mut globals = self.globals();
        change(&mut globals);
        // SAFETY: as for reading.
        unsafe { self.globals.as_ptr().write_volatile(globals) }
    }

    /// A word of the globals that can be accessed while programs run, by its byte offset from `offset_of!`.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset + 8 <= size_of::<Globals>(), "a word of the globals");
        // SAFETY: within the mapping, which lives as long as the object, and aligned like it.
        unsafe { AtomicU64::from_ptr(self.globals.as_ptr().byte_add(offset).cast()) }
    }

    fn program(&self, name: &str) -> Result<NonNull<sys::bpf_program>, String> {
        let found = self.programs.iter().find(|(known, _)| known == name);
        found.map(|&(_, program)| program).ok_or_else(|| format!("the object has no program {name}"))
    }

    /// Descriptor of a loaded program, owned by the object.
    pub fn fd(&self, name: &str) -> Result<c_int, String> {
        // SAFETY: a program of an object that lives in `skel`.
        let fd = unsafe { sys::bpf_program__fd(self.program(name)?.as_ptr()) };
        check(fd).map_err(|errno| format!("program {name} is not loaded: {errno}"))
    }

    /// A loaded program on its own, as one of the kind that it was loaded as.
    pub fn loaded(&self, name: &str, kind: Kind) -> Result<Copy, String> {
        // SAFETY: a descriptor of an object that lives in `skel`.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd(name)?) };
        let fd = fd.try_clone_to_owned().map_err(|err| format!("program {name}: {err}"))?;
        Ok(Copy { fd, attach_type: kind.attach_type() })
    }

    /// Loads another copy of a loaded tracing program, for `attach_btf_id`. Both use the same globals.
    pub fn copy(&self, name: &str, attach_btf_id: u32) -> Result<Copy, String> {
        let (insns, attach_type) = self.code(name)?;
        load_insns(insns, (sys::BPF_PROG_TYPE_TRACING, attach_type), attach_btf_id)
            .map_err(|refusal| format!("load a copy of {name}: {refusal}"))
    }

    /// The same without a log; returns the errno in words.
    pub fn copy_without_log(&self, name: &str, attach_btf_id: u32) -> Result<Copy, String> {
        let (insns, attach_type) = self.code(name)?;
        load_with(insns, (sys::BPF_PROG_TYPE_TRACING, attach_type), attach_btf_id, 0, &mut [])
            .map_err(|refusal| errno_text(refusal.errno))
    }

    /// Loads the code of a loaded session again, for many functions.
    pub fn for_many(&self, name: &str, sleepable: bool) -> Result<Copy, String> {
        let flags = if sleepable { sys::BPF_F_SLEEPABLE } else { 0 };
        load_with(self.code(name)?.0, Kind::FsessionMulti.types(), 0, flags, &mut vec![0; 64 * 1024])
            .map_err(|refusal| format!("load {name} for many functions: {refusal}"))
    }

    /// Instructions and attach type of a loaded program.
    fn code(&self, name: &str) -> Result<(&[sys::bpf_insn], sys::bpf_attach_type), String> {
        let program = self.program(name)?.as_ptr();
        // SAFETY: a program of a loaded object that lives in `skel`; libbpf returns the number of its
        // instructions, and the numbers of kfuncs and maps in them are still valid.
        Ok(unsafe {
            let insns = sys::bpf_program__insns(program);
            let count = sys::bpf_program__insn_cnt(program);
            (
                std::slice::from_raw_parts(insns, count as usize),
                sys::bpf_program__expected_attach_type(program),
            )
        })
    }

    /// Loads another copy of a loaded tracing program, for the same target.
    pub fn twin(&self, name: &str) -> Result<Copy, String> {
        self.copy(name, self.info(name)?.attach_btf_id)
    }

    /// Attaches a tracing program to its target with an attach cookie (0: none).
    pub fn attach(&self, name: &str, cookie: u64) -> Result<Result<Link, Errno>, String> {
        let fd = self.fd(name)?;
        // SAFETY: a program of an object that lives in `skel`.
        let attach_type = unsafe { sys::bpf_program__expected_attach_type(self.program(name)?.as_ptr()) };
        Ok(attach(fd, attach_type, cookie))
    }

    /// Attaches a program other than a tracing program, according to its section.
    pub fn attach_probe(&self, name: &str) -> Result<Probe, String> {
        // SAFETY: a program of an object that lives in `skel`.
        let link = unsafe { sys::bpf_program__attach(self.program(name)?.as_ptr()) };
        NonNull::new(link).map(Probe).ok_or_else(|| format!("attach {name}: {}", Errno::last()))
    }

    /// Attaches a program as a uprobe session to a location in a file, for every process that executes it.
    pub fn attach_uprobe_session(&self, name: &str, place: &FilePlace) -> Result<Probe, String> {
        let opts = sys::bpf_uprobe_multi_opts {
            sz: size_of::<sys::bpf_uprobe_multi_opts>() as u64,
            offsets: &place.offset,
            cnt: 1,
            session: true,
            ..Default::default()
        };
        let program = self.program(name)?.as_ptr();
        // SAFETY: a program of an object that lives in `skel`; the options and what they point to live until
        // the call returns.
        let link = unsafe {
            sys::bpf_program__attach_uprobe_multi(program, -1, place.path.as_ptr(), std::ptr::null(), &opts)
        };
        let at = || format!("{}+{:#x}", place.path.to_string_lossy(), place.offset);
        NonNull::new(link).map(Probe).ok_or_else(|| format!("attach {name} to {}: {}", at(), Errno::last()))
    }

    /// Whether the JIT compiled a program; otherwise the interpreter runs it.
    pub fn is_jited(&self, name: &str) -> Result<bool, String> {
        self.info(name).map(|info| info.jited_prog_len > 0)
    }

    /// The kernel's counters of a program.
    pub fn stats(&self, name: &str) -> Result<Stats, String> {
        let info = self.info(name)?;
        Ok(Stats { runs: info.run_cnt, misses: info.recursion_misses })
    }

    /// The kernel's information about a program.
    pub fn info(&self, name: &str) -> Result<sys::bpf_prog_info, String> {
        let fd = self.fd(name)?;
        syscall::program_info(fd).map_err(|errno| format!("info of {name}: {errno}"))
    }

    /// BPF_PROG_TEST_RUN without data; returns `retval`.
    pub fn test_run(&self, name: &str) -> Result<u32, String> {
        test_run(self.fd(name)?).map_err(|errno| format!("test run of {name}: {errno}"))
    }
}
