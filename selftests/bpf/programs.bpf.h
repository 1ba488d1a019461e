/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs of the group `programs`: sessions next to tail calls, extensions, exceptions and LSM programs. */

/* Sessions that tail call another one; `callees` is that of `tail_caller`, a session without a cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} callees_of_cookie SEC(".maps");

struct seen cookie_caller_seen[2];
SEC("fsession/bpf_fentry_test1")
int cookie_caller(__u64 *ctx)
{
	struct seen *s = &cookie_caller_seen[side(ctx)];
	__u64 *cookie = bpf_session_cookie(ctx);

	if (!mine())
		return 0;
	note(s);
	s->cookie = *cookie;
	bpf_tail_call(ctx, &callees_of_cookie, 0);
	return 0;
}

/* Refused once `tail_caller` is loaded: the array is of sessions without a cookie. */
SEC("fsession/bpf_fentry_test1")
int late_cookie_caller(__u64 *ctx)
{
	*bpf_session_cookie(ctx) = 1;
	bpf_tail_call(ctx, &callees, 0);
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} callees_of_fentry SEC(".maps");

SEC("fentry/bpf_fentry_test1")
int fentry_caller(__u64 *ctx)
{
	bpf_tail_call_static(ctx, &callees_of_fentry, 0);
	return 0;
}

/* A target with a subprogram that tail calls the target, as often as the kernel allows. */
struct __sk_buff {
	__u32 len;
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} callees_of_target SEC(".maps");

__u64 target_runs;
__u64 subprog_runs;
__noinline int tail_calling_subprog(struct __sk_buff *skb)
{
	volatile int ret = 1;

	subprog_runs++;
	bpf_tail_call_static(skb, &callees_of_target, 0);
	return ret;
}

SEC("tc")
int tail_calling_target(struct __sk_buff *skb)
{
	target_runs++;
	tail_calling_subprog(skb);
	tail_calling_subprog(skb);
	return 7;
}

/* A session on either; the runner sets the target. Counts unexpected cookies. */
struct seen on_tail_calling_seen[2];
SEC("fsession")
int on_tail_calling(__u64 *ctx)
{
	struct seen *s = &on_tail_calling_seen[side(ctx)];
	__u64 *cookie = bpf_session_cookie(ctx);

	if (!mine())
		return 0;
	note(s);
	if (side(ctx) == ENTRY) {
		s->value += *cookie != 0;
		*cookie = s->runs;
	} else {
		s->value += *cookie == 0;
	}
	return 0;
}

/* Exceptions. */
extern void bpf_throw(__u64 cookie) __ksym __weak;

__u32 throws;
struct seen thrower_seen[2];
SEC("fsession/bpf_fentry_test1")
int thrower(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);
	struct seen *s = &thrower_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->cookie = *cookie;
	*cookie = 0xfeed;
	if (throws)
		bpf_throw(0);
	s->value++;
	return 0;
}

__noinline int throwing_subprog(int value)
{
	asm volatile("" : "+r"(value));
	if (value == 41)
		bpf_throw(7);
	return value + 1;
}

SEC("syscall")
int throwing_target(void *ctx)
{
	return throwing_subprog(throws ? 41 : 1);
}

struct seen on_thrower_seen[2];
SEC("fsession")
int on_thrower(__u64 *ctx)
{
	if (mine())
		note(&on_thrower_seen[side(ctx)]);
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

/* An extension, and a session on it; the runner sets the targets. */
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
	__u64 *cookie = bpf_session_cookie(ctx);
	struct seen *s = &on_extension_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->cookie = *cookie;
	*cookie = 0x99;
	return 0;
}

/* An LSM program and sessions on its hook. The helpers are not inlined for LSM programs. */
int lsm_returns;
struct seen lsm_seen;
SEC("lsm/task_getpgid")
int lsm_program(__u64 *ctx)
{
	if (!mine())
		return 0;
	ask_beyond(ctx, &lsm_seen, 1);
	bpf_get_func_arg(ctx, 0, &lsm_seen.func_arg[5]);
	lsm_seen.value = ctx[0];
	lsm_seen.func_ret_err = bpf_get_func_ret(ctx, &lsm_seen.func_ret);
	return lsm_returns ? -13 /* EACCES */ : 0;
}

struct seen on_hook_seen[2];
SEC("fsession/bpf_lsm_task_getpgid")
int on_hook(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);
	struct seen *s = &on_hook_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->cookie = *cookie;
	s->ret = ctx[1];
	s->arg_cnt = bpf_get_func_arg_cnt(ctx);
	*cookie = 0x77;
	return 0;
}

struct seen plain_on_hook_seen[2];
SEC("fsession/bpf_lsm_task_getpgid")
int plain_on_hook(__u64 *ctx)
{
	struct seen *s = &plain_on_hook_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->ret = ctx[1];
	return 0;
}
