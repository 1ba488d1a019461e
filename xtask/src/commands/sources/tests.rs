// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn source(form: Form, suite: &str) -> SourceRelease {
    SourceRelease {
        upstream: "6.12.107".to_owned(),
        version: "6.12.107-1".to_owned(),
        form,
        suite: suite.to_owned(),
        sha256: "00".to_owned(),
        size: 1,
    }
}

fn image(flavour: &str) -> ImageRelease {
    ImageRelease {
        upstream: "6.12.107".to_owned(),
        flavour: flavour.to_owned(),
        package: "linux-image".to_owned(),
        version: "6.12.107-1".to_owned(),
        config_package: None,
        signed: true,
        suite: "stable".to_owned(),
        sha256: "00".to_owned(),
        size: 1,
    }
}

#[test]
fn the_table_marks_what_is_cached() {
    let rows = [Listed {
        version: "7.3.4".to_owned(),
        sources: vec![source(Form::Tarball, "backports")],
        images: Vec::new(),
        source_cached: true,
        images_cached: Vec::new(),
    }];
    let text = table(&rows);
    assert_eq!(text.lines().nth(1), Some("7.3.4    tarball (backports)*  -"));
}

#[test]
fn the_widest_row_fits_80_columns() {
    let package = |suite| source(Form::Package("linux-source-6.12".to_owned()), suite);
    let flavours = ["amd64", "cloud-amd64", "rt-amd64"];
    let rows = [Listed {
        version: "6.12.107".to_owned(),
        sources: vec![source(Form::Tarball, "backports"), package("testing"), package("stable")],
        images: flavours.into_iter().chain(flavours).map(image).collect(),
        source_cached: true,
        images_cached: flavours.map(str::to_owned).to_vec(),
    }];
    let text = table(&rows);
    let widest = text.lines().max_by_key(|line| line.len()).expect("lines");
    assert_eq!(widest, "6.12.107  tarball (backports), package (testing)*  amd64* cloud-amd64* rt-amd64*");
    assert!(widest.len() <= 80, "{}", widest.len());
}
