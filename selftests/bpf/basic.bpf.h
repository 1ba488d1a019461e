/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs of the group `basic`; some are used by other groups as well. */

/*
 * BPF_PROG_TEST_RUN of these two calls bpf_fentry_test1, 2, 3 .., or bpf_modify_return_test and _test2,
 * always with the same arguments. They are not attached.
 */
SEC("fentry/bpf_fentry_test1")
int call_fentry_tests(__u64 *ctx)
{
	return 0;
}

SEC("fmod_ret/bpf_modify_return_test")
int call_modify_return_tests(__u64 *ctx)
{
	return 0;
}

/* Calls no kfunc: counts its runs and cannot distinguish entry from exit. */
struct seen no_kfunc_seen;
SEC("fsession/bpf_fentry_test1")
int no_kfunc(__u64 *ctx)
{
	if (mine())
		note(&no_kfunc_seen);
	return 0;
}

/* A session on a function with n argument slots and a return value: records all of them. */
#define LOOK_AT_ARGS(name, target, n)					\
	struct seen name##_seen[2];					\
	SEC("fsession/" target)						\
	int name(__u64 *ctx)						\
	{								\
		struct seen *s = &name##_seen[side(ctx)];		\
									\
		if (!mine())						\
			return 0;					\
		note(s);						\
		ARGS##n(s, ctx);					\
		s->ret = ctx[n];					\
		return 0;						\
	}

LOOK_AT_ARGS(one_arg, "bpf_fentry_test1", 1)
LOOK_AT_ARGS(two_args, "bpf_fentry_test2", 2)
LOOK_AT_ARGS(three_args, "bpf_fentry_test3", 3)
LOOK_AT_ARGS(four_args, "bpf_fentry_test4", 4)
LOOK_AT_ARGS(five_args, "bpf_fentry_test5", 5)
LOOK_AT_ARGS(six_args, "bpf_fentry_test6", 6)
LOOK_AT_ARGS(seven_args, "bpf_modify_return_test2", 7)
LOOK_AT_ARGS(pointer_arg, "bpf_fentry_test8", 1)
LOOK_AT_ARGS(futex_args, "do_futex", 7)
LOOK_AT_ARGS(mmap_args, "do_mmap", 9)
LOOK_AT_ARGS(do_setsockopt_args, "do_sock_setsockopt", 7)
LOOK_AT_ARGS(setsockopt_args, "sock_setsockopt", 6)
LOOK_AT_ARGS(getsockopt_args, "sk_getsockopt", 7)
LOOK_AT_ARGS(alloc_uid_args, "alloc_uid", 1)

/* What the kfunc returns as a whole register, before a compiler can take it for a bool. */
struct seen raw_is_return_seen[2];
SEC("fsession/bpf_fentry_test1")
int raw_is_return(__u64 *ctx)
{
	__u64 value = bpf_session_is_return(ctx);
	struct seen *s = &raw_is_return_seen[side(ctx)];

	asm volatile("" : "+r"(value));
	if (!mine())
		return 0;
	note(s);
	s->value = value;
	return 0;
}

/*
 * Calls that become several instructions each, and one that must be replaced behind them, next to the end of the
 * program.
 */
#define LAST_CALL(name, call)						\
	struct seen name##_seen[2];					\
	SEC("fsession/bpf_fentry_test1")				\
	int name(__u64 *ctx)						\
	{								\
		struct seen *s = &name##_seen[side(ctx)];		\
		__u64 got = 0, sum = 0;					\
		int i;							\
									\
		if (!mine())						\
			return 0;					\
		note(s);						\
		_Pragma("unroll")					\
		for (i = 0; i < 16; i++) {				\
			call;						\
			sum += got;					\
		}							\
		s->arg[0] = sum;					\
		s->value = bpf_session_is_return(ctx);			\
		return 0;						\
	}

