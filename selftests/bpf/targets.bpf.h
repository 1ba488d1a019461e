/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Particular targets: return values, exceptions, extensions, and functions that cannot have a session. */

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

/* Returns a pointer, which is NULL at entry: checked before it is used. getpgid(2) calls the target. */
struct seen checked_pointer_seen[2];
SEC("fsession/find_task_by_vpid")
int checked_pointer(__u64 *ctx)
{
	struct seen *s = &checked_pointer_seen[side(ctx)];
	struct task_struct *task = (void *)ctx[1];

	if (!mine())
		return 0;
	note(s);
	s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);
	s->ret = (__u64)task;
	/* At entry, garbage in the upper half of the slot must not go unnoticed in a later call. */
	s->arg[1] += s->func_ret >> 32;
	if (!task)
		return 0;
	s->arg[0] = task->pid;
	s->value = bpf_task_pt_regs(task);
	return 0;
}

/* Reads from it without a check. */
struct seen unchecked_read_seen[2];
SEC("fsession/find_task_by_vpid")
int unchecked_read(__u64 *ctx)
{
	struct seen *s = &unchecked_read_seen[side(ctx)];
	struct task_struct *task = (void *)ctx[1];

	if (!mine())
		return 0;
	note(s);
	s->value = task->pid;
	return 0;
}

/* Hands it to a helper that requires a task. */
struct seen unchecked_helper_seen[2];
SEC("fsession/find_task_by_vpid")
int unchecked_helper(__u64 *ctx)
{
	struct seen *s = &unchecked_helper_seen[side(ctx)];
	struct task_struct *task = (void *)ctx[1];

	if (!mine())
		return 0;
	note(s);
	s->value = bpf_task_pt_regs(task);
	return 0;
}

/* The same in fexit, and with an argument in place of the return value: neither needs a check. */
SEC("fexit/find_task_by_vpid")
int unchecked_helper_fexit(__u64 *ctx)
{
	return bpf_task_pt_regs((void *)ctx[1]) & 0;
}

SEC("fsession/wake_up_new_task")
int unchecked_argument(__u64 *ctx)
{
	return bpf_task_pt_regs((void *)ctx[0]) & 0;
}

/* A function that returns nothing: the helper may be called there. */
struct seen void_return_seen[2];
SEC("fsession/fd_install")
int void_return(__u64 *ctx)
{
	struct seen *s = &void_return_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->func_ret = UNTOUCHED;
	s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);
	return 0;
}

struct seen void_fexit_seen;
SEC("fexit/fd_install")
int void_fexit(__u64 *ctx)
{
	if (!mine())
		return 0;
	note(&void_fexit_seen);
	void_fexit_seen.func_ret_err = bpf_get_func_ret(ctx, &void_fexit_seen.func_ret);
	return 0;
}

/* Its slot as an argument. */
__u64 void_word;
SEC("fsession/fd_install")
int void_slot(__u64 *ctx)
{
	void_word = ctx[2];
	return 0;
}

SEC("fexit/fd_install")
int void_slot_fexit(__u64 *ctx)
{
	void_word = ctx[2];
	return 0;
}

/* A main program as target: five arguments are assumed, and the value is behind those. */
struct seen behind_five_seen[2];
SEC("fsession")
int behind_five(__u64 *ctx)
{
	struct seen *s = &behind_five_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->ret = ctx[5];
	s->arg_cnt = bpf_get_func_arg_cnt(ctx);
	return 0;
}

/* Struct by value as return value. */
SEC("fsession/tnum_const")
int struct_return(__u64 *ctx)
{
	return 0;
}

SEC("fexit/tnum_const")
int struct_return_fexit(__u64 *ctx)
{
	return 0;
}

extern void bpf_throw(__u64 cookie) __ksym __weak;

/* Throws in each of its runs, if it is to. */
__u32 throwing;
struct seen thrower_seen[2];
SEC("fsession/bpf_fentry_test1")
int thrower(__u64 *ctx)
{
	struct seen *s = &thrower_seen[side(ctx)];
	__u64 *cookie = bpf_session_cookie(ctx);

	if (!mine())
		return 0;
	note(s);
	s->cookie = *cookie;
	*cookie = 0xfeed;
	if (throwing)
		bpf_throw(0);
	s->value++;
	return 0;
}

/* Throws from a subprogram, which is the target of others. */
__noinline int throwing_sub(int value)
{
	asm volatile("" : "+r"(value));
	if (value == 41)
		bpf_throw(7);
	return value + 1;
}

SEC("syscall")
int throwing_target(void *ctx)
{
	return throwing_sub(throwing ? 41 : 1);
}

struct seen session_on_thrower_seen[2];
SEC("fsession")
int session_on_thrower(__u64 *ctx)
{
	if (mine())
		note(&session_on_thrower_seen[side(ctx)]);
	return 0;
}

struct seen fentry_on_thrower_seen;
SEC("fentry")
int fentry_on_thrower(__u64 *ctx)
{
	if (mine())
		note(&fentry_on_thrower_seen);
	return 0;
}

struct seen fexit_on_thrower_seen;
SEC("fexit")
int fexit_on_thrower(__u64 *ctx)
{
	if (mine())
		note(&fexit_on_thrower_seen);
	return 0;
}

SEC("fsession/bpf_throw")
int session_on_throw(__u64 *ctx)
{
	return 0;
}

SEC("fentry/bpf_throw")
int fentry_on_throw(__u64 *ctx)
{
	return 0;
}

/* An extension, and a session for it. */
SEC("freplace")
int extension(int value)
{
	asm volatile("" : "+r"(value));
	return value + 100;
}

struct seen on_extension_seen[2];
SEC("fsession")
int on_extension(__u64 *ctx)
{
	struct seen *s = &on_extension_seen[side(ctx)];
	__u64 *cookie = bpf_session_cookie(ctx);

	if (!mine())
		return 0;
	note(s);
	s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);
	s->cookie = *cookie;
	*cookie = 0x99;
	return 0;
}

/* Storage of sockets, from functions that the storage itself uses, and from one that it does not. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, 1 /* BPF_F_NO_PREALLOC */);
	__type(key, int);
	__type(value, __u64);
} socks SEC(".maps");

#define STORAGE(name, section)						\
	SEC(section)							\
	int name(__u64 *ctx)						\
	{								\
		bpf_sk_storage_get(&socks, (void *)ctx[0], 0, 0);	\
		return 0;						\
	}

STORAGE(storage_free, "fsession/bpf_sk_storage_free")
STORAGE(storage_free_fexit, "fexit/bpf_sk_storage_free")
STORAGE(storage_connect, "fsession/tcp_v4_connect")
