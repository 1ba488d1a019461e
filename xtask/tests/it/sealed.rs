// SPDX-License-Identifier: MIT OR Apache-2.0
//! Damaged cache entries: they are reported, removed and rebuilt, and the run is as good as any other.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Done, World};
use crate::upstream::{ALPHA, run, tree};

const SEAL: &str = ".vmtest-seal";

/// Files of all entries of a kind.
fn files(world: &World, kind: &str) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(world.path("cache").join(kind)).sort_by_file_name();
    let files = walk.into_iter().flatten().filter(|entry| entry.file_type().is_file());
    files.map(walkdir::DirEntry::into_path).filter(|path| !path.ends_with(SEAL)).collect()
}

/// Overwrites bytes in place, preserving size and times.
fn overwrite(path: &Path) {
    let stat = path.metadata().expect("there");
    let mut bytes = fs::read(path).expect("read");
    bytes.iter_mut().take(7).for_each(|byte| *byte ^= 0x15);
    // The timestamps of the file system have a limited resolution.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(path, bytes).expect("written");
    let file = fs::File::options().write(true).open(path).expect("opened");
    file.set_modified(stat.modified().expect("a time")).expect("times can be set");
}

fn truncate(path: &Path) {
    let file = fs::File::options().write(true).open(path).expect("opened");
    file.set_len(path.metadata().expect("there").len() / 2).expect("cut");
}

#[test]
fn every_kind_of_entry_is_made_again_when_it_is_damaged() {
    let world = World::new();
    let spec = tree(&world, "guest: pass", &[("alpha", ALPHA)]);
    world.patch("series/1.patch", "first", "other");
    let both = || -> Vec<Done> {
        let own = world.run(&["--kernel", &spec, "--patches", "series", "--boot", "direct"]);
        vec![own, run(&world, &spec, &["--patches", "series", "--test", "alpha"])]
    };
    let both = || -> Vec<Done> {
        let both = both();
        for done in &both {
            done.exits(0);
        }
        both
    };
    both();
    for kind in ["kernel", "initramfs", "runner", "overlay", "suite", "suite-index"] {
        let all = files(&world, kind);
        assert!(!all.is_empty(), "{kind}");
        for path in all.iter().filter(|path| path.metadata().is_ok_and(|stat| stat.len() > 0)) {
            for damage in [overwrite, truncate] {
                let was = fs::read(path).expect("read");
                damage(path);
                let done = both();
                let told: usize = done.iter().map(|done| done.told("in the cache is damaged")).sum();
                assert_eq!(told, 1, "{}\n{}{}", path.display(), done[0], done[1]);
                assert!(fs::read(path).expect("made again") == was, "{}", path.display());
            }
        }
    }
    both().iter().for_each(|done| assert_eq!(done.told("damaged"), 0, "{done}"));
    world.is_clean();
}

#[test]
fn a_seal_that_is_gone_or_damaged_makes_the_entry_again() {
    let world = World::new();
    let spec = format!("tree:{}", world.tree("linux", "guest: pass").display());
    let run = || {
        let done = world.run(&["--kernel", &spec, "--boot", "direct"]);
        done.exits(0);
        done
    };
    run();
    let kernel = files(&world, "kernel")[0].parent().expect("an entry").to_owned();
    fs::remove_file(kernel.join(SEAL)).expect("removed");
    run().says(&["is of an earlier version"]);
    assert_eq!(world.made("vmlinux"), 2);
    overwrite(&kernel.join(SEAL));
    run().says(&["its seal cannot be read"]);
    fs::write(kernel.join("more"), "").expect("written");
    run().says(&["holds other names"]);
    assert_eq!(run().told("removed"), 0);
    assert_eq!(world.made("vmlinux"), 4);
    // A cache copied from another machine has other times, and is still valid.
    for path in files(&world, "kernel") {
        let bytes = fs::read(&path).expect("read");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, bytes).expect("written");
    }
    assert_eq!(run().told("damaged"), 0);
    assert_eq!(world.made("vmlinux"), 4);
}

#[test]
fn a_damaged_source_is_checked_out_again_before_anything_is_made_of_it() {
    let world = World::new();
    let top = world.repo("linux", "guest: pass");
    let spec = format!("git:{}@HEAD", top.display());
    let run = |more: &[&str]| world.run(&[&["--kernel", &spec, "--boot", "direct"][..], more].concat());
    run(&[]).exits(0);
    let does: Vec<PathBuf> =
        files(&world, "source").into_iter().filter(|path| path.ends_with("fake.does")).collect();
    let [does] = &does[..] else { panic!("{does:?}") };
    let was = fs::read(does).expect("read");
    overwrite(does);
    run(&[]).exits(0);
    assert!(fs::read(does).expect("read") != was, "a kernel that is there needs no source");
    // Another configuration is another kernel; its source is checked, as is the view that was made of it.
    let config = world.write("more.config", "CONFIG_MORE=y\n");
    run(&["--config", config.to_str().expect("a path")]).exits(0).says(&["fake.does", "damaged"]);
    assert!(fs::read(does).expect("read") == was);
    // The existing objects are rebuilt from the correct source.
    fs::remove_dir_all(world.path("cache/kernel")).expect("removed");
    run(&[]).exits(0);
    world.is_clean();
}

#[test]
fn a_damaged_image_is_copied_again() {
    let world = World::new();
    let mut bytes = vec![0_u8; 0x210];
    bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes.extend_from_slice(b"\nguest: pass\n");
    fs::write(world.path("bzImage"), &bytes).expect("written");
    let run = || world.run(&["--kernel", "image:bzImage", "--boot", "direct"]);
    run().exits(0);
    let image = files(&world, "image").remove(0);
    for damage in [overwrite, truncate] {
        damage(&image);
        run().exits(0).says(&["in the cache is damaged"]);
        assert!(fs::read(&image).expect("read") == bytes);
    }
}
