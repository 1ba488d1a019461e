// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles the BPF programs and writes the skeleton that the runner includes.

use libbpf_cargo::SkeletonBuilder;
use std::path::PathBuf;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("session.skel.rs");
    SkeletonBuilder::new()
        .source("bpf/session.bpf.c")
        // v3: 32-bit jumps and atomics; clang before 18 would emit v1 code. Every kernel that can be tested knows it.
        .clang_args(["-mcpu=v3", "-Wall", "-Werror", "-Wno-compare-distinct-pointer-types"])
        .build_and_generate(&out)
        .expect("bpf/session.bpf.c compiles with clang");
    println!("cargo:rerun-if-changed=bpf");
}
