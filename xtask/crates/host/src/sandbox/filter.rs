// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls that are denied in the sandbox, with a reason for each group. It is not a list of allowed
//! calls, because compilers, make, Python and QEMU use most of the others, and different ones in each
//! version. All other calls reach the kernel (docs/design.md, "What stays open").

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

/// Fail with EPERM.
const DENIED: &[i64] = &[
    // Keyrings have no namespace: keys of the user, Kerberos, fscrypt and containers would be readable.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Programs in the host's kernel, and its performance counters.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    // Can pause the kernel in the middle of a copy, which many exploits use.
    libc::SYS_userfaultfd,
    // Mounts, by the old and the new API. In a new user namespace any process could make them.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    OPEN_TREE_ATTR,
    libc::SYS_setns,
    // Memory and descriptors of other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Opening files by handle instead of by path, which bypasses mounts.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The host itself: log, clock, modules, swap, quota, accounting, kexec, reboot.
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_acct,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_fanotify_init,
    // Memory pages of other processes and nodes.
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Old, rarely audited code that no tool in the sandbox needs.
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_remap_file_pages,
];

/// Only on x86.
#[cfg(target_arch = "x86_64")]
const DENIED_OF_THE_MACHINE: &[i64] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_modify_ldt,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_OF_THE_MACHINE: &[i64] = &[];

/// Fail with ENOSYS, so that callers fall back as on older kernels. clone3 passes its flags in memory, which
/// a filter cannot read; the C library then uses clone. io_uring performs operations that no filter sees.
const UNKNOWN: &[i64] =
    &[libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// open_tree_attr(2) of Linux 6.15, which libc does not define yet.
const OPEN_TREE_ATTR: i64 = 467;
/// Bit in the system call numbers of the x32 ABI, which has the same calls under other numbers.
const X32: u32 = 0x4000_0000;

/// Every kind of namespace, for clone and unshare.
const NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    CLONE_NEWTIME,
];
/// For unshare only: the low bits of clone's flags are a signal number.
const CLONE_NEWTIME: libc::c_int = 0x80;
/// Inject characters into the caller's terminal, which an interactive guest has.
const TERMINAL: [libc::c_ulong; 2] = [libc::TIOCSTI, libc::TIOCLINUX];
/// The allowed socket families. Most of the others are rarely audited code, and vsock, which has no
/// namespace, reaches the host.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The filters in the format of `bwrap --add-seccomp-fd`.
///
/// # Errors
/// On an architecture that the filter compiler does not support.
pub fn programs() -> Result<[Vec<u8>; 2], String> {
    let text = |error: seccompiler::BackendError| error.to_string();
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().chain(DENIED_OF_THE_MACHINE).map(|call| (*call, Vec::new())).collect();
    let has_bit = |bit: libc::c_int| {
        let bit = u64::from(bit.unsigned_abs());
        rule(&[(0, SeccompCmpOp::MaskedEq(bit), bit)])
    };
    let all = NAMESPACES.into_iter().map(has_bit).collect::<Result<Vec<_>, _>>().map_err(text)?;
    let of_clone = NAMESPACES.into_iter().filter(|bit| *bit != CLONE_NEWTIME).map(has_bit);
    denied.insert(libc::SYS_clone, of_clone.collect::<Result<_, _>>().map_err(text)?);
    denied.insert(libc::SYS_unshare, all);
    let request = |request: libc::c_ulong| rule(&[(1, SeccompCmpOp::Eq, request)]);
    let requests = TERMINAL.into_iter().map(request).collect::<Result<_, _>>().map_err(text)?;
    denied.insert(libc::SYS_ioctl, requests);
    let other = FAMILIES.map(|family| (0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs())));
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        denied.insert(call, vec![rule(&other).map_err(text)?]);
    }
    let unknown = UNKNOWN.iter().map(|call| (*call, Vec::new())).collect();
    let denied = compiled(denied, libc::EPERM).map_err(text)?;
    let unknown = compiled(unknown, libc::ENOSYS).map_err(text)?;
    Ok([bytes(&without_x32(denied)), bytes(&unknown)])
}

/// A rule that matches if all conditions (argument number, comparison, value) do. Compares 32 bits, since the
/// kernel reads only those of each of these arguments.
fn rule(
    conditions: &[(u8, SeccompCmpOp, u64)],
) -> std::result::Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions.iter().map(|(argument, how, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, how.clone(), *value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// Allows everything else. A system call of another ABI (32-bit x86) kills its process.
fn compiled(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: libc::c_int,
) -> std::result::Result<BpfProgram, seccompiler::BackendError> {
    let machine = std::env::consts::ARCH.try_into()?;
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, answer, machine)?.try_into()
}

/// Prepends a check of the system call number: x32 passes the check of the architecture, but has other
/// numbers for everything that is denied.
fn without_x32(program: BpfProgram) -> BpfProgram {
    let step = |code: u32, jt: u8, jf: u8, k: u32| sock_filter { code: code as u16, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let mut whole = vec![
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
    ];
    whole.extend(program);
    whole
}

fn bytes(program: &BpfProgram) -> Vec<u8> {
    let step = |step: &sock_filter| {
        let mut bytes = step.code.to_ne_bytes().to_vec();
        bytes.extend([step.jt, step.jf]);
        bytes.extend(step.k.to_ne_bytes());
        bytes
    };
    program.iter().flat_map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_are_programs_that_a_kernel_takes() {
        for program in programs().expect("compiled") {
            // At most 4,096 instructions of 8 bytes.
            assert!(program.len() % 8 == 0 && program.len() <= 4096 * 8, "{}", program.len());
            assert!(program.len() > 8 * 5);
        }
    }
}