LAST_CALL(last_after_counts, got = bpf_get_func_arg_cnt(ctx))
LAST_CALL(last_after_args, bpf_get_func_arg(ctx, 0, &got))
LAST_CALL(last_after_values, bpf_get_func_ret(ctx, &got))
LAST_CALL(last_after_ips, got = !!bpf_get_func_ip(ctx))
LAST_CALL(last_after_cookies, got = ++*bpf_session_cookie(ctx))
LAST_CALL(last_after_sides, got = bpf_session_is_return(ctx))

/* Deletes from a map where it is called by a deletion: it must not run inside itself. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} deletions SEC(".maps");

struct seen deleting_seen[2];
SEC("fsession/htab_map_delete_elem")
int deleting(__u64 *ctx)
{
	struct seen *s = &deleting_seen[side(ctx)];
	__u32 key = 0;

	if (!mine())
		return 0;
	note(s);
	/* A kernel that lets it run inside itself must not run out of stack. */
	if (s->runs < 4)
		s->value = bpf_map_delete_elem(&deletions, &key);
	return 0;
}

/* Without arguments, the return value is in the first slot. */
struct seen setsid_seen[2];
SEC("fsession/ksys_setsid")
int on_setsid(__u64 *ctx)
{
	struct seen *s = &setsid_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->ret = ctx[0];
	s->arg_cnt = bpf_get_func_arg_cnt(ctx);
	return 0;
}

/* A void function: the slot after the arguments is undefined. */
struct seen fd_install_seen[2];
SEC("fsession/fd_install")
int on_fd_install(__u64 *ctx)
{
	struct seen *s = &fd_install_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	ARGS2(s, ctx);
	return 0;
}

/* Records *b, which the function increments. */
struct seen body_seen[2];
SEC("fsession/bpf_modify_return_test")
int around_body(__u64 *ctx)
{
	struct seen *s = &body_seen[side(ctx)];
	__u32 b = 0;

	if (!mine())
		return 0;
	note(s);
	bpf_probe_read_kernel(&b, sizeof(b), (void *)ctx[1]);
	s->value = b;
	s->ret = ctx[2];
	return 0;
}

static __always_inline void ask_helpers(__u64 *ctx, struct seen *s)
{
	s->arg_cnt = bpf_get_func_arg_cnt(ctx);
	bpf_get_func_arg(ctx, 0, &s->func_arg[0]);
	bpf_get_func_arg(ctx, 1, &s->func_arg[1]);
	bpf_get_func_arg(ctx, 2, &s->func_arg[2]);
	bpf_get_func_arg(ctx, 3, &s->func_arg[3]);
	bpf_get_func_arg(ctx, 4, &s->func_arg[4]);
	bpf_get_func_arg(ctx, 5, &s->func_arg[5]);
	bpf_get_func_arg(ctx, 6, &s->func_arg[6]);
	s->ip = bpf_get_func_ip(ctx);
	s->attach_cookie = bpf_get_attach_cookie(ctx);
}

/* Plain programs and a session, all calling the helpers that read the word before ctx. */
struct seen fentry_helpers_seen;
SEC("fentry/bpf_modify_return_test2")
int fentry_helpers(__u64 *ctx)
{
	if (!mine())
		return 0;
	note(&fentry_helpers_seen);
	ask_helpers(ctx, &fentry_helpers_seen);
	return 0;
}

struct seen fexit_helpers_seen;
SEC("fexit/bpf_modify_return_test2")
int fexit_helpers(__u64 *ctx)
{
	struct seen *s = &fexit_helpers_seen;

	if (!mine())
		return 0;
	note(s);
	ask_helpers(ctx, s);
	s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);
	return 0;
}

struct seen fmod_helpers_seen;
SEC("fmod_ret/bpf_modify_return_test2")
int fmod_helpers(__u64 *ctx)
{
	if (!mine())
		return 0;
	note(&fmod_helpers_seen);
	ask_helpers(ctx, &fmod_helpers_seen);
	return 0;
}

