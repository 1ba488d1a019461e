// SPDX-License-Identifier: MIT OR Apache-2.0
//! One session on one function: when it runs, and what it sees.

mod args;
mod attach;
pub mod beyond;
mod values;

use super::{Context, ENTRY, EXIT, Subtest, subtests};
use crate::bpf::{self, Seen, Session, Stats, Unloaded};
use args::*;
use attach::*;
use beyond::*;
use nix::errno::Errno;
use values::*;

subtests! { "basic":
    Quick one_entry_one_exit ["one_arg"]
        "Each call runs a session twice: bpf_session_is_return() is false once, then true once.";
    Normal without_kfunc ["no_kfunc"] needs PlainSessions
        "A session that calls no kfunc also runs twice a call, and no more once it is detached.";
    Normal run_count ["one_arg"]
        "The kernel's own statistics count two runs a call and no run missed.";
    Quick entry_before_body ["around_body"]
        "The entry run sees memory as it is before the function's body, the exit run as the body left it.";
    Normal args_1 ["one_arg"] "An int argument is the same at entry and at exit.";
    Normal args_2 ["two_args"] "Two arguments, int and u64, are the same at both.";
    Normal args_3_char ["three_args"] "Three arguments, the first a char, are the same at both.";
    Normal args_4_pointer ["four_args"] "Four arguments, the first a pointer, are the same at both.";
    Normal args_5_short ["five_args"] "Five arguments, the third a short, are the same at both.";
    Quick args_6 ["six_args"] "Six arguments, as many as go in registers, are the same at both.";
    Normal args_7_stack ["seven_args"] "Seven arguments, the last on the stack, are the same at both.";
    Normal args_7_futex ["futex_args"] "The seven arguments of do_futex, the last on the stack, are the same at both.";
    Normal args_9_stack ["mmap_args"] "The nine arguments of do_mmap, three on the stack, are the same at both.";
    Normal arg_struct_pointer ["pointer_arg"] "A pointer to a struct is the same at both.";
    Normal arg_bool ["do_setsockopt_args"] "A bool, and what follows it, is the same at both.";
    Normal struct_16_in_registers ["setsockopt_args"]
        "A 16-byte struct by value takes two slots, both the same at both.";
    Normal struct_16_on_stack ["getsockopt_args"]
        "A 16-byte struct that no longer fits in registers comes from the stack, the same at both.";
    Normal struct_4 ["alloc_uid_args"] "A 4-byte struct by value is the same at both.";
    Normal no_args ["on_setsid"] "A function without arguments can have a session.";
    Normal void_function ["on_fd_install"] "A function that returns nothing can have a session.";
    Normal return_value ["one_arg"] "The value behind the arguments is 0 at entry and the function's at exit.";
    Normal return_value_helper ["helpers"] "bpf_get_func_ret() gives 0 at entry and the function's value at exit.";
    Normal negative_value ["setsockopt_args"] "A negative return value keeps its sign.";
    Normal arg_helpers ["helpers"] "bpf_get_func_arg() and bpf_get_func_arg_cnt() are right at both.";
    Normal arg_helpers_of_neighbours
        ["fentry_helpers", "fexit_helpers", "fmod_helpers", "helpers", "cookie_helpers"]
        "Helpers of plain programs are right while session bits and cookie offsets are in the word before ctx.";
    Normal beyond_the_arguments
        ["fentry_beyond", "fexit_beyond", "fmod_beyond", "session_beyond", "cookie_beyond"]
        "Asking for a slot beyond the arguments is refused in all programs of a trampoline, and writes nothing.";
    Normal struct_slots ["fentry_struct", "fexit_struct", "session_struct", "cookie_struct"]
        "A struct by value counts as two arguments, and the return value is behind them, for sessions and their neighbours.";
    Normal struct_slots_on_stack
        ["fentry_struct_stack", "fexit_struct_stack", "session_struct_stack", "cookie_struct_stack"]
        "The same with two structs, one of them on the stack.";
    Normal nine_slots ["fentry_nine", "session_nine", "fexit_nine", "cookie_nine"]
        "With nine arguments the helpers find the last one and the value behind it, for sessions and their neighbours.";
    Normal is_return_is_0_or_1 ["raw_is_return"] "bpf_session_is_return() is 0 at entry and 1 at exit as a whole register.";
    Normal call_at_the_end
        ["last_after_counts", "last_after_args", "last_after_values", "last_after_ips", "last_after_cookies", "last_after_sides"]
        "A kfunc call at the end of a program is right behind 16 calls that the verifier replaces by more instructions.";
    Normal not_inside_itself ["deleting"]
        "A session whose programs call its own function does not run inside itself: those runs are missed, and counted.";
    Normal return_pointer ["checked_pointer"]
        "A pointer that the function returns is NULL at entry, and at exit can be read and given to a helper.";
    Normal void_return_slot ["void_return", "void_fexit"]
        "In a function that returns nothing bpf_get_func_ret() gives 0 at entry, and at exit what it gives to fexit.";
    Normal value_of_program ["target_program"]
        "The return value of a BPF program is behind its five assumed arguments, and 0 at entry.";
    Normal value_in_subprograms ["value_in_subprogs"]
        "bpf_get_func_ret() works in static and global subprograms.";
    Normal raw_tracepoint_open ["one_arg"] "BPF_RAW_TRACEPOINT_OPEN attaches a session as BPF_LINK_CREATE does, and once.";
    Normal test_run_of_session ["one_arg"] "BPF_PROG_TEST_RUN of a session calls its target.";
    Normal exception_inside ["thrower"]
        "A session that throws ends that run only: the exit run follows, with its cookie, and the target is unharmed.";
    Normal func_ip ["plain_fentry", "look_at_stack", "cookie_1", "cookie_2", "cookie_3", "cookie_4"]
        "bpf_get_func_ip() is the same as in a plain program with 0 to 4 cookies on the stack.";
    Normal attach_cookie ["helpers"] "bpf_get_attach_cookie() is the link's at both, and another after reattach.";
    Normal target_is_program ["target_program"] "A session on a BPF program runs twice a call.";
    Normal no_reattach_to_program ["target_program"]
        "A session on a BPF program attaches once: after it was detached another attach is refused with -EINVAL.";
    Normal sleepable ["sleepable"] "A sleepable session reads user memory at both.";
    Normal early_return ["early_return"] "An entry run that returns at once does not suppress the exit run.";
    Normal static_subprogram ["in_static_subprog"] "The kfuncs work in a static subprogram.";
    Normal global_subprogram ["in_global_subprog"] "The kfuncs work in a global subprogram.";
    Normal stack_trace ["look_at_stack"] "bpf_get_stack() gives the same callers at entry and at exit.";
    Normal none_lost ["one_arg"] "Of 10,000 calls none loses a run.";
    Normal reattach_100_times ["one_arg"] "After each of 100 attaches a call runs the session twice, after each detach not.";
}

