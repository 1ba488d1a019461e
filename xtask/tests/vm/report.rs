// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports of a real run with every kind of result, read by the kernel's own KTAP parser from the cached
//! source.

use std::process::Command;

use vmtest_testing::schema;

use super::{default_source, images, vmtest};

#[test]
fn the_kernels_own_reader_understands_what_we_write() {
    let (with, without) = images();
    let name = "kunit-reads";
    let words = ["--kernel", with, "--kernel", without, "--test", "basic/args_[12]", "--output", "ktap"];
    let ran = vmtest(name, &[&words[..], &["--allow-skip", &format!("{without}=basic/args_1")]].concat());
    assert_eq!(ran.code, 3);
    schema::is_valid(&ran.run());
    let file = ran.dir.join("report.ktap");
    std::fs::write(&file, &ran.out).expect("written");
    let kunit = default_source().join("tools/testing/kunit/kunit.py");
    let output = Command::new("python3").arg(kunit).arg("parse").arg(&file).output().expect("python3 starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    // The ones that passed, the skip that counts, the one that does not.
    assert!(said.contains("Ran 4 tests: passed: 2, failed: 1, skipped: 1"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("[ERROR]"), "{said}");
}
