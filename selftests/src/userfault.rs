// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages whose first access waits for this process: whatever accesses one sleeps, even inside a BPF program,
//! until the page is filled. Uses userfaultfd(2); layouts and numbers are from
//! `include/uapi/linux/userfaultfd.h`.

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// `UFFD_API`, also the type of its ioctls.
const API: u64 = 0xaa;
/// `UFFDIO_REGISTER_MODE_MISSING`.
const MISSING: u64 = 1;
/// `UFFD_EVENT_PAGEFAULT`.
const PAGEFAULT: u8 = 0x12;
const PAGE: usize = 4096;

/// `struct uffdio_api`.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register` and `struct uffdio_zeropage`; the kernel writes the last word.
#[repr(C)]
struct Range {
    start: u64,
    len: u64,
    mode: u64,
    said: u64,
}

/// `struct uffd_msg`, with only the fields of a page fault.
#[repr(C)]
#[derive(Default)]
struct Message {
    event: u8,
    reserved: [u8; 7],
    flags: u64,
    address: u64,
    feature: u64,
}

mod ioctls {
    use super::{API, Api, Range};
    nix::ioctl_readwrite!(api, API, 0x3f, Api);
    nix::ioctl_readwrite!(register, API, 0x00, Range);
    nix::ioctl_readwrite!(zero, API, 0x04, Range);
}

/// The descriptor; `ENOSYS` if the kernel is built without CONFIG_USERFAULTFD.
fn open() -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers; nothing else owns the descriptor.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Whether this kernel supports it.
pub fn is_there() -> bool {
    !matches!(open(), Err(Errno::ENOSYS))
}

/// Such pages. On drop, threads that still sleep get an error instead of the page.
pub struct Pages {
    fd: OwnedFd,
    start: NonNull<libc::c_void>,
    count: usize,
}

// SAFETY: the mapping is never read or written through this; its calls may come from any thread.
unsafe impl Send for Pages {}

impl Pages {
    /// Creates empty pages: accesses to them wait.
    pub fn new(count: usize) -> Result<Self, String> {
        let fd = open().map_err(|errno| format!("userfaultfd: {errno}"))?;
        let mut api = Api { api: API, features: 0, ioctls: 0 };
        // SAFETY: the structure is what this ioctl reads and writes.
        unsafe { ioctls::api(fd.as_raw_fd(), &mut api) }.map_err(|errno| format!("UFFDIO_API: {errno}"))?;
        let (flags, access) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), count * PAGE, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(format!("mmap: {}", Errno::last()));
        }
        let start = NonNull::new(start).ok_or("mmap gave address 0")?;
        let pages = Self { fd, start, count };
        let mut range = pages.range(0, count, MISSING);
        // SAFETY: as above.
        unsafe { ioctls::register(pages.fd.as_raw_fd(), &mut range) }
            .map_err(|errno| format!("UFFDIO_REGISTER: {errno}"))?;
        Ok(pages)
    }

    /// Address of a page.
    pub fn address(&self, page: usize) -> u64 {
        self.start.as_ptr() as u64 + (page * PAGE) as u64
    }

    fn range(&self, page: usize, count: usize, mode: u64) -> Range {
        Range { start: self.address(page), len: (count * PAGE) as u64, mode, said: 0 }
    }

    /// Waits until a thread sleeps in an access; returns the page. Each thread is reported once.
    pub fn wait(&self, limit: Duration) -> Result<usize, String> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], timeout) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(format!("poll of the userfaultfd: {errno}")),
                Ok(0) => return Err(format!("no thread accessed a page within {} s", limit.as_secs())),
                Ok(_) => (),
            }
            let mut message = Message::default();
            let size = size_of::<Message>();
            // SAFETY: as many bytes as the structure has, and any value is valid for its fields.
            let got = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut message).cast(), size) };
            match Errno::result(got) {
                // The thread that woke us has been answered in between.
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(errno) => return Err(format!("read of the userfaultfd: {errno}")),
                Ok(got) if got as usize != size || message.event != PAGEFAULT => {
                    return Err(format!("event {:#x} of the userfaultfd, {got} bytes", message.event));
                }
                Ok(_) => return Ok((message.address.wrapping_sub(self.address(0)) / PAGE as u64) as usize),
            }
        }
    }

    /// Fills a page, so that the threads that sleep on it continue.
    pub fn fill(&self, page: usize) -> Result<(), String> {
        let mut range = self.range(page, 1, 0);
        // SAFETY: the structure is what this ioctl reads and writes, and the page is ours.
        unsafe { ioctls::zero(self.fd.as_raw_fd(), &mut range) }
            .map(drop)
            .map_err(|errno| format!("UFFDIO_ZEROPAGE: {errno}"))
    }

    /// Empties all pages: accesses wait again.
    pub fn empty(&self) -> Result<(), String> {
        // SAFETY: ours, and nothing refers to their contents.
        let ret = unsafe { libc::madvise(self.start.as_ptr(), self.count * PAGE, libc::MADV_DONTNEED) };
        Errno::result(ret).map(drop).map_err(|errno| format!("madvise: {errno}"))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: ours, and no longer used. The descriptor is closed afterwards: sleeping threads get a
        // fault.
        unsafe { libc::munmap(self.start.as_ptr(), self.count * PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_a_page_sleeps_until_it_is_filled() {
        // A kernel may be built without it, and by default only root may make the kernel's own accesses wait.
        // The real test is the subtest in a guest, where the runner is root and every number is checked.
        if let Err(Errno::ENOSYS | Errno::EPERM) = open() {
            assert!(Pages::new(2).is_err());
            return;
        }
        let limit = Duration::from_secs(5);
        let pages = Pages::new(2).expect("pages");
        for _ in 0..2 {
            pages.empty().expect("taken away");
            std::thread::scope(|scope| {
                let address = pages.address(1);
                // SAFETY: mapped as long as the pages live, which is longer than the scope.
                let reader = scope.spawn(move || unsafe { std::ptr::read_volatile(address as *const u64) });
                assert_eq!(pages.wait(limit), Ok(1));
                assert!(!reader.is_finished());
                pages.fill(1).expect("filled");
                assert_eq!(reader.join().expect("read"), 0);
            });
        }
        assert!(pages.wait(Duration::from_millis(10)).is_err(), "nobody reads");
    }
}
