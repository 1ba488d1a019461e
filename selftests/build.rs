// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles the BPF programs and writes the skeleton that the runner includes.

use libbpf_cargo::SkeletonBuilder;
use std::path::PathBuf;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("session.skel.rs");
    let mut builder = SkeletonBuilder::new();
    if let Some(clang) = std::env::var_os("CLANG") {
        builder.clang(clang); // some hosts only have it with a version suffix
    }
    builder
        .source("bpf/session.bpf.c")
        // The default depends on the version of clang. Every kernel under test supports v3.
        .clang_args(["-mcpu=v3", "-Wall"])
        .build_and_generate(&out)
        .expect("bpf/session.bpf.c compiles with clang");
    // A separate object for bpftool, which loads every program in the file.
    let object = out.with_file_name("tools.bpf.o");
    let mut builder = SkeletonBuilder::new();
    if let Some(clang) = std::env::var_os("CLANG") {
        builder.clang(clang);
    }
    builder
        .source("bpf/tools.bpf.c")
        .clang_args(["-mcpu=v3", "-Wall"])
        .obj(&object)
        .build()
        .expect("bpf/tools.bpf.c compiles with clang");
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-env-changed=CLANG");
}
