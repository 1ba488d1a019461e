// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn a_makefile_tells_the_version() {
    let text = "# SPDX\nVERSION = 6\nPATCHLEVEL = 18\nSUBLEVEL = 15\nEXTRAVERSION =\nNAME = Baby\n";
    assert_eq!(version_of_makefile(text).as_deref(), Some("6.18.15"));
    let rc = "VERSION = 7\nPATCHLEVEL = 4\nSUBLEVEL = 0\nEXTRAVERSION = -rc3\n";
    assert_eq!(version_of_makefile(rc).as_deref(), Some("7.4-rc3"));
    assert_eq!(version_of_makefile("all:\n\tcc x.c\n"), None);
}

fn ids(kernels: &[(&str, &str)]) -> Vec<String> {
    let resolved = |(id, path): &(&str, &str)| Resolved {
        id: (*id).to_owned(),
        description: String::new(),
        cached: false,
        path: Some(PathBuf::from(path)).filter(|path| path.is_absolute()),
        state: String::new(),
        commits: 0,
        choice: Choice::Tree(PathBuf::from(path)),
    };
    unique_ids(&kernels.iter().map(resolved).collect::<Vec<_>>())
}

#[test]
fn ids_stay_short_where_nothing_collides() {
    let alone = [("tree:linux", "/a/linux"), ("tree:bpf-next", "/a/bpf-next"), ("src:6.18.15", "")];
    assert_eq!(ids(&alone), ["tree:linux", "tree:bpf-next", "src:6.18.15"]);
    let variants = [("tree:linux", "/a/linux"), ("tree:linux", "/a/linux")];
    assert_eq!(ids(&variants), ["tree:linux", "tree:linux"], "one kernel, two variants");
    let archive = [("src:6.18.15", ""), ("src:6.18.15", "")];
    assert_eq!(ids(&archive), ["src:6.18.15", "src:6.18.15"]);
}

#[test]
fn paths_that_share_a_name_get_their_directories() {
    let two = [("tree:linux", "/x/a/linux"), ("tree:linux", "/x/b/linux")];
    assert_eq!(ids(&two), ["tree:a/linux", "tree:b/linux"]);
    let turned = [two[1], ("src:6.18.15", ""), two[0]];
    assert_eq!(ids(&turned), ["tree:b/linux", "src:6.18.15", "tree:a/linux"], "the order does not matter");
    let deep = [("tree:linux", "/x/a/linux"), ("tree:linux", "/y/a/linux"), ("tree:linux", "/y/b/linux")];
    assert_eq!(ids(&deep), ["tree:x/a/linux", "tree:y/a/linux", "tree:b/linux"]);
    let top = [("tree:linux", "/linux"), ("tree:linux", "/a/linux"), ("tree:linux", "/b/a/linux")];
    assert_eq!(ids(&top), ["tree:/linux", "tree:/a/linux", "tree:b/a/linux"]);
    let compressions = [("tar:linux-7.3", "/x/linux-7.3.tar.gz"), ("tar:linux-7.3", "/x/linux-7.3.tar.xz")];
    assert_eq!(ids(&compressions), ["tar:x/linux-7.3.tar.gz", "tar:x/linux-7.3.tar.xz"]);
}
