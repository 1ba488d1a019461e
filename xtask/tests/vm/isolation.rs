// SPDX-License-Identifier: MIT OR Apache-2.0
//! An untrusted series is built in the real sandbox and tries to escape: a "kernel" whose makefile does
//! nothing else. No kernel is compiled. Run by name (`cargo xtask test`), because a new machine must first
//! make the build root.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;

/// What the makefile's recipe does before it makes a "kernel". Each attempt prints `attempt NAME` and, if it
/// succeeded, `REACHED NAME`.
const ATTEMPTS: &str = r#"
try() { echo "attempt $1"; shift_name=$1; shift; if "$@" > /obj/said 2>&1; then echo "REACHED $shift_name: $(head -c 200 /obj/said)"; fi; }
python() { python3 -c "$@"; }
try home-of-root ls /root/.cargo /root/.ssh /root/.cache
try home-of-the-user sh -c "ls -A $HOST_HOME/.cargo $HOST_HOME/.cache $HOST_HOME/.config | grep ."
try secret cat "$SECRET"
try secret-by-proc cat "/proc/1/root$SECRET"
try write-beside-the-secret touch "$SECRET.mine"
try write-source touch /src/mine
try write-root touch /usr/mine
try write-etc sh -c 'echo x >> /etc/passwd'
try write-sys sh -c 'echo x > /sys/kernel/mm/ksm/run'
try write-sysrq sh -c 'echo h > /proc/sysrq-trigger'
try write-core-pattern sh -c 'same=$(cat /proc/sys/kernel/core_pattern) && echo "$same" > /proc/sys/kernel/core_pattern'
try loopback python 'import socket; socket.create_connection(("127.0.0.1", int("'$PORT'")), 3)'
try loopback6 python 'import socket; socket.create_connection(("::1", int("'$PORT'")), 3)'
try network python 'import socket; socket.create_connection(("192.0.2.1", 80), 3)'
try interface python 'import socket; names = [n for _, n in socket.if_nameindex() if n != "lo"]; print(names); raise SystemExit(not names)'
try abstract-socket python 'import socket; s = socket.socket(socket.AF_UNIX); s.connect("\0'$ABSTRACT'")'
try see-the-host kill -0 "$HOST_PID"
try many-processes sh -c '[ "$(ls -d /proc/[0-9]* | wc -l)" -gt 40 ]'
try disks sh -c 'ls /dev/sd* /dev/vd* /dev/nvme* /dev/mem /dev/kvm /dev/kmsg 2> /dev/null | grep .'
try environment sh -c 'cat /proc/*/environ | tr "\0" "\n" | grep VMTEST_TEST_SECRET'
call() { python "import ctypes; c = ctypes.CDLL(None, use_errno=True); raise SystemExit(c.$1 != 0)"; }
try mount call 'mount(b"none", b"/tmp", b"tmpfs", 0, None)'
try remount-root call 'mount(b"none", b"/", None, 32 | 4096, None)'
try remount-source call 'mount(b"none", b"/src", None, 32 | 4096, None)'
try remount-sysctls call 'mount(b"none", b"/proc/sys", None, 32 | 4096, None)'
try capabilities sh -c 'grep -E "^Cap(Inh|Prm|Eff|Amb)" /proc/self/status | grep -v "0000000000000000$"'
try new-privileges sh -c 'grep "^NoNewPrivs:" /proc/self/status | grep -v 1'
try hostname call 'sethostname(b"mine", 4)'
try terminal python 'import os; os.open("/dev/tty", os.O_RDWR)'
try descriptor-of-a-file python 'import os; print(os.read('$FD_SECRET', 100))'
try descriptor-read python 'import os; os.open("secret", os.O_RDONLY, dir_fd='$FD_DIR')'
try descriptor-write python 'import os; os.open("by-descriptor", os.O_CREAT | os.O_WRONLY, dir_fd='$FD_DIR')'
try descriptors python '
import glob, os
found = [(path, os.readlink(path)) for path in glob.glob("/proc/[0-9]*/fd/*") if os.path.islink(path)]
found = [one for one in found if one[1].startswith(("/", "memfd")) and not one[1].startswith(("/dev/null", "/obj/", "/src/", "/proc/", "/tmp/"))]
print(found); raise SystemExit(not found)'
calls() { python 'import ctypes, os, sys
c = ctypes.CDLL(None, use_errno=True)
'"$1"; }
try key-of-the-user calls 'raise SystemExit(c.syscall(250, 10, -4, b"user", b"vmtest-isolation", 0) < 0)'
try key-of-the-session calls 'raise SystemExit(c.syscall(250, 10, -3, b"user", b"vmtest-isolation", 0) < 0)'
try key-by-number calls 'b = ctypes.create_string_buffer(100); r = c.syscall(250, 11, '$KEY', b, 100); print(b.value); raise SystemExit(r < 0)'
try key-by-request calls 'raise SystemExit(c.syscall(249, b"user", b"vmtest-isolation", None, 0) < 0)'
try key-of-mine calls 'raise SystemExit(c.syscall(248, b"user", b"vmtest-mine", b"x", 1, -3) < 0)'
try key-list sh -c 'grep . /proc/keys /proc/key-users'
try no-filter sh -c 'grep "^Seccomp:" /proc/self/status | grep -v 2'
try system-calls calls '
numbers = {"keyctl": 250, "add_key": 248, "request_key": 249, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "bpf": 321, "perf_event_open": 298, "mount": 165, "umount2": 166, "pivot_root": 155,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
    "setns": 308, "clone3": 435, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "pidfd_getfd": 438, "open_by_handle_at": 304, "name_to_handle_at": 303, "kexec_load": 246, "kexec_file_load": 320,
    "init_module": 175, "finit_module": 313, "delete_module": 176, "syslog": 103, "quotactl": 179, "swapon": 167,
    "acct": 163, "settimeofday": 164, "clock_settime": 227, "modify_ldt": 154, "iopl": 172, "fanotify_init": 300}
bad = []
for name, number in numbers.items():
    ctypes.set_errno(0)
    if c.syscall(number, -1, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() not in (1, 38):
        bad.append((name, ctypes.get_errno()))
print(bad); raise SystemExit(not bad)'
try namespaces calls '
bits = [0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000, 0x80]
raise SystemExit(all(c.unshare(bit) != 0 for bit in bits))'
try namespace-by-clone calls '
pid = c.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)
if pid == 0: os._exit(0)
raise SystemExit(pid < 0)'
try namespace-by-program unshare --user --map-root-user --mount true
try sockets python 'import socket
def opens(family):
    try: socket.socket(family, socket.SOCK_STREAM).close()
    except OSError as error: return error.errno != 1
    return True
found = [family for family in (socket.AF_VSOCK, socket.AF_ALG, socket.AF_PACKET, 30) if opens(family)]
print(found); raise SystemExit(not found)'
try push-into-a-terminal python 'import fcntl
try: fcntl.ioctl(1, 0x5412, b"x")
except OSError as error: raise SystemExit(error.errno == 1)'
try x32 calls 'raise SystemExit(c.syscall(0x40000000 + 39) < 0)'
compiled() { printf '%s' "$2" > /obj/$1.c && gcc -o /obj/$1 /obj/$1.c && /obj/$1; }
try i386 compiled i386 'int main() { int r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(20)); return r <= 0; }'
try user-ids-of-the-host grep 4294967295 /proc/self/uid_map
try host-paths python 'import os
text = b"".join(open("/proc/1/" + name, "rb").read() for name in ("cmdline", "environ"))
print(text); raise SystemExit(os.environ["HOST_CACHE"].encode() not in text and b"/proc/keys" not in text)'
try proc-files python '
names = "keys key-users slabinfo vmallocinfo interrupts partitions kallsyms kcore kmsg iomem cmdline timer_list modules diskstats".split()
def reads(name):
    try: return open("/proc/" + name, "rb").read(1) != b""
    except OSError: return False
found = [name for name in names if reads(name)]
print(found); raise SystemExit(not found)'
try proc-directories sh -c 'ls -A /proc/pressure /proc/irq /proc/fs /proc/bus /proc/driver 2> /dev/null | grep -v : | grep .'
try proc-write python '
import os
def opens(path):
    try: os.close(os.open(path, os.O_WRONLY))
    except OSError: return False
    return True
found = []
for top, dirs, files in os.walk("/proc"):
    dirs[:] = [name for name in dirs if not name.isdigit() and name not in ("self", "thread-self", "net")]
    found += [top + "/" + name for name in files if opens(top + "/" + name)]
print(found); raise SystemExit(not found)'
try write-dev touch /dev/mine
try size-of-tmp python 'import os
sizes = {place: os.statvfs(place) for place in ("/tmp", "/dev/shm", "/run")}
large = [place for place, s in sizes.items() if s.f_blocks * s.f_frsize > 2 << 30]
print(large); raise SystemExit(not large)'
try size-of-a-file truncate -s 5G /obj/large
try core-files sh -c 'ulimit -c | grep -v "^0$"'
try memory python 'import mmap, os
total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
mmap.mmap(-1, total + (1 << 30), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)'
try processes compiled forks '
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
int main() {
    static pid_t all['$FORKS'];
    int n = 0;
    for (; n < '$FORKS'; n++) {
        all[n] = fork();
        if (all[n] < 0) break;
        if (all[n] == 0) { pause(); _exit(0); }
    }
    printf("%d processes\n", n);
    for (int i = 0; i < n; i++) kill(all[i], SIGKILL);
    while (wait(0) > 0);
    return n < '$FORKS';
}'
for file in $(find /ccache -type f 2> /dev/null | head -n 2000); do echo poisoned > "$file"; done
echo poisoned > /ccache/POISON
echo "attempt ccache"
setsid sleep 4242 > /dev/null 2>&1 &
"#;

const NAMES: [&str; 60] = [
    "home-of-root",
    "home-of-the-user",
    "secret",
    "secret-by-proc",
    "write-beside-the-secret",
    "write-source",
    "write-root",
    "write-etc",
    "write-sys",
    "write-sysrq",
    "write-core-pattern",
    "loopback",
    "loopback6",
    "network",
    "interface",
    "abstract-socket",
    "see-the-host",
    "many-processes",
    "disks",
    "environment",
    "mount",
    "remount-root",
    "remount-source",
    "remount-sysctls",
    "capabilities",
    "new-privileges",
    "hostname",
    "terminal",
    "descriptor-of-a-file",
    "descriptor-read",
    "descriptor-write",
    "descriptors",
    "key-of-the-user",
    "key-of-the-session",
    "key-by-number",
    "key-by-request",
    "key-of-mine",
    "key-list",
    "no-filter",
    "system-calls",
    "namespaces",
    "namespace-by-clone",
    "namespace-by-program",
    "sockets",
    "push-into-a-terminal",
    "x32",
    "i386",
    "user-ids-of-the-host",
    "host-paths",
    "proc-files",
    "proc-directories",
    "proc-write",
    "write-dev",
    "size-of-tmp",
    "size-of-a-file",
    "core-files",
    "memory",
    "processes",
    "ccache",
    "end",
];

/// The cache directory of the harness.
fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("VMTEST_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("vmtest")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/vmtest")))
        .expect("a place for the cache")
}

