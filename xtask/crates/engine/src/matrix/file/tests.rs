// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use vmtest_base::error::Class;

const DAY: &str = "2026-11-21";

fn read(text: &str) -> Result<Matrix> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    parse(Path::new("m.toml"), text, Path::new("/here"), &project, DAY)
}

fn ids(text: &str) -> Vec<String> {
    read(text).expect("a matrix").jobs.into_iter().map(|job| job.axes.id).collect()
}

fn refused(text: &str, parts: &[&str]) {
    let error = read(text).expect_err(text);
    assert_eq!(error.class, Class::Usage, "{text}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in {error}");
    }
}

const TWO: &str = "[[matrix]]\nkernels = ['src:6.18', 'src:7.3']\nseries = ['none', 'fsession']\nvariants = ['default', \
                   'nojit']\nsuites = ['own', 'upstream']\n";

#[test]
fn a_block_is_the_product_of_its_lists() {
    let all = ids(TWO);
    assert_eq!(all.len(), 16);
    assert_eq!(all[0], "src-6.18--none--default--auto--own");
    assert_eq!(all[15], "src-7.3--fsession--nojit--auto--upstream");
    let images = "[[matrix]]\nkernels = ['debian:7.0.13']\n";
    assert_eq!(ids(images), ["debian-7.0.13--none--image--auto--own"]);
    assert_eq!(ids(&format!("{TWO}{images}")).len(), 17);
}

#[test]
fn excludes_take_jobs_away_and_have_to_fit_one() {
    let with = |exclude: &str| format!("{TWO}[[exclude]]\n{exclude}\n");
    assert_eq!(ids(&with("kernel = 'src:7.3'\nseries = 'fsession'")).len(), 12);
    assert_eq!(ids(&with("variant = 'nojit'\nsuite = 'upstream'")).len(), 12);
    refused(&with("variant = 'debug'"), &["m.toml:6", "matches no job"]);
    refused(&with("kernel = '*'"), &["has no job"]);
}

#[test]
fn mistakes_are_told_with_their_line() {
    refused("", &["has no job"]);
    refused("[[matrix]]\nkernels = [", &["m.toml:2"]);
    refused("\n[[matrix]]\nkernels = ['src:6.18']\ncolour = 1\n", &["m.toml:4", "colour"]);
    refused("[[matrix]]\nkernels = []\n", &["m.toml:1", "empty"]);
    refused("[[matrix]]\nkernels = ['6.18']\n", &["m.toml:1", "is not a kernel"]);
    refused("[[matrix]]\nkernels = ['src:6.18']\nboot = ['quick']\n", &["m.toml:1", "quick"]);
    refused("[[matrix]]\nkernels = ['src:6.18']\nseries = ['nosuch']\n", &["m.toml:1", "nosuch"]);
    refused("[[matrix]]\nkernels = ['debian:7.0.13']\nvariants = ['debug']\n", &["finished kernel"]);
    refused("[[matrix]]\nkernels = ['debian:7.0.13']\nseries = ['fsession']\n", &["finished kernel"]);
    refused(&format!("{TWO}\n{TWO}"), &["m.toml:7", "is there already (line 1)"]);
    refused(&format!("{TWO}boot = ['auto', 'vng']\n"), &["may be the same"]);
    refused(&format!("{TWO}[[require]]\ntest = '['\n"), &["m.toml:6"]);
    refused(&format!("{TWO}append = ['nosmp', 'quiet']\n"), &["m.toml:1", "quiet", "evidence"]);
    refused(&format!("{TWO}append = ['a b']\n"), &["m.toml:1", "not one kernel parameter"]);
    refused(&format!("{TWO}sysctls = ['kernel/printk=1']\n"), &["m.toml:1", "kernel.printk"]);
    refused(&format!("{TWO}[[expect]]\ntest = 'x'\n"), &["m.toml:6"]);
}

#[test]
fn paths_are_meant_from_where_the_file_is() {
    let text =
        "[[matrix]]\nkernels = ['tree:../linux', 'git:/abs@HEAD']\nseries = ['./mine', ['./a', './b']]\n";
    let matrix = read(text).expect("a matrix");
    assert_eq!(matrix.jobs[0].kernel.to_string(), "tree:/here/../linux");
    assert_eq!(matrix.jobs[0].series, [Path::new("/here/./mine")]);
    assert_eq!(matrix.jobs[1].series.len(), 2);
    assert_eq!(matrix.jobs[1].axes.series, "./a+./b");
    assert_eq!(matrix.jobs[2].kernel.to_string(), "git:/abs@HEAD");
    // The project's own series, whatever files are in the current directory.
    let text = "[[matrix]]\nkernels = ['src:6.18']\nseries = ['fsession']\n";
    assert!(read(text).expect("a matrix").jobs[0].series[0].ends_with("patches/fsession-6.18"));
}
