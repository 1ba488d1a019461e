// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must be rejected, with its errno and the verifier's message: programs that cannot be sessions,
//! callers of the session kfuncs that are not sessions, invalid arguments and accesses, and operations that
//! their links do not support.

mod code;
mod helpers;
mod kfuncs;
mod link;
mod privileges;
mod target;

use super::{Context, Subtest, subtests};
use crate::bpf::{Copy, Refusal};
use code::*;
use helpers::*;
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
    Normal kfuncs_of_lsm_program [] needs SessionsAndLsm "They are refused in LSM programs.";
    Normal kfuncs_of_iterator [] "They are refused in iterators.";
    Normal kfunc_argument []
        "They are refused anything but the context as argument: the stack, a place in the context, NULL.";
    Normal return_value []
        "A session that returns anything but 0 is refused when it is loaded.";
    Normal context_write [] "A session may write neither to an argument nor to the return value.";
    Normal context_bounds [] "A session may reach neither the word before its context nor what is behind the return value, which fentry may not read.";
    Normal not_a_function [] "A session on a BTF id that is no function, does not exist or is 0 is refused when it is loaded.";
    Normal noreturn_function []
        "A session on a function that never returns is refused when it is loaded.";
    Normal sleepable_where_none_may_sleep []
        "A sleepable session is refused on a function in which programs must not sleep, as fentry is, and not on another.";
    Normal untrusted_argument []
        "A session's argument is not trusted, as it is not in fentry: a kfunc that wants a trusted task refuses it.";
    Normal denied_function [] "A session on a function that trampolines themselves call is refused when it is loaded.";
    Normal notrace_function ["no_kfunc"]
        "Attaching to a function that cannot be traced fails with -EBUSY each time, and leaves nothing behind.";
    Normal freplace_of_session ["in_global_subprog"]
        "A global subprogram of a session cannot be replaced: the extension is refused when it is loaded.";
    Normal link_update ["no_kfunc", "one_arg"]
        "BPF_LINK_UPDATE of a session's link is refused, and the session goes on.";
    Normal link_create_arguments ["no_kfunc", "plain_fentry", "target_program"]
        "A session's link takes neither another attach type nor a target of its own, and nothing is left attached.";
    Normal helpers_of_iterator []
        "Helpers that read what a trampoline prepares are refused in iterators.";
    Normal helpers_of_raw_tracepoint []
        "At raw tracepoints they are refused, or are right about the tracepoint's arguments.";
    Normal storage_in_itself []
        "Storage of sockets is refused to a session on its own functions, as to fexit, and to no other.";
    Normal void_slot []
        "The slot behind the arguments of a function that returns nothing is refused, as it is to fexit.";
    Normal struct_return [] "A session on a function that returns a struct is refused when it is loaded.";
    Normal throw_function [] "A session on bpf_throw() is refused when it is loaded.";
    Normal unchecked_pointer []
        "A pointer that the function returns must be compared with NULL before a helper gets it; an argument must not.";
    Normal link_detach ["no_kfunc"] "BPF_LINK_DETACH of a session's link is refused, and the session goes on.";
    Normal without_privileges [] needs PlainSessions
        "Without CAP_BPF or without CAP_PERFMON a session is refused with -EPERM when it is loaded.";
}

/// Checks that loading is rejected with `errno`, and that the verifier's log contains `message`.
fn refused<T>(t: &mut Context, what: &str, answer: &Result<T, Refusal>, errno: Errno, message: &str) {
    let ok =
        answer.as_ref().is_err_and(|refusal| refusal.errno == errno as i32 && refusal.log.contains(message));
    t.checks.state(what, format!("{errno}, log with {message:?}"), told(answer), ok);
}

/// Checks that a program loads, so that similar ones are not rejected for another reason.
pub(super) fn loads<T>(t: &mut Context, what: &str, answer: &Result<T, Refusal>) {
    t.checks.eq(what, told(answer), "loaded".to_owned());
}

fn told<T>(answer: &Result<T, Refusal>) -> String {
    answer.as_ref().map_or_else(Refusal::to_string, |_| "loaded".to_owned())
}

/// A rejection: the errno, and what the verifier's log contains.
type Answer = (Errno, &'static str);

/// Like [`refused`], where kernels differ in how they put it: in one of these ways.
fn refused_somehow(t: &mut Context, what: &str, answer: &Result<Copy, Refusal>, ways: &[Answer]) {
    let ok = answer.as_ref().is_err_and(|refusal| is_one_of(refusal, ways));
    let ways: Vec<String> =
        ways.iter().map(|(errno, message)| format!("{errno}, log with {message:?}")).collect();
    t.checks.state(what, ways.join("; or "), told(answer), ok);
}

/// The message must be the one that belongs to the errno.
fn is_one_of(refusal: &Refusal, ways: &[Answer]) -> bool {
    ways.iter().any(|(errno, message)| refusal.errno == *errno as i32 && refusal.log.contains(message))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn an_errno_with_the_words_of_another_is_not_an_answer() {
        let ways = [(Errno::EINVAL, "old"), (Errno::EACCES, "new")];
        let refusal = |errno: Errno, log: &str| Refusal { errno: errno as i32, log: log.to_owned() };
        assert!(is_one_of(&refusal(Errno::EINVAL, "R1: old"), &ways));
        assert!(is_one_of(&refusal(Errno::EACCES, "R1: new"), &ways));
        for wrong in
            [(Errno::EINVAL, "new"), (Errno::EACCES, "old"), (Errno::EPERM, "old"), (Errno::EINVAL, "")]
        {
            assert!(!is_one_of(&refusal(wrong.0, wrong.1), &ways), "{wrong:?}");
        }
    }
}