fn one_entry_one_exit(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("one_arg")?;
    for call in 1..=3 {
        t.call_fentry_tests()?;
        let seen = t.seen().one_arg_seen;
        t.checks.eq(format!("entry runs after call {call}"), seen[ENTRY].runs, call);
        t.checks.eq(format!("exit runs after call {call}"), seen[EXIT].runs, call);
        t.checks.eq(format!("entry's place in call {call}"), seen[ENTRY].order, 2 * call - 1);
        t.checks.eq(format!("exit's place in call {call}"), seen[EXIT].order, 2 * call);
    }
    Ok(())
}

fn is_return_is_0_or_1(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("raw_is_return")?;
    t.call_fentry_tests()?;
    let seen = t.seen().raw_is_return_seen;
    t.checks.same("runs", seen.map(|seen| seen.runs), [1, 1]);
    t.checks.same("what the kfunc returned", seen.map(|seen| seen.value), [0, 1]);
    Ok(())
}

fn call_at_the_end(t: &mut Context) -> Result<(), String> {
    let mut links = Vec::new();
    for program in [
        "last_after_counts",
        "last_after_args",
        "last_after_values",
        "last_after_ips",
        "last_after_cookies",
        "last_after_sides",
    ] {
        links.push(t.attach(program)?);
    }
    t.call_fentry_tests()?;
    let seen = t.seen();
    // Sums of what 16 calls gave: a count, an argument and an address each time, a value and a side at exit. A cookie
    // is incremented by each.
    for (what, seen, sums) in [
        ("bpf_get_func_arg_cnt()", seen.last_after_counts_seen, [16, 16]),
        ("bpf_get_func_arg()", seen.last_after_args_seen, [16, 16]),
        ("bpf_get_func_ret()", seen.last_after_values_seen, [0, 32]),
        ("bpf_get_func_ip()", seen.last_after_ips_seen, [16, 16]),
        ("bpf_session_cookie()", seen.last_after_cookies_seen, [136, 392]),
        ("bpf_session_is_return()", seen.last_after_sides_seen, [0, 16]),
    ] {
        t.checks.same(format!("{what}: runs"), seen.map(|seen| seen.runs), [1, 1]);
        t.checks.same(format!("16 calls of {what}: sum"), seen.map(|seen| seen.arg[0]), sums);
        t.checks.same("the call behind them", seen.map(|seen| seen.value), [0, 1]);
    }
    Ok(())
}

