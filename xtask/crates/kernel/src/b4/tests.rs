// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

const ID: &str = "20251104104913.689439-1-a.b@example.org";

#[test]
fn ids_and_addresses_of_threads_name_mail_and_paths_do_not() {
    let brackets = format!("<{ID}>");
    let addresses = [
        format!("https://lore.kernel.org/bpf/{ID}/"),
        format!("https://lore.kernel.org/all/{ID}/T/#u"),
        format!("http://lore.kernel.org/r/{}", ID.replace('@', "%40")),
        format!("https://patch.msgid.link/{ID}"),
    ];
    for text in addresses.iter().map(String::as_str).chain([ID, brackets.as_str()]) {
        assert_eq!(id(text).expect(text).as_deref(), Some(ID), "{text}");
    }
    for path in ["fsession", "a/b@c", "./x@y", "/tmp/a@b.mbx", "my.patch", ""] {
        assert_eq!(id(path).expect(path), None, "{path}");
    }
}

#[test]
fn what_is_no_id_is_a_mistake() {
    for bad in [
        "@example.org",
        "a@",
        "a b@c",
        "-o@c",
        "a@b@c",
        "a;reboot@c",
        "<a@b",
        "https://lore.kernel.org/bpf/",
        "https://example.org/a@b/",
        "https://lore.kernel.org.example.org/a@b/",
        "https://lore.kernel.org/a@b c/",
    ] {
        let error = id(bad).expect_err(bad);
        assert_eq!(error.class, Class::Usage, "{bad}");
    }
}

#[test]
fn names_of_files_are_plain() {
    assert_eq!(name(ID), "20251104104913.689439-1-a.b");
    assert_eq!(name("..@x"), "mail");
    assert_eq!(name("a$(b)@x"), "a__b_");
    assert!(name(&format!("{}@x", "y".repeat(200))).len() <= MAX_NAME);
}

#[test]
fn addresses_of_patchwork_and_forges_name_files() {
    for (address, file) in [
        ("https://patchwork.example.org/series/1234/mbox/", "series-1234.mbox"),
        (
            "https://patchwork.example.org/project/bpf/patch/1-a@example.org/mbox/",
            "patch-1-a_example.org.mbox",
        ),
        ("https://forge.example.org/a/linux/pull/12.patch?full=1", "pull-12.patch"),
        ("http://127.0.0.1:8000/commit/0123abc.patch", "commit-0123abc.patch"),
        ("https://x.org/.patch", "mail.patch"),
    ] {
        assert_eq!(remote(address).expect(address), Some(Remote::File(address.to_owned())));
        assert_eq!(file_name(address), file);
    }
    for address in ["https://example.org/a/linux/pull/12", "https:///x.patch", "https://x.org/a b.patch"] {
        assert!(remote(address).is_err(), "{address}");
    }
}
