// SPDX-License-Identifier: MIT OR Apache-2.0
//! BPF instructions for tests that assemble a program by hand, because a compiler would reject or change the
//! code in question.

use libbpf_rs::libbpf_sys as sys;

pub type Insn = sys::bpf_insn;

/// The register that contains the context when a program starts.
pub const CTX: u8 = 1;
/// The frame pointer.
pub const FRAME: u8 = 10;

fn insn(code: u8, (dst, src): (u8, u8), off: i16, imm: i32) -> Insn {
    let mut insn = Insn { code, off, imm, ..Default::default() };
    insn.set_dst_reg(dst);
    insn.set_src_reg(src);
    insn
}

/// dst = imm
pub fn set(dst: u8, imm: i32) -> Insn {
    insn(0xb7, (dst, 0), 0, imm)
}

/// dst = src
pub fn copy(dst: u8, src: u8) -> Insn {
    insn(0xbf, (dst, src), 0, 0)
}

/// dst += imm
pub fn add(dst: u8, imm: i32) -> Insn {
    insn(0x07, (dst, 0), 0, imm)
}

/// dst = the word at src + off
pub fn load(dst: u8, src: u8, off: i16) -> Insn {
    insn(0x79, (dst, src), off, 0)
}

/// The word at dst + off = src
pub fn store(dst: u8, off: i16, src: u8) -> Insn {
    insn(0x7b, (dst, src), off, 0)
}

/// Calls a kernel function by its BTF ID.
pub fn call(kfunc: u32) -> Insn {
    insn(0x85, (0, 2), 0, kfunc as i32) // 2: BPF_PSEUDO_KFUNC_CALL
}

/// return imm
pub fn leave(imm: i32) -> [Insn; 2] {
    [set(0, imm), insn(0x95, (0, 0), 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's encoding: opcode, registers, offset, immediate.
    fn bytes(insn: Insn) -> [u8; 8] {
        // SAFETY: eight bytes without padding.
        unsafe { std::mem::transmute(insn) }
    }

    #[test]
    fn registers_are_where_the_kernel_looks_for_them() {
        assert_eq!(bytes(load(2, CTX, -8)), [0x79, 0x12, 0xf8, 0xff, 0, 0, 0, 0]);
        assert_eq!(bytes(store(CTX, 8, 2)), [0x7b, 0x21, 8, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(copy(CTX, FRAME)), [0xbf, 0xa1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(call(0x1234)), [0x85, 0x20, 0, 0, 0x34, 0x12, 0, 0]);
    }
}