fn not_inside_itself(t: &mut Context) -> Result<(), String> {
    const CALLS: u64 = 3;
    let map = t.session.map_fd(c"deletions")?;
    let before = t.session.stats("deleting")?.misses;
    let _statistics = bpf::enable_stats().map_err(|errno| format!("enable statistics: {errno}"))?;
    let _link = t.attach("deleting")?;
    t.reset();
    for _ in 0..CALLS {
        bpf::delete(map, 0);
    }
    let (seen, misses) = (t.seen().deleting_seen, t.session.stats("deleting")?.misses - before);
    t.checks.same("runs", seen.map(|seen| seen.runs), [CALLS, CALLS]);
    // Each run calls the function once, which would run the session twice.
    t.checks.eq("recursion_misses", misses, 4 * CALLS);
    Ok(())
}

fn without_kfunc(t: &mut Context) -> Result<(), String> {
    let link = t.attach("no_kfunc")?;
    for call in 1..=3 {
        t.call_fentry_tests()?;
        t.checks.eq(format!("runs after call {call}"), t.seen().no_kfunc_seen.runs, 2 * call);
    }
    drop(link);
    t.call_fentry_tests()?;
    t.checks.eq("runs after a call once it is detached", t.seen().no_kfunc_seen.runs, 6);
    Ok(())
}

fn run_count(t: &mut Context) -> Result<(), String> {
    let _stats = bpf::enable_stats().map_err(|errno| format!("BPF_ENABLE_STATS: {errno}"))?;
    let before = t.session.stats("one_arg")?;
    let _link = t.attach("one_arg")?;
    for _ in 0..100 {
        t.call_fentry_tests()?;
    }
    let after = t.session.stats("one_arg")?;
    let counted = Stats { runs: after.runs - before.runs, misses: after.misses - before.misses };
    t.checks.same("statistics of 100 calls", counted, Stats { runs: 200, misses: 0 });
    let seen = t.seen().one_arg_seen;
    t.checks.eq("the program's own count", seen[ENTRY].runs + seen[EXIT].runs, 200);
    Ok(())
}

fn entry_before_body(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("around_body")?;
    t.call_modify_return_tests()?;
    let seen = t.seen().body_seen;
    t.checks.eq("*b at entry", seen[ENTRY].value, 2);
    t.checks.eq("*b at exit", seen[EXIT].value, 3);
    returns(t, &seen, 4);
    Ok(())
}

fn return_value(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("one_arg")?;
    for _ in 0..2 {
        // The second entry must not see what the first exit left.
        t.call_fentry_tests()?;
        returns(t, &t.seen().one_arg_seen, 2);
    }
    Ok(())
}

fn return_value_helper(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("helpers")?;
    for _ in 0..2 {
        t.call_modify_return_tests()?;
        let seen = t.seen().helpers_seen;
        t.checks.eq("bpf_get_func_ret() at entry", seen[ENTRY].func_ret_err, 0);
        t.checks.eq("the value it gives there", seen[ENTRY].func_ret, 0);
        t.checks.eq("bpf_get_func_ret() at exit", seen[EXIT].func_ret_err, 0);
        t.checks.eq("the value it gives there", seen[EXIT].func_ret as i32, 29);
    }
    Ok(())
}

