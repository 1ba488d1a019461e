// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls that nothing in the sandbox may make. A list of what is denied, with a reason for each group: compilers,
//! make, Python and QEMU use most of the others, and another set of them with each version. What is not here can reach
//! the kernel (docs/design.md, "What stays open").

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

/// Answered with EPERM.
const DENIED: &[i64] = &[
    // Keyrings have no namespace: the user's keys, and those of Kerberos, fscrypt and containers, would be readable.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Programs in this host's kernel, and its counters.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    // Stops the kernel in the middle of a copy: the tool of many exploits.
    libc::SYS_userfaultfd,
    // Mounts, old and new. A user namespace of its own would let anybody make them.
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
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Files by number instead of by path, past every mount.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The machine itself: log, clock, modules, swap, quota, accounting, another kernel, the end.
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
    // Pages of other processes and nodes.
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // Old, rarely read code that no tool here needs.
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_remap_file_pages,
];

/// Of x86 alone.
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

/// Answered with ENOSYS, so that callers take the way of older kernels. clone3 passes its flags in memory, where no filter
/// can read them; the C library then uses clone. io_uring makes other calls past every filter.
const UNKNOWN: &[i64] =
    &[libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// open_tree_attr(2), of Linux 6.15; libc does not name it yet.
const OPEN_TREE_ATTR: i64 = 467;
/// Bit of the numbers of the x32 ABI, the same calls by other numbers.
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
/// For unshare only: clone has a signal's number there.
const CLONE_NEWTIME: libc::c_int = 0x80;
/// Characters pushed into the caller's terminal, which an interactive guest has.
const TERMINAL: [libc::c_ulong; 2] = [libc::TIOCSTI, libc::TIOCLINUX];
/// The families of sockets that are left. Of the others most are rarely read code, and vsock, which has no namespace, reaches
/// the host.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The filters, as `bwrap --add-seccomp-fd` reads them.
///
/// # Errors
/// On a machine that the compiler of filters does not know.
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

/// All of these: number of the argument, comparison, value. 32 bits, as the kernel reads each of these arguments.
fn rule(
    conditions: &[(u8, SeccompCmpOp, u64)],
) -> std::result::Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions.iter().map(|(argument, how, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, how.clone(), *value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// Everything else is allowed; a call of another machine's ABI (32-bit x86) kills its process.
fn compiled(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: libc::c_int,
) -> std::result::Result<BpfProgram, seccompiler::BackendError> {
    let machine = std::env::consts::ARCH.try_into()?;
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, answer, machine)?.try_into()
}

/// Puts a test of the number in front: x32 counts as x86_64 for the test of the machine, and has other numbers for all
/// that is denied.
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
            // 4,096 instructions of 8 bytes.
            assert!(program.len() % 8 == 0 && program.len() <= 4096 * 8, "{}", program.len());
            assert!(program.len() > 8 * 5);
        }
    }
}
