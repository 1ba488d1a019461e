// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::source::samples::{context, kernel_repo};

#[test]
fn a_scheme_is_a_prefix_and_an_address_is_not() {
    for text in ["tree:linux", "src:", "svn:trunk"] {
        assert!(has_prefix(text), "{text}");
    }
    for text in ["https://example.org/a.patch", "6.18", "HEAD:x", "./a:b", "topic"] {
        assert!(!has_prefix(text), "{text}");
    }
}

#[test]
fn files_are_told_apart_by_name_and_content() {
    let (dir, ctx) = context();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let found = |path: &Path| word(&ctx, &path.display().to_string());
    let linux = kernel_repo(&dir.path().join("linux"));
    assert_eq!(found(&linux).expect("a tree"), Meaning::Kernel(KernelSpec::Tree(linux.clone())));
    for name in ["linux-6.18.tar.xz", "l.tgz", "l.tar"] {
        let path = file(name, b"x");
        assert_eq!(found(&path).expect(name), Meaning::Kernel(KernelSpec::Tar(path)));
    }
    for (name, bytes) in
        [("t.mbx", &b""[..]), ("a.patch.gz", b"x"), ("mail", b"From a\n"), ("d", b"x\ndiff --git a b\n")]
    {
        let path = file(name, bytes);
        assert_eq!(found(&path).expect(name), Meaning::Series(path));
    }
    let error = found(&file("module.ko", b"\x7fELF")).expect_err("no kernel").to_string();
    assert!(error.contains("neither a tarball nor a file of patches"), "{error}");
    let error = found(&linux.join("kernel")).expect_err("below").to_string();
    assert!(error.contains(&format!("the kernel tree is {}", linux.display())), "{error}");
    let bare = dir.path().join("bare");
    fs::create_dir(&bare).expect("made");
    assert!(found(&bare).expect_err("empty").to_string().contains("no patches"));
}
