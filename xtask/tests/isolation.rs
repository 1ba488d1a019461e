// SPDX-License-Identifier: MIT OR Apache-2.0
//! A series from a stranger is built in the real sandbox and tries to get out: a "kernel" whose makefile does nothing but
//! that. No kernel is compiled. Run by name (`cargo xtask test`): the build root has to be made on a new machine.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the makefile's recipe does before it makes a "kernel". Each attempt prints `attempt NAME` and, where it got what it
/// wanted, `REACHED NAME`.
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
for file in $(find /ccache -type f 2> /dev/null | head -n 2000); do echo poisoned > "$file"; done
echo poisoned > /ccache/POISON
echo "attempt ccache"
setsid sleep 4242 > /dev/null 2>&1 &
"#;

const NAMES: [&str; 30] = [
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
    "ccache",
    "end",
];

/// Where the harness keeps its cache.
fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("VMTEST_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("vmtest")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/vmtest")))
        .expect("a place for the cache")
}

/// Directories of ccache, one for each set of tools.
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
    let script = format!(
        "SECRET={} PORT={port} ABSTRACT={abstract_name} HOST_PID={} HOST_HOME={}\n{ATTEMPTS}\necho \"attempt end\"\n",
        secret.display(),
        std::process::id(),
        std::env::var("HOME").unwrap_or_default(),
    );
    let tree = at("linux");
    fs::create_dir_all(&tree).expect("made");
    // The kernel's makefile is replaced by a patch: the tree itself is harmless.
    let base = "VERSION = 6\nPATCHLEVEL = 18\nSUBLEVEL = 0\nEXTRAVERSION =\n";
    fs::write(tree.join("Makefile"), base).expect("written");
    fs::write(tree.join("Kconfig"), "mainmenu \"none\"\n").expect("written");
    fs::create_dir(at("series")).expect("made");
    let rules = "allnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\n\
                 vmlinux:\n\tsh /src/attempts.sh\n\tln -sf "
        .to_owned()
        + &secret.display().to_string()
        + " $(O)/vmlinux\n";
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
        added("attempts.sh", &script)
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
    println!("{said}\n{log}");
    let ours = ccaches();

    assert_eq!(done.status.code(), Some(12), "a vmlinux that is a link is no kernel");
    assert!(said.contains("no vmlinux that is a plain file"), "{said}");
    for name in NAMES {
        assert!(log.lines().any(|line| line == format!("attempt {name}")), "{name} was not tried");
    }
    let reached: Vec<&str> = log.lines().filter(|line| line.starts_with("REACHED")).collect();
    assert!(reached.is_empty(), "{reached:#?}");
    assert_eq!(calls.load(Ordering::SeqCst), 0, "somebody called");
    assert!(!at("secret.mine").exists());
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