fn func_ip(t: &mut Context) -> Result<(), String> {
    let plain = t.attach("plain_fentry")?;
    t.call_fentry_tests()?;
    let ip = t.seen().plain_fentry_seen.ip;
    drop(plain);
    t.checks.state("bpf_get_func_ip() in fentry", "an address", format!("{ip:#x}"), ip != 0);

    let mut links = vec![t.attach("look_at_stack")?];
    for cookies in 0..=4 {
        if cookies > 0 {
            links.push(t.attach(&format!("cookie_{cookies}"))?);
        }
        t.reset();
        t.call_fentry_tests()?;
        let seen = t.seen();
        let with_cookie = [seen.cookie_1_seen, seen.cookie_2_seen, seen.cookie_3_seen, seen.cookie_4_seen];
        for session in [seen.stack_seen].iter().chain(&with_cookie[..cookies]) {
            t.checks.hex(format!("{cookies} cookies, at entry"), session[ENTRY].ip, ip);
            t.checks.hex(format!("{cookies} cookies, at exit"), session[EXIT].ip, ip);
        }
    }
    Ok(())
}

fn attach_cookie(t: &mut Context) -> Result<(), String> {
    for cookie in [0x1122_3344_5566_7788, 0, u64::MAX] {
        let _link = t.attach_with_cookie("helpers", cookie)?;
        t.call_modify_return_tests()?;
        let seen = t.seen().helpers_seen;
        t.checks.hex("at entry", seen[ENTRY].attach_cookie, cookie);
        t.checks.hex("at exit", seen[EXIT].attach_cookie, cookie);
    }
    Ok(())
}

/// Loads a session for a BPF program.
pub(super) fn load_on_program(t: &Context) -> Result<Session, String> {
    let mut object = Unloaded::open()?;
    object.set_target("on_program", t.session.fd("target_program")?, c"target_program")?;
    object.choose("on_program")?;
    let session = object.load().map_err(|errno| format!("load a session on a BPF program: {errno}"))?;
    session.reset(std::process::id());
    Ok(session)
}

fn target_is_program(t: &mut Context) -> Result<(), String> {
    let session = load_on_program(t)?;
    let _link =
        session.attach("on_program", 0)?.map_err(|errno| format!("attach to a BPF program: {errno}"))?;
    for call in 1..=2 {
        let value = t.session.test_run("target_program")?;
        let seen = session.globals().on_program_seen;
        t.checks.eq("what the target returns", value, 42);
        t.checks.eq("entry runs", seen[ENTRY].runs, call);
        t.checks.eq("exit runs", seen[EXIT].runs, call);
        t.checks.eq("cookie at entry", seen[ENTRY].cookie, 0);
        t.checks.hex("cookie at exit", seen[EXIT].cookie, 0x1234);
        t.checks.eq("bpf_get_func_ret() at entry", seen[ENTRY].func_ret, 0);
        t.checks.eq("bpf_get_func_ret() at exit", seen[EXIT].func_ret as i32, 42);
    }
    Ok(())
}

/// The link's information about its target is gone with it, and cannot be looked up in the program's BTF.
fn no_reattach_to_program(t: &mut Context) -> Result<(), String> {
    let session = load_on_program(t)?;
    let link = session.attach("on_program", 0)?;
    let told = |link: &Result<bpf::Link, Errno>| {
        link.as_ref().map_or_else(|errno| errno.to_string(), |_| "attached".to_owned())
    };
    t.checks.eq("attaching it", told(&link), "attached".to_owned());
    drop(link);
    let again = session.attach("on_program", 0)?;
    t.checks.eq("attaching it again", told(&again), Errno::EINVAL.to_string());
    t.checks.eq("what the target returns", t.session.test_run("target_program")?, 42);
    let runs = session.globals().on_program_seen.map(|seen| seen.runs);
    t.checks.same("runs once it was detached", runs, [0, 0]);
    Ok(())
}

fn sleepable(t: &mut Context) -> Result<(), String> {
    let word = 0x5eed_u64;
    t.session.set(|globals| globals.user_word = &raw const word as u64);
    let _link = t.attach("sleepable")?;
    t.call_fentry_tests()?;
    let seen = t.seen().sleepable_seen;
    for (at, name) in [(ENTRY, "entry"), (EXIT, "exit")] {
        t.checks.eq(format!("{name} runs"), seen[at].runs, 1);
        t.checks.eq(format!("bpf_copy_from_user() at {name}"), seen[at].func_ret_err, 0);
        t.checks.hex(format!("what it read at {name}"), seen[at].value, word);
    }
    returns(t, &seen, 2);
    Ok(())
}

