/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs of the group `basic` that ask for what is not there, or for what has an unusual shape. */

/* What a helper must leave alone if it fails. */
#define UNTOUCHED 0x55aa55aa55aa55aaULL

#define BEYOND(s, ctx, i, n)						\
	do {								\
		__u64 value = UNTOUCHED;				\
									\
		(s)->arg[i] = bpf_get_func_arg(ctx, n, &value);		\
		(s)->func_arg[i] = value;				\
	} while (0)

/* Asks for arguments behind the last of `count`: the next, that after it, and two whose low bits are small. */
static __always_inline void ask_beyond(__u64 *ctx, struct seen *s, __u32 count)
{
	note(s);
	BEYOND(s, ctx, 0, count);
	BEYOND(s, ctx, 1, count + 1);
	BEYOND(s, ctx, 2, 0x100);
	BEYOND(s, ctx, 3, 0x80000000);
	BEYOND(s, ctx, 4, ~0U);
	s->arg_cnt = bpf_get_func_arg_cnt(ctx);
}

#define ASK_BEYOND(name, section, count)				\
	struct seen name##_seen;					\
	SEC(section)							\
	int name(__u64 *ctx)						\
	{								\
		if (mine())						\
			ask_beyond(ctx, &name##_seen, count);		\
		return 0;						\
	}

ASK_BEYOND(beyond_fentry, "fentry/bpf_modify_return_test2", 7)
ASK_BEYOND(beyond_fexit, "fexit/bpf_modify_return_test2", 7)
ASK_BEYOND(beyond_fmod, "fmod_ret/bpf_modify_return_test2", 7)

struct seen beyond_session_seen[2];
SEC("fsession/bpf_modify_return_test2")
int beyond_session(__u64 *ctx)
{
	if (mine())
		ask_beyond(ctx, &beyond_session_seen[side(ctx)], 7);
	return 0;
}

struct seen beyond_cookie_seen[2];
SEC("fsession/bpf_modify_return_test2")
int beyond_cookie(__u64 *ctx)
{
	struct seen *s = &beyond_cookie_seen[side(ctx)];
	__u64 *cookie = bpf_session_cookie(ctx);

	if (!mine())
		return 0;
	ask_beyond(ctx, s, 7);
	s->cookie = *cookie;
	*cookie = ~0ULL;
	return 0;
}

/* A function with a 16-byte struct by value: six slots for five arguments. */
static __always_inline void ask_struct(__u64 *ctx, struct seen *s)
{
	ask_beyond(ctx, s, 6);
	bpf_get_func_arg(ctx, 3, &s->func_arg[6]);
	bpf_get_func_arg(ctx, 5, &s->func_arg[7]);
	s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);
}

struct seen struct_session_seen[2];
SEC("fsession/sock_setsockopt")
int struct_session(__u64 *ctx)
{
	struct seen *s = &struct_session_seen[side(ctx)];
	__u64 *cookie = bpf_session_cookie(ctx);

	if (!mine())
		return 0;
	ask_struct(ctx, s);
	s->cookie = *cookie;
	*cookie = 0x5ca1ab1e;
	return 0;
}

struct seen struct_fexit_seen;
SEC("fexit/sock_setsockopt")
int struct_fexit(__u64 *ctx)
{
	if (mine())
		ask_struct(ctx, &struct_fexit_seen);
	return 0;
}

/* The slot behind the arguments of a function that returns nothing, by the context. */
struct seen void_slot_seen[2];
SEC("fsession/fd_install")
int void_slot(__u64 *ctx)
{
	struct seen *s = &void_slot_seen[side(ctx)];

	if (mine()) {
		note(s);
		s->ret = ctx[2];
	}
	return 0;
}

SEC("fexit/fd_install")
int void_slot_fexit(__u64 *ctx)
{
	void_slot_seen[EXIT].ret = ctx[2];
	return 0;
}

/* A function that returns a pointer, or NULL: by getpgid(). */
struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

struct seen pointer_checked_seen[2];
SEC("fsession/find_task_by_vpid")
int pointer_checked(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[1];
	struct seen *s = &pointer_checked_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	if (!task)
		return 0;
	s->value = task->pid;
	s->ret = bpf_task_pt_regs(task) != 0;
	return 0;
}

struct seen pointer_unchecked_seen[2];
SEC("fsession/find_task_by_vpid")
int pointer_unchecked(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[1];
	struct seen *s = &pointer_unchecked_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->value = task->pid;
	return 0;
}

struct seen pointer_in_helper_seen[2];
SEC("fsession/find_task_by_vpid")
int pointer_in_helper(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[1];
	struct seen *s = &pointer_in_helper_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->value = bpf_task_pt_regs(task);
	return 0;
}

/* The return value, asked for in subprograms. */
static __noinline long static_func_ret(__u64 *ctx, __u64 *value)
{
	return bpf_get_func_ret(ctx, value);
}

struct seen func_ret_static_seen[2];
struct seen func_ret_global_seen[2];
__noinline int global_func_ret(__u64 *ctx __arg_ctx)
{
	struct seen *s = &func_ret_global_seen[side(ctx)];

	note(s);
	s->func_ret = UNTOUCHED;
	s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);
	return 0;
}

SEC("fsession/bpf_fentry_test1")
int func_ret_in_subprogs(__u64 *ctx)
{
	struct seen *s = &func_ret_static_seen[side(ctx)];
	__u64 value = UNTOUCHED;

	if (!mine())
		return 0;
	note(s);
	s->func_ret_err = static_func_ret(ctx, &value);
	s->func_ret = value;
	return global_func_ret(ctx);
}

/* The cookie in a callback, by the context that the callback gets. */
struct around_loop {
	__u64 *ctx;
	__u64 *cookie;
};

static long add_to_cookie(__u32 i, struct around_loop *around)
{
	*bpf_session_cookie(around->ctx) += 1;
	*around->cookie += 0x100;
	return 0;
}

struct seen in_loop_seen[2];
SEC("fsession/bpf_fentry_test1")
int in_loop(__u64 *ctx)
{
	struct around_loop around = { ctx, bpf_session_cookie(ctx) };
	struct seen *s = &in_loop_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->cookie = *around.cookie;
	bpf_loop(10, add_to_cookie, &around, 0);
	s->value = *around.cookie;
	return 0;
}

/* Two frames of more than 200 bytes each. */
static __noinline __u64 big_frame(__u64 *ctx, __u64 n)
{
	volatile __u64 words[30];
	int i;

	for (i = 0; i < 30; i++)
		words[i] = n + i;
	*bpf_session_cookie(ctx) += words[7] + words[29];
	return words[3];
}

struct seen big_frames_seen[2];
SEC("fsession/bpf_fentry_test1")
int big_frames(__u64 *ctx)
{
	struct seen *s = &big_frames_seen[side(ctx)];
	volatile __u64 words[28];
	int i;

	if (!mine())
		return 0;
	note(s);
	for (i = 0; i < 28; i++)
		words[i] = 1000 + i;
	s->cookie = *bpf_session_cookie(ctx);
	s->ret = big_frame(ctx, 5) + words[27];
	s->value = *bpf_session_cookie(ctx);
	return 0;
}
