/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs that ask for argument slots that their target does not have, of every type that has the
 * helpers. The helpers are inlined for tracing programs and called by LSM programs.
 */

/* Content of a variable that a helper must not write to. */
#define UNTOUCHED 0x0123456789abcdefULL

/*
 * The last slot, the two after it, one that is far away but still on the stack, and the largest number:
 * what bpf_get_func_arg() returns is in arg[], the value in func_arg[].
 */
static __always_inline void ask_beyond(__u64 *ctx, struct seen *s, __u32 slots)
{
	int i;

	for (i = 0; i < 5; i++)
		s->func_arg[i] = UNTOUCHED;
	s->func_ret = UNTOUCHED;
	s->arg_cnt = bpf_get_func_arg_cnt(ctx);
	s->arg[0] = bpf_get_func_arg(ctx, slots - 1, &s->func_arg[0]);
	s->arg[1] = bpf_get_func_arg(ctx, slots, &s->func_arg[1]);
	s->arg[2] = bpf_get_func_arg(ctx, slots + 1, &s->func_arg[2]);
	s->arg[3] = bpf_get_func_arg(ctx, 32, &s->func_arg[3]);
	s->arg[4] = bpf_get_func_arg(ctx, ~0U, &s->func_arg[4]);
	s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);
}

#define BEYOND(name, section, slots)					\
	struct seen name##_seen;					\
	SEC(section)							\
	int name(__u64 *ctx)						\
	{								\
		if (!mine())						\
			return 0;					\
		note(&name##_seen);					\
		ask_beyond(ctx, &name##_seen, slots);			\
		return 0;						\
	}

#define SESSION_BEYOND(name, target, slots)				\
	struct seen name##_seen[2];					\
	SEC("fsession/" target)						\
	int name(__u64 *ctx)						\
	{								\
		struct seen *s = &name##_seen[side(ctx)];		\
									\
		if (!mine())						\
			return 0;					\
		note(s);						\
		ask_beyond(ctx, s, slots);				\
		return 0;						\
	}

/* The same with a cookie, whose place is in the word with the number of slots. */
#define COOKIE_BEYOND(name, target, slots)				\
	struct seen name##_seen[2];					\
	SEC("fsession/" target)						\
	int name(__u64 *ctx)						\
	{								\
		struct seen *s = &name##_seen[side(ctx)];		\
		__u64 *cookie = bpf_session_cookie(ctx);		\
									\
		if (!mine())						\
			return 0;					\
		note(s);						\
		ask_beyond(ctx, s, slots);				\
		s->cookie = *cookie;					\
		*cookie = UNTOUCHED;					\
		return 0;						\
	}

BEYOND(fentry_beyond, "fentry/bpf_modify_return_test2", 7)
BEYOND(fexit_beyond, "fexit/bpf_modify_return_test2", 7)
BEYOND(fmod_beyond, "fmod_ret/bpf_modify_return_test2", 7)
SESSION_BEYOND(session_beyond, "bpf_modify_return_test2", 7)
COOKIE_BEYOND(cookie_beyond, "bpf_modify_return_test2", 7)

/* A struct by value takes a slot for each eight bytes: five parameters, one more slot. */
BEYOND(fentry_struct, "fentry/sock_setsockopt", 6)
BEYOND(fexit_struct, "fexit/sock_setsockopt", 6)
SESSION_BEYOND(session_struct, "sock_setsockopt", 6)
COOKIE_BEYOND(cookie_struct, "sock_setsockopt", 6)

/* The same with two structs, the second on the stack. */
BEYOND(fentry_struct_stack, "fentry/sk_getsockopt", 7)
BEYOND(fexit_struct_stack, "fexit/sk_getsockopt", 7)
SESSION_BEYOND(session_struct_stack, "sk_getsockopt", 7)
COOKIE_BEYOND(cookie_struct_stack, "sk_getsockopt", 7)

/* More slots than three bits can count, three of them on the stack. */
BEYOND(fentry_nine, "fentry/do_mmap", 9)
BEYOND(fexit_nine, "fexit/do_mmap", 9)
SESSION_BEYOND(session_nine, "do_mmap", 9)
COOKIE_BEYOND(cookie_nine, "do_mmap", 9)

/* A hook that returns an int: LSM programs run before it, where fmod_ret programs do. */
int lsm_value;
struct seen lsm_int_seen;
SEC("lsm/task_getpgid")
int lsm_int(__u64 *ctx)
{
	if (!mine())
		return 0;
	note(&lsm_int_seen);
	ask_beyond(ctx, &lsm_int_seen, 1);
	return lsm_value ? -13 /* -EACCES */ : 0;
}

SESSION_BEYOND(session_on_lsm_int, "bpf_lsm_task_getpgid", 1)
COOKIE_BEYOND(cookie_on_lsm_int, "bpf_lsm_task_getpgid", 1)
BEYOND(fexit_on_lsm_int, "fexit/bpf_lsm_task_getpgid", 1)

/* One that returns nothing: they run after it, where fexit programs do. */
BEYOND(lsm_void, "lsm/task_to_inode", 2)
SESSION_BEYOND(session_on_lsm_void, "bpf_lsm_task_to_inode", 2)
COOKIE_BEYOND(cookie_on_lsm_void, "bpf_lsm_task_to_inode", 2)
BEYOND(fexit_on_lsm_void, "fexit/bpf_lsm_task_to_inode", 2)

/* Tracing programs that do not run in a trampoline. Loaded one by one. */
#define NO_TRAMPOLINE(name, section, call)				\
	SEC(section)							\
	int name(__u64 *ctx)						\
	{								\
		__u64 value = 0;					\
									\
		call;							\
		return value & 0;					\
	}

NO_TRAMPOLINE(raw_tp_ret, "tp_btf/sched_switch", bpf_get_func_ret(ctx, &value))
NO_TRAMPOLINE(raw_tp_ip, "tp_btf/sched_switch", value = bpf_get_func_ip(ctx))
NO_TRAMPOLINE(iter_arg, "iter/bpf_link", bpf_get_func_arg(ctx, 0, &value))
NO_TRAMPOLINE(iter_arg_cnt, "iter/bpf_link", value = bpf_get_func_arg_cnt(ctx))
NO_TRAMPOLINE(iter_ret, "iter/bpf_link", bpf_get_func_ret(ctx, &value))
NO_TRAMPOLINE(iter_ip, "iter/bpf_link", value = bpf_get_func_ip(ctx))
NO_TRAMPOLINE(iter_attach_cookie, "iter/bpf_link", value = bpf_get_attach_cookie(ctx))

/* Newer kernels know how many arguments a tracepoint has, and let these load. It has four. */
struct seen raw_tp_arg_seen;
SEC("tp_btf/sched_switch")
int raw_tp_arg(__u64 *ctx)
{
	struct seen *s = &raw_tp_arg_seen;

	if (!mine())
		return 0;
	note(s);
	s->value = ctx[1];
	s->func_arg[4] = UNTOUCHED;
	s->arg[1] = bpf_get_func_arg(ctx, 1, &s->func_arg[1]);
	s->arg[4] = bpf_get_func_arg(ctx, 4, &s->func_arg[4]);
	return 0;
}

struct seen raw_tp_arg_cnt_seen;
SEC("tp_btf/sched_switch")
int raw_tp_arg_cnt(__u64 *ctx)
{
	if (!mine())
		return 0;
	note(&raw_tp_arg_cnt_seen);
	raw_tp_arg_cnt_seen.arg_cnt = bpf_get_func_arg_cnt(ctx);
	return 0;
}
