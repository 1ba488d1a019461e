// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use std::io::Write;
use vmtest_base::error::Class;

fn written(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("a.mbox");
    std::fs::write(&file, bytes).expect("written");
    (dir, file)
}

fn gz(parts: &[&[u8]]) -> Vec<u8> {
    let pack = |part: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(part).expect("packed");
        packer.finish().expect("packed")
    };
    parts.iter().flat_map(|part| pack(part)).collect()
}

fn xz(text: &[u8]) -> Vec<u8> {
    let mut packer = liblzma::write::XzEncoder::new(Vec::new(), 6);
    packer.write_all(text).expect("packed");
    packer.finish().expect("packed")
}

#[test]
fn files_are_unpacked_by_what_they_are_and_not_by_their_names() {
    for bytes in
        [b"text".to_vec(), gz(&[b"text"]), gz(&[b"te", b"xt"]), xz(b"text"), b"\xef\xbb\xbftext".to_vec()]
    {
        let (_dir, file) = written(&bytes);
        assert_eq!(named(&file).expect("read"), b"text");
        assert_eq!(found(&file).expect("read"), b"text");
    }
}

#[test]
fn what_is_cut_off_packed_in_another_way_or_no_file_is_a_mistake() {
    let whole = gz(&[&[b'x'; 5000]]);
    let cut = &whole[..whole.len() - 5];
    let long = xz(&(0..50_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    for (bytes, says) in [
        (cut, "cannot be unpacked"),
        (&long[..long.len() / 2], "cannot be unpacked"),
        (b"BZh91AY&SY", "unpack it with bunzip2 first"),
        (b"\x28\xb5\x2f\xfd\0", "unpack it with unzstd first"),
        (b" \n", "is empty"),
        (&gz(&[b"\n"]), "is empty"),
    ] {
        let (_dir, file) = written(bytes);
        let error = named(&file).expect_err(says);
        assert!(error.class == Class::Usage && error.to_string().contains(says), "{error}");
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let pipe = dir.path().join("0001-a.patch");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    assert!(found(&pipe).expect_err("a pipe").to_string().contains("is not a file"));
}

#[test]
fn a_small_file_that_unpacks_to_very_much_is_refused() {
    let zeros = vec![b'x'; 3 << 20];
    for bomb in [gz(&[&zeros]), xz(&zeros)] {
        assert!(bomb.len() < 20_000);
        let error = whole(Cursor::new(bomb), Path::new("a.mbox"), 2 << 20).expect_err("a bomb");
        assert!(error.to_string().contains("has more than 2 MiB"), "{error}");
    }
}
