// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn refused(errno: i32, log: &str) -> Result<(), Refusal> {
    Err(Refusal { errno, log: log.to_owned() })
}

const COUNT: &str = "processed 0 insns (limit 1000000) max_states_per_insn 0\n";
const JIT: &str = "JIT does not support fsession\nprocessed 0 insns (limit 1000000)\n";

#[test]
fn a_skip_needs_exactly_the_documented_refusal() {
    for (has, jit, answer, expected) in [
        (true, true, Ok(()), "yes"),
        (true, false, Ok(()), "broken"),
        (true, true, refused(EOPNOTSUPP, JIT), "broken"),
        (true, false, refused(EOPNOTSUPP, JIT), "no"),
        (true, true, refused(EOPNOTSUPP, COUNT), "broken"),
        (true, true, refused(EINVAL, JIT), "broken"),
        (true, true, refused(EINVAL, ""), "broken"),
        (false, true, refused(EINVAL, ""), "no"),
        (false, true, refused(EINVAL, COUNT), "no"),
        (false, true, refused(EINVAL, "attach_btf_id 1 is not a function\n"), "broken"),
        (false, true, refused(EOPNOTSUPP, ""), "broken"),
        (false, true, Ok(()), "broken"),
    ] {
        let seen = match judge_session(has, jit, answer.clone()) {
            Support::Yes => "yes",
            Support::No(_) => "no",
            Support::Broken(..) => "broken",
        };
        assert_eq!(seen, expected, "{has} {jit} {answer:?}");
    }
}

#[test]
fn a_refused_kfunc_call_is_a_skip_only_without_a_jit() {
    let message = "JIT is required for calling kernel function\n";
    for (jit, answer, expected) in [
        (Some(1), refused(ENOTSUPP, message), "yes"),
        (Some(1), refused(EINVAL, ""), "yes"),
        (Some(0), Ok(()), "yes"),
        (Some(0), refused(ENOTSUPP, message), "no"),
        (None, refused(ENOTSUPP, message), "no"),
        (Some(0), refused(ENOTSUPP, ""), "broken"),
        (Some(0), refused(EOPNOTSUPP, message), "broken"),
        (None, refused(EINVAL, ""), "broken"),
    ] {
        let features = Features { jit, ..Features::default() };
        let seen = match judge_kfunc(&features, answer.clone()) {
            Support::Yes => "yes",
            Support::No(_) => "no",
            Support::Broken(..) => "broken",
        };
        assert_eq!(seen, expected, "{jit:?} {answer:?}");
    }
}

#[test]
fn without_btf_nothing_is_known_to_be_absent() {
    let features = Features { btf_error: Some("no BTF".to_owned()), ..Features::default() };
    for needs in [
        Needs::Sessions,
        Needs::PlainSessions,
        Needs::MultiSessions,
        Needs::SessionsAndLsm,
        Needs::KprobeSessions,
        Needs::UprobeSessions,
    ] {
        assert!(matches!(ask(&features, needs), Support::Broken(..)), "{needs:?}");
    }
}

#[test]
fn sessions_on_many_functions_are_a_skip_only_without_the_attach_type() {
    let message = "Tracing programs must provide btf_id\n";
    for (has, answer, expected) in [
        (true, Ok(()), "yes"),
        (true, refused(EINVAL, message), "broken"),
        (true, refused(EOPNOTSUPP, JIT), "broken"),
        (false, refused(EINVAL, message), "no"),
        (false, refused(EINVAL, COUNT), "broken"),
        (false, refused(EOPNOTSUPP, message), "broken"),
        (false, Ok(()), "broken"),
    ] {
        let seen = match judge_multi(has, answer.clone()) {
            Support::Yes => "yes",
            Support::No(_) => "no",
            Support::Broken(..) => "broken",
        };
        assert_eq!(seen, expected, "{has} {answer:?}");
    }
}

#[test]
fn without_lsm_hooks_their_programs_must_be_unknown() {
    assert!(matches!(judge_lsm(refused(EINVAL, COUNT)), Support::No(_)));
    for answer in [Ok(()), refused(EOPNOTSUPP, ""), refused(EINVAL, "attach_btf_id 0\n")] {
        assert!(matches!(judge_lsm(answer.clone()), Support::Broken(..)), "{answer:?}");
    }
}
