// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs that are killed at any moment or run out of space at any moment, and truncated downloads: nothing is
//! left behind that a later run would trust.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Done, World, git};

/// Kinds of cache entries that never change once they exist.
const FIXED: [&str; 10] = [
    "source",
    "git-patches",
    "overlay",
    "kernel",
    "runner",
    "initramfs",
    "image",
    "suite",
    "bpftool",
    "tools",
];

/// A repository whose guest fails, and a series that fixes it: no run passes with a wrong mixture of both.
/// The series also adds, changes and removes files.
pub fn broken_and_mended(world: &World) -> (String, String) {
    let top = world.repo("linux", "guest: fail");
    let patches = world.path("series");
    git(&top, &["checkout", "-qb", "mended"]);
    fs::write(top.join("fake.does"), "guest: pass\n").expect("written");
    world.commit(&top, "mend it");
    fs::write(top.join("kernel/new.c"), "int new;\n").expect("written");
    fs::remove_file(top.join("kernel/fake.c")).expect("removed");
    world.commit(&top, "add and remove");
    git(&top, &["format-patch", "-q", "-o", patches.to_str().expect("a plain path"), "main..mended"]);
    git(&top, &["checkout", "-q", "main"]);
    (format!("git:{}@main", top.display()), patches.to_str().expect("a plain path").to_owned())
}

/// Content of each entry of the fixed kinds: a listing of its files with their bytes.
pub fn content(cache: &Path) -> BTreeMap<String, Vec<(PathBuf, Vec<u8>)>> {
    let mut all = BTreeMap::new();
    for kind in FIXED {
        for entry in fs::read_dir(cache.join(kind)).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with('.') {
                // Still being written, so not an entry yet.
                continue;
            }
            let mut files = Vec::new();
            for file in walkdir::WalkDir::new(entry.path()).sort_by_file_name() {
                let file = file.expect("listed");
                if file.file_name().to_string_lossy().starts_with(".vmtest-") {
                    // The seal: it contains times.
                    continue;
                }
                let bytes = if file.file_type().is_file() {
                    fs::read(file.path()).expect("read")
                } else {
                    Vec::new()
                };
                files.push((file.path().strip_prefix(entry.path()).expect("below").to_owned(), bytes));
            }
            all.insert(format!("{kind}/{}", entry.file_name().to_string_lossy()), files);
        }
    }
    all
}

/// Asserts that each entry equals the result of an undisturbed run.
#[track_caller]
pub fn all_believable(
    world: &World,
    cache: &Path,
    whole: &BTreeMap<String, Vec<(PathBuf, Vec<u8>)>>,
    when: &str,
) {
    for (name, files) in content(cache) {
        let expected = whole.get(&name).unwrap_or_else(|| panic!("{when}: there is a strange entry {name}"));
        assert_eq!(&files, expected, "{when}: {name} is not whole in {}", world.path("").display());
    }
}

#[test]
fn killed_at_any_moment_nothing_half_made_is_believed() {
    let world = World::new();
    let (spec, patches) = broken_and_mended(&world);
    let words = ["--kernel", &spec, "--patches", &patches, "--boot", "direct"];
    world.run(&["--kernel", &spec, "--boot", "direct"]).exits(1);
    world.run(&words).exits(0);
    let whole = content(&world.path("cache"));
    assert!(
        ["source", "overlay", "kernel", "runner", "initramfs"]
            .iter()
            .all(|kind| { whole.keys().any(|name| name.starts_with(kind)) })
    );
    let mut moments = 0;
    loop {
        let (cache, state) = (world.path("killed/cache"), world.path("killed/state"));
        let _ = fs::remove_dir_all(world.path("killed"));
        let command = |kill_at: Option<u32>| {
            let mut command = world.vmtest(&words);
            command.env("VMTEST_CACHE_DIR", &cache).env("XDG_STATE_HOME", &state);
            command.envs(kill_at.map(|at| ("VMTEST_KILL_AT", at.to_string())));
            world.start(command).done()
        };
        moments += 1;
        let killed = command(Some(moments));
        let when = format!("killed at moment {moments}");
        all_believable(&world, &cache, &whole, &when);
        for entry in fs::read_dir(state.join("vmtest/runs")).into_iter().flatten().flatten() {
            if let Ok(text) = fs::read_to_string(entry.path().join("run.json")) {
                let record: serde_json::Value = serde_json::from_str(&text).expect("whole or absent");
                assert_eq!(record["exit_code"], 0, "{when}");
            }
        }
        if killed.status.code().is_some() {
            killed.exits(0);
            break;
        }
        let after = command(None);
        assert_eq!(after.status.code(), Some(0), "{when}\n{after}");
        all_believable(&world, &cache, &whole, &when);
        world.no_process_is_left(std::time::Duration::ZERO);
        assert!(moments < 500, "there are no more moments than that");
    }
    assert!(moments > 25, "only {moments} moments were tried");
    // Files of a killed process in tmp/ have no owner, and are removed by the next run that finds them old
    // enough.
}