struct seen helpers_seen[2];
SEC("fsession/bpf_modify_return_test2")
int helpers(__u64 *ctx)
{
	struct seen *s = &helpers_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	ask_helpers(ctx, s);
	s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);
	return 0;
}

/* The same with a cookie, so that the word contains both. */
struct seen cookie_helpers_seen[2];
SEC("fsession/bpf_modify_return_test2")
int cookie_helpers(__u64 *ctx)
{
	struct seen *s = &cookie_helpers_seen[side(ctx)];
	__u64 *cookie = bpf_session_cookie(ctx);

	if (!mine())
		return 0;
	note(s);
	ask_helpers(ctx, s);
	s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);
	s->cookie = *cookie;
	*cookie = s->ip;
	return 0;
}

/* Sleepable: reads memory of the calling process. */
__u64 user_word;
struct seen sleepable_seen[2];
SEC("fsession.s/bpf_fentry_test1")
int sleepable(__u64 *ctx)
{
	struct seen *s = &sleepable_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->func_ret_err = bpf_copy_from_user(&s->value, sizeof(s->value), (void *)user_word);
	s->ret = ctx[1];
	return 0;
}

/* Returns early from its entry run. */
struct seen early_seen[2];
SEC("fsession/bpf_fentry_test1")
int early_return(__u64 *ctx)
{
	if (!mine())
		return 0;
	if (!bpf_session_is_return(ctx)) {
		early_seen[ENTRY].runs++;
		return 0;
	}
	note(&early_seen[EXIT]);
	return 0;
}

/* kfuncs in subprograms: the verifier must patch them there as well. */
static __noinline __u64 static_side(__u64 *ctx)
{
	*bpf_session_cookie(ctx) += 5;
	return side(ctx);
}

struct seen static_subprog_seen[2];
SEC("fsession/bpf_fentry_test1")
int in_static_subprog(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);
	struct seen *s;

	if (!mine())
		return 0;
	s = &static_subprog_seen[static_side(ctx) & 1];
	note(s);
	s->cookie = *cookie;
	return 0;
}

struct seen global_subprog_seen[2];
__noinline int global_subprog(__u64 *ctx __arg_ctx)
{
	struct seen *s = &global_subprog_seen[side(ctx)];
	__u64 *cookie = bpf_session_cookie(ctx);

	note(s);
	*cookie += 7;
	s->cookie = *cookie;
	return 0;
}

SEC("fsession/bpf_fentry_test1")
int in_global_subprog(__u64 *ctx)
{
	if (mine())
		global_subprog(ctx);
	return 0;
}

/* The stack at entry and at exit. */
__u64 stack[2][16];
struct seen stack_seen[2];
SEC("fsession/bpf_fentry_test1")
int look_at_stack(__u64 *ctx)
{
	__u64 at = side(ctx);
	struct seen *s = &stack_seen[at];

	if (!mine())
		return 0;
	note(s);
	s->ip = bpf_get_func_ip(ctx);
	s->value = bpf_get_stack(ctx, stack[at], sizeof(stack[at]), 0);
	return 0;
}

/* A BPF program as a target, and a session for it; the runner sets the target when it loads the session. */
__noinline int replaceable(int value)
{
	asm volatile("" : "+r"(value));
	return value + 1;
}

SEC("syscall")
int target_program(void *ctx)
{
	return replaceable(41);
}

struct seen on_program_seen[2];
SEC("fsession")
int on_program(__u64 *ctx)
{
	struct seen *s = &on_program_seen[side(ctx)];
	__u64 *cookie = bpf_session_cookie(ctx);

	if (!mine())
		return 0;
	note(s);
	/* Not as an argument: the number of arguments of a program is unknown, and five are assumed. */
	s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);
	s->cookie = *cookie;
	*cookie = 0x1234;
	return 0;
}