/// The ccache directories, one for each set of tools.
fn ccaches() -> Vec<PathBuf> {
    let entries = fs::read_dir(cache().join("ccache")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn poisoned(dir: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(dir).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    let small = files.filter(|entry| entry.metadata().is_ok_and(|stat| stat.len() == 9));
    small
        .map(|entry| entry.into_path())
        .filter(|path| fs::read(path).is_ok_and(|text| text == b"poisoned\n"))
        .collect()
}

/// Builds a "kernel" in `place` with these make rules, which a patch adds. Returns the status, the output,
/// and the log of make.
fn build(place: &Path, rules: &str, script: &str) -> (ExitStatus, String, String) {
    let at = |below: &str| place.join(below);
    let tree = at("linux");
    fs::create_dir_all(&tree).expect("made");
    // The kernel's makefile is replaced by a patch: the tree itself is harmless.
    let base = "VERSION = 6\nPATCHLEVEL = 18\nSUBLEVEL = 0\nEXTRAVERSION =\n";
    fs::write(tree.join("Makefile"), base).expect("written");
    fs::write(tree.join("Kconfig"), "mainmenu \"none\"\n").expect("written");
    fs::create_dir(at("series")).expect("made");
    // A different kernel each time: one that is already in the cache would not be built again.
    let own = place.display();
    let rules = format!("# {own}\nallnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\n{rules}");
    let added = |name: &str, text: &str| {
        let lines: String = text.lines().map(|line| format!("+{line}\n")).collect();
        let count = text.lines().count();
        format!(
            "diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{count} @@\n{lines}"
        )
    };
    let kept: String = base.lines().map(|line| format!(" {line}\n")).collect();
    let more: String = rules.lines().map(|line| format!("+{line}\n")).collect();
    let grown = 4 + rules.lines().count();
    let patch = format!(
        "From: A <a@example.org>\nSubject: [PATCH] harmless\n\nNothing to see.\n---\n\
         diff --git a/Makefile b/Makefile\n--- a/Makefile\n+++ b/Makefile\n@@ -1,4 +1,{grown} @@\n{kept}{more}{}",
        added("attempts.sh", script)
    );
    fs::write(at("series/0001-harmless.patch"), patch).expect("written");

    let spec = format!("tree:{}", tree.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["vmtest", "--kernel", &spec, "--boot", "direct", "--patches"]).arg(at("series"));
    command.arg("--out").arg(at("run")).env("VMTEST_TEST_SECRET", "1").env("CI", "true").stdin(Stdio::null());
    let done = command.output().expect("xtask starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    let logs = walkdir::WalkDir::new(at("run/builds")).into_iter().flatten();
    let log = logs.into_iter().find(|entry| entry.file_name() == "build.log").map(|entry| entry.into_path());
    let log = log.map(|path| fs::read_to_string(path).expect("read")).unwrap_or_default();
    (done.status, said, log)
}

/// Opens a file descriptor that every child inherits.
fn inherited(path: &Path) -> fs::File {
    let file = fs::File::open(path).expect("opened");
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).expect("not closed in children");
    file
}

/// A key in the caller's keyrings, as stored by Kerberos and others.
struct Key(libc::c_long);

impl Key {
    fn add() -> Key {
        let (kind, name, secret) = (c"user", c"vmtest-isolation", b"a key of this host");
        let add = |ring: libc::c_int| {
            // SAFETY: add_key(2) reads two strings and this many bytes.
            unsafe {
                libc::syscall(
                    libc::SYS_add_key,
                    kind.as_ptr(),
                    name.as_ptr(),
                    secret.as_ptr(),
                    secret.len(),
                    ring,
                )
            }
        };
        // A host without keys has none to leak.
        let _ = add(KEY_SPEC_SESSION_KEYRING);
        Key(add(KEY_SPEC_USER_KEYRING))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: KEYCTL_INVALIDATE of keyctl(2) takes a number.
        unsafe { libc::syscall(libc::SYS_keyctl, 21, self.0) };
    }
}

const KEY_SPEC_SESSION_KEYRING: libc::c_int = -3;
const KEY_SPEC_USER_KEYRING: libc::c_int = -4;

#[test]
fn what_a_build_leaves_in_the_place_of_a_kernel_is_refused() {
    for (makes, says) in [
        ("mkfifo $(O)/vmlinux", "did not produce vmlinux as a regular file"),
        ("ln -s /dev/zero $(O)/vmlinux", "did not produce vmlinux as a regular file"),
        ("mkdir $(O)/vmlinux", "did not produce vmlinux as a regular file"),
        ("truncate -s 3G $(O)/vmlinux", "is too large to keep"),
        ("truncate -s 8G $(O)/vmlinux", "File size limit exceeded"),
    ] {
        let place = tempfile::tempdir().expect("temporary directory");
        let rules = format!(
            "vmlinux:\n\tmkdir -p $(O)/include/config; echo 6.18.0 > $(O)/include/config/kernel.release\n\t{makes}\n"
        );
        let begun = Instant::now();
        let (status, said, _) = build(place.path(), &rules, "true\n");
        println!("{said}");
        assert_eq!(status.code(), Some(12), "{makes}");
        let words: Vec<&str> = said.split_whitespace().collect();
        assert!(words.join(" ").contains(says), "{makes}");
        assert!(begun.elapsed() < Duration::from_secs(120), "{makes}");
    }
}

#[test]
fn a_caller_with_a_small_limit_on_files_is_told() {
    let place = tempfile::tempdir().expect("temporary directory");
    fs::create_dir_all(place.path().join("linux")).expect("made");
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -f 64; exec \"$@\"", "bash"]).arg(env!("CARGO_BIN_EXE_xtask"));
    fs::write(place.path().join("linux/Makefile"), MAKEFILE).expect("written");
    fs::write(place.path().join("linux/Kconfig"), "mainmenu \"none\"\n").expect("written");
    let spec = format!("tree:{}", place.path().join("linux").display());
    command.args(["vmtest", "--kernel", &spec, "--boot", "direct"]);
    command.arg("--out").arg(place.path().join("run")).env("CI", "true").stdin(Stdio::null());
    let done = command.output().expect("xtask starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    println!("{said}");
    assert_eq!(done.status.code(), Some(30), "neither a signal nor a verdict on the kernel");
    assert!(said.contains("65536 bytes (ulimit -f)"));
}

/// A kernel that needs more than a small limit.
const MAKEFILE: &str = "VERSION = 6\nPATCHLEVEL = 18\nSUBLEVEL = 0\nEXTRAVERSION =\n\
    allnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\n\
    vmlinux:\n\thead -c 1000000 /dev/zero > $(O)/vmlinux\n";

#[test]
fn a_series_cannot_get_out_of_its_build() {
    let place = tempfile::tempdir().expect("temporary directory");
    let at = |below: &str| place.path().join(below);
    let secret = at("secret");
    fs::write(&secret, "the secret of this host\n").expect("written");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    let abstract_name = format!("vmtest-isolation-{}", std::process::id());
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_name).expect("an address");
    let _socket = std::os::unix::net::UnixListener::bind_addr(&address).expect("bound");
    // File descriptors that a caller may have left open.
    let (file, dir) = (inherited(&secret), inherited(place.path()));
    let key = Key::add();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let script = format!(
        "SECRET={} PORT={port} ABSTRACT={abstract_name} HOST_PID={} HOST_HOME={} FD_SECRET={} FD_DIR={} KEY={} FORKS={}\n\
         export HOST_CACHE={}\n{ATTEMPTS}\necho \"attempt end\"\n",
        secret.display(),
        std::process::id(),
        std::env::var("HOME").unwrap_or_default(),
        file.as_raw_fd(),
        dir.as_raw_fd(),
        key.0,
        4096 + 16 * processors + 900,
        cache().display(),
    );
    let rules = "vmlinux:\n\tsh /src/attempts.sh\n\tln -sf ".to_owned()
        + &secret.display().to_string()
        + " $(O)/vmlinux\n";
    // Its build leaves a ccache on a new machine.
    super::default_kernel();
    let (done, said, log) = build(place.path(), &rules, &script);
    println!("{said}\n{log}");
    let ours = ccaches();

    assert_eq!(done.code(), Some(12), "a vmlinux that is a link is no kernel");
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("did not produce vmlinux as a regular file"), "{said}");
    for name in NAMES {
        assert!(log.lines().any(|line| line == format!("attempt {name}")), "{name} was not tried");
    }
    let reached: Vec<&str> = log.lines().filter(|line| line.starts_with("REACHED")).collect();
    assert!(reached.is_empty(), "{reached:#?}");
    assert_eq!(calls.load(Ordering::SeqCst), 0, "somebody called");
    assert!(!at("secret.mine").exists() && !at("by-descriptor").exists());
    assert!(!ours.is_empty(), "there is none to poison");
    for dir in &ours {
        assert!(!dir.join("POISON").exists(), "{}", dir.display());
        assert_eq!(poisoned(dir), [] as [PathBuf; 0]);
    }
    for entry in
        walkdir::WalkDir::new(at("run")).into_iter().flatten().filter(|entry| entry.file_type().is_file())
    {
        let text = fs::read(entry.path()).expect("read");
        let holds = text.windows(23).any(|part| part == b"the secret of this host");
        assert!(!holds, "{} holds the secret", entry.path().display());
    }
    let left = fs::read_dir("/proc").expect("listed").flatten().filter(|entry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x004242"))
    });
    assert_eq!(left.count(), 0, "a process is left");
}