/// Real programs of this host.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    let found =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).map(|dir| dir.join(name));
    found
        .into_iter()
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("this test needs the program {name}"))
}

/// How a disk fills up.
#[derive(Debug, Clone, Copy)]
enum Capacity {
    /// This many KiB once the work has begun; at the start the harness would notice that there is not enough
    /// space.
    Kib(u32),
    /// This many files.
    Files(u32),
}

/// Runs `vmtest` with cache and runs on a file system with little space, then again after enlarging it. The
/// file system disappears with the mount namespace.
fn on_a_small_disk(world: &World, words: &[&str], room: Capacity) -> (Done, Done) {
    let disk = world.path("disk");
    fs::create_dir_all(&disk).expect("made");
    let command = world.vmtest(words);
    let mut inside = Command::new(program("unshare"));
    if !nix::unistd::geteuid().is_root() {
        inside.args(["--user", "--map-root-user"]);
    }
    // The mounts use the host's programs, the rest uses the fakes.
    let script = "\
        disk=$1 mount=$2 first=$3 later=$4; shift 4\n\
        $mount -t tmpfs -o \"size=8g,$first\" none \"$disk\" || exit 99\n\
        [ -z \"$later\" ] || {\n\
            until [ -d \"$disk/cache/git\" ]; do sleep 0.01; done\n\
            $mount -o remount,\"$later\" \"$disk\"\n\
        } &\n\
        \"$@\" > \"$HOME/full.out\" 2> \"$HOME/full.err\"; echo $? > \"$HOME/full.code\"\n\
        kill $! 2> /dev/null; wait\n\
        $mount -o remount,size=8g,nr_inodes=1000000 \"$disk\" || exit 99\n\
        exec \"$@\"";
    let (first, later) = match room {
        Capacity::Kib(kib) => ("nr_inodes=1000000".to_owned(), format!("size={kib}k")),
        Capacity::Files(files) => (format!("nr_inodes={files}"), String::new()),
    };
    inside.args(["--mount", "sh", "-c", script, "sh"]).arg(&disk).arg(program("mount")).args([first, later]);
    inside.arg(command.get_program()).args(command.get_args());
    inside.current_dir(world.path("")).env_clear();
    inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    inside.env("VMTEST_CACHE_DIR", disk.join("cache")).env("XDG_STATE_HOME", disk.join("state"));
    let after = world.start(inside).done();
    assert_ne!(
        after.status.code(),
        Some(99),
        "no small disk can be mounted here, not even in a namespace\n{after}"
    );
    let code: i32 = world.read("home/full.code").trim().parse().expect("an exit code");
    let full = Done::told_elsewhere(code, world.read("home/full.out"), world.read("home/full.err"));
    (full, after)
}

#[test]
fn a_full_disk_is_named_and_nothing_half_made_is_believed() {
    let world = World::new();
    let (spec, patches) = broken_and_mended(&world);
    let words = ["--kernel", &spec, "--patches", &patches, "--boot", "direct"];
    let kib = (40..420).step_by(20).map(Capacity::Kib);
    let files = (6..240).step_by(13).map(Capacity::Files);
    let (mut full, mut enough) = (0, 0);
    for room in kib.chain(files) {
        let (first, after) = on_a_small_disk(&world, &words, room);
        assert_eq!(after.status.code(), Some(0), "{room:?}\n{first}\nand then\n{after}");
        if first.status.code() == Some(0) {
            enough += 1;
            continue;
        }
        assert_eq!(first.status.code(), Some(30), "{room:?}\n{first}");
        first.says(&["free some space"]);
        assert!(
            ["No space left", "disk is full", "no space left"].iter().any(|text| first.told(text) > 0),
            "{room:?}\n{first}"
        );
        let disk = world.path("disk").display().to_string();
        assert!(first.told(&disk) > 0, "no path is named: {room:?}\n{first}");
        full += 1;
    }
    assert!(full >= 10 && enough >= 1, "full {full} times, enough {enough} times");
}