fn early_return(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("early_return")?;
    t.call_fentry_tests()?;
    let seen = t.seen().early_seen;
    t.checks.eq("entry runs", seen[ENTRY].runs, 1);
    t.checks.eq("exit runs", seen[EXIT].runs, 1);
    Ok(())
}

fn static_subprogram(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("in_static_subprog")?;
    t.call_fentry_tests()?;
    subprogram_is_right(t, &t.seen().static_subprog_seen, 5);
    Ok(())
}

fn global_subprogram(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("in_global_subprog")?;
    t.call_fentry_tests()?;
    subprogram_is_right(t, &t.seen().global_subprog_seen, 7);
    Ok(())
}

/// Checks the runs of a subprogram that adds `step` to the cookie each time.
fn subprogram_is_right(t: &mut Context, seen: &[Seen; 2], step: u64) {
    t.checks.eq("entry runs", seen[ENTRY].runs, 1);
    t.checks.eq("exit runs", seen[EXIT].runs, 1);
    t.checks.eq("cookie after the entry run", seen[ENTRY].cookie, step);
    t.checks.eq("cookie after the exit run", seen[EXIT].cookie, 2 * step);
}

fn stack_trace(t: &mut Context) -> Result<(), String> {
    /// Frames below the caller of the traced function: the program and the trampoline.
    const OURS: usize = 2;
    /// The test run, bpf(2) and the system call.
    const CALLERS: usize = 4;
    let _link = t.attach("look_at_stack")?;
    t.call_fentry_tests()?;
    let globals = t.seen();
    let frames = |at: usize| -> Vec<String> {
        let len = (globals.stack_seen[at].value as i64).clamp(0, size_of_val(&globals.stack[at]) as i64)
            as usize
            / 8;
        globals.stack[at][..len].iter().map(|address| format!("{address:#x}")).collect()
    };
    let (entry, exit) = (frames(ENTRY), frames(EXIT));
    let least = OURS + CALLERS;
    t.checks.state("frames at entry", format!("at least {least}"), entry.join(" "), entry.len() >= least);
    let callers = |frames: &[String]| frames.iter().skip(OURS).cloned().collect::<Vec<_>>();
    t.checks.same("callers at exit", callers(&exit), callers(&entry));
    Ok(())
}

fn none_lost(t: &mut Context) -> Result<(), String> {
    const CALLS: u64 = 10_000;
    let _link = t.attach("one_arg")?;
    for _ in 0..CALLS {
        t.call_fentry_tests()?;
    }
    let seen = t.seen().one_arg_seen;
    t.checks.eq("entry runs", seen[ENTRY].runs, CALLS);
    t.checks.eq("exit runs", seen[EXIT].runs, CALLS);
    Ok(())
}

fn reattach_100_times(t: &mut Context) -> Result<(), String> {
    for time in 1..=100 {
        let link = t.attach("one_arg")?;
        t.call_fentry_tests()?;
        drop(link);
        t.call_fentry_tests()?;
        let seen = t.seen().one_arg_seen;
        t.checks.same(format!("runs after attach {time}"), (seen[ENTRY].runs, seen[EXIT].runs), (time, time));
    }
    Ok(())
}

fn exception_inside(t: &mut Context) -> Result<(), String> {
    let _link = t.attach("thrower")?;
    for throwing in [0, 1, 1, 0] {
        t.reset();
        t.session.set(|globals| globals.throwing = throwing);
        // Fails if the target returns anything but 2.
        t.call_fentry_tests()?;
        let (seen, when) = (t.seen().thrower_seen, if throwing == 0 { "calm" } else { "throwing" });
        t.checks.same(format!("{when}: runs"), seen.map(|seen| seen.runs), [1, 1]);
        let completed = u64::from(1 - throwing);
        t.checks.same(format!("{when}: runs to the end"), seen.map(|seen| seen.value), [completed; 2]);
        t.checks.same(format!("{when}: cookie"), seen.map(|seen| seen.cookie), [0, 0xfeed]);
    }
    Ok(())
}
