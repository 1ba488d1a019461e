// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must be rejected, with its errno and the verifier's message: programs that cannot be sessions,
//! callers of the session kfuncs that are not sessions, invalid arguments and accesses, and operations that
//! their links do not support.

mod code;
mod kfuncs;
mod link;
mod privileges;
mod target;

use super::{Context, Subtest, subtests};
use crate::bpf::{Copy, Refusal};
use crate::features::Profile;
use code::*;
use kfuncs::*;
use link::*;
use nix::errno::Errno;
use privileges::*;
use target::*;

subtests! { "reject":
    Normal kfuncs_of_fentry_program []
        "The session kfuncs are refused in fentry and fexit programs.";
    Normal kfuncs_of_fmod_ret_program [] "They are refused in fmod_ret programs.";
    Normal kfuncs_of_tracepoint_program []
        "They are refused in tracepoint and perf event programs, also in those that pretend to have a session's attach type.";
    Normal kfuncs_of_raw_tracepoint_program []
        "They are refused at raw tracepoints, with and without BTF, also with a session's attach type.";
    Normal kfuncs_of_kprobe_program []
        "They are refused in programs of a kprobe and of kprobe.multi, and in a kprobe that pretends to be an fsession.";
    Normal kfunc_argument []
        "They are refused anything but the context as argument: the stack, a place in the context, NULL.";
    Normal return_value []
        "A session that returns anything but 0 is refused when it is loaded.";
    Normal context_write [] "A session may write neither to an argument nor to the return value.";
    Normal context_bounds [] "A session may reach neither the word before its context nor what is behind the return value.";
    Normal not_a_function [] "A session on a BTF id that is no function, does not exist or is 0 is refused when it is loaded.";
    Normal noreturn_function []
        "A session on a function that never returns is refused when it is loaded.";
    Normal denied_function [] "A session on a function that trampolines themselves call is refused when it is loaded.";
    Normal notrace_function ["no_kfunc"]
        "Attaching to a function that cannot be traced fails with -EBUSY each time, and leaves nothing behind.";
    Normal freplace_of_session ["in_global_subprog"]
        "A global subprogram of a session cannot be replaced: the extension is refused when it is loaded.";
    Normal link_update ["no_kfunc", "one_arg"]
        "BPF_LINK_UPDATE of a session's link is refused, and the session goes on.";
    Normal link_detach ["no_kfunc"] "BPF_LINK_DETACH of a session's link is refused, and the session goes on.";
    Normal without_privileges [] needs PlainSessions
        "Without CAP_BPF or without CAP_PERFMON a session is refused with -EPERM when it is loaded.";
}

/// Checks that loading is rejected with `errno`, and that the verifier's log contains `message`.
fn refused(t: &mut Context, what: &str, answer: &Result<Copy, Refusal>, errno: Errno, message: &str) {
    let ok =
        answer.as_ref().is_err_and(|refusal| refusal.errno == errno as i32 && refusal.log.contains(message));
    t.checks.state(what, format!("{errno}, log with {message:?}"), told(answer), ok);
}

/// Checks that a program loads, so that similar ones are not rejected for another reason.
fn loads(t: &mut Context, what: &str, answer: &Result<Copy, Refusal>) {
    t.checks.eq(what, told(answer), "loaded".to_owned());
}

fn told(answer: &Result<Copy, Refusal>) -> String {
    answer.as_ref().map_or_else(Refusal::to_string, |_| "loaded".to_owned())
}

/// The answer of kernels from this version on: they do not all answer the same.
struct Answer {
    from: (u32, u32),
    errno: Errno,
    says: &'static str,
}

/// Versions whose messages were checked. For others only the errno is compared, and their messages are
/// reported.
const HEARD: [(u32, u32); 5] = [(6, 18), (7, 0), (7, 1), (7, 2), (7, 3)];

/// Like [`refused`], if the answer depends on the kernel. `answers` starts with the oldest.
fn refused_by_version(t: &mut Context, what: &str, answer: &Result<Copy, Refusal>, answers: &[Answer]) {
    let (errno, says) = expected(t.profile, answers);
    match says {
        Some(says) => refused(t, what, answer, errno, says),
        None => {
            let ok = answer.as_ref().is_err_and(|refusal| refusal.errno == errno as i32);
            t.checks.state(what, format!("{errno}, in whatever words"), told(answer), ok);
        }
    }
}

fn expected(profile: &Profile, answers: &[Answer]) -> (Errno, Option<&'static str>) {
    let newest = answers.iter().rev().find(|answer| answer.from <= profile.version);
    // Older than all: a backport, which answers like the first kernel with the feature.
    let Some(Answer { errno, says, .. }) = newest.or(answers.first()) else {
        return (Errno::UnknownErrno, None); // equals nothing that a kernel says
    };
    (*errno, Some(*says).filter(|_| HEARD.contains(&profile.version)))
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::features::Features;

    #[test]
    fn words_are_compared_only_where_they_were_heard() {
        let answers = [
            Answer { from: (6, 18), errno: Errno::EINVAL, says: "old" },
            Answer { from: (7, 0), errno: Errno::EACCES, says: "new" },
        ];
        let expected = |release: &str| {
            let features = Features { release: release.to_owned(), ..Features::default() };
            expected(&Profile::of(&features), &answers)
        };
        assert_eq!(expected("6.12.3"), (Errno::EINVAL, None));
        assert_eq!(expected("6.18.15"), (Errno::EINVAL, Some("old")));
        assert_eq!(expected("6.19.1"), (Errno::EINVAL, None));
        assert_eq!(expected("7.0.13"), (Errno::EACCES, Some("new")));
        assert_eq!(expected("8.1.0"), (Errno::EACCES, None));
    }
}