/// An archive laid out like Debian's with one finished kernel, behind a fake apt-get that serves the first
/// `home/apt.cut` bytes of a package, as after a truncated download: undetected, or reported with the status
/// in `home/apt.exit`.
pub fn archive(world: &World) -> u64 {
    let boot = "pool/boot/vmlinuz-9.9.1-cloud-amd64";
    let mut image = vec![0_u8; 0x400];
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image.extend_from_slice(b"\nguest: pass\n");
    // Large enough that each cut is at a different place, and incompressible.
    image.extend((0..40_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8));
    world.write(boot, "");
    fs::write(world.path(boot), image).expect("written");
    world.write("pool/boot/config-9.9.1-cloud-amd64", "CONFIG_BPF=y\n");
    world.write(
        "pool/DEBIAN/control",
        "Package: linux-image-9.9.1-cloud-amd64\nVersion: 9.9.1-1\nArchitecture: amd64\nMaintainer: A <a@example.org>\n\
         Description: fake\n",
    );
    let deb = world.path("home/kernel.deb");
    let built = Command::new("dpkg-deb")
        .args(["--build", "--root-owner-group"])
        .arg(world.path("pool"))
        .arg(&deb)
        .output();
    assert!(built.as_ref().is_ok_and(|done| done.status.success()), "{built:?}");
    let sum = Command::new("sha256sum").arg(&deb).output().expect("sha256sum runs").stdout;
    let sum = String::from_utf8_lossy(&sum).split(' ').next().unwrap_or_default().to_owned();
    let size = fs::metadata(&deb).expect("there").len();
    world.write(
        "home/Packages",
        &format!("Package: linux-image-9.9.1-cloud-amd64\nVersion: 9.9.1-1\nSize: {size}\nSHA256: {sum}\n"),
    );
    let script = "#!/bin/sh\n\
        root=${APT_CONFIG%/apt.conf}\n\
        for word; do case $word in\n\
        update)\n\
            for suite in stable trixie trixie-backports backports testing; do\n\
                : > \"$root/lists/x_dists_${suite}_main_source_Sources\"\n\
                cat \"$HOME/Packages\" > \"$root/lists/x_dists_${suite}_main_binary-amd64_Packages\"\n\
            done ;;\n\
        download)\n\
            head -c \"$(cat \"$HOME/apt.cut\")\" \"$HOME/kernel.deb\" > kernel.deb\n\
            read status < \"$HOME/apt.exit\"\n\
            [ \"$status\" = 0 ] || echo 'E: Failed to fetch x  File has unexpected size' >&2\n\
            exit $status ;;\n\
        esac; done\n";
    fs::remove_file(world.path("bin/apt-get")).expect("removed");
    use std::os::unix::fs::PermissionsExt;
    let fake = world.write("bin/apt-get", script);
    fs::set_permissions(fake, fs::Permissions::from_mode(0o755)).expect("made executable");
    size
}

#[test]
fn a_download_that_was_cut_short_is_not_kept() {
    let world = World::new();
    let size = archive(&world);
    let words = ["--kernel", "debian:9.9.1", "--boot", "direct", "--mirror", "http://mirror.example/debian"];
    let entries = || fs::read_dir(world.path("cache/image")).map(Iterator::count).unwrap_or(0);
    for cut in [0, 1, 7, 60, 200, size / 4, size / 2, size - 100, size - 1] {
        for noticed in ["100", "0"] {
            world.write("home/apt.cut", &cut.to_string());
            world.write("home/apt.exit", &format!("{noticed}\n"));
            let done = world.run(&words);
            done.exits(30).says(&["cannot download linux-image-9.9.1-cloud-amd64"]);
            assert_eq!(entries(), 0, "{cut} of {size} bytes\n{done}");
            assert!(done.outcomes(None).values().all(|outcome| outcome == "notrun"), "{done}");
            world.is_clean();
        }
    }
    assert_eq!(world.read("home/guest.calls"), "");
    world.write("home/apt.cut", &size.to_string());
    world.run(&words).exits(0);
    assert_eq!(entries(), 1);
}
