/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tail calls: from session to session, and in a BPF program that has sessions. */

#define CALLEES(name)							\
	struct {							\
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);			\
		__uint(max_entries, 1);					\
		__type(key, __u32);					\
		__type(value, __u32);					\
	} name SEC(".maps")

/* Callees of sessions with a cookie, and of those without. The first program that uses a map owns it. */
CALLEES(cookie_callees);
CALLEES(plain_callees);

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
	*cookie += 0x10;
	bpf_tail_call(ctx, &cookie_callees, 0);
	/* Not reached if the array has a program. */
	s->value++;
	return 0;
}

struct seen cookie_callee_seen[2];
SEC("fsession/bpf_fentry_test1")
int cookie_callee(__u64 *ctx)
{
	struct seen *s = &cookie_callee_seen[side(ctx)];
	__u64 *cookie = bpf_session_cookie(ctx);

	if (!mine())
		return 0;
	note(s);
	s->cookie = *cookie;
	*cookie += 0x100;
	ARGS1(s, ctx);
	s->ret = ctx[1];
	return 0;
}

/* Callees that were loaded for a function with other arguments. */
SEC("fsession/bpf_fentry_test2")
int cookie_callee_of_two(__u64 *ctx)
{
	*bpf_session_cookie(ctx) = ctx[1];
	return 0;
}

SEC("fsession/bpf_fentry_test2")
int plain_callee_of_two(__u64 *ctx)
{
	return 0;
}

struct seen plain_caller_seen[2];
SEC("fsession/bpf_fentry_test1")
int plain_caller(__u64 *ctx)
{
	struct seen *s = &plain_caller_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	bpf_tail_call(ctx, &plain_callees, 0);
	s->value++;
	return 0;
}

struct seen plain_callee_seen[2];
SEC("fsession/bpf_fentry_test1")
int plain_callee(__u64 *ctx)
{
	struct seen *s = &plain_callee_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	ARGS1(s, ctx);
	s->ret = ctx[1];
	return 0;
}

/* Loaded alone, with the map of another object in place of its own. */
SEC("fsession/bpf_fentry_test1")
int cookie_user(__u64 *ctx)
{
	*bpf_session_cookie(ctx) = 0;
	bpf_tail_call(ctx, &plain_callees, 0);
	return 0;
}

SEC("fsession/bpf_fentry_test1")
int plain_user(__u64 *ctx)
{
	bpf_tail_call(ctx, &plain_callees, 0);
	return 0;
}

/* An fentry program with callees. */
CALLEES(fentry_callees);
struct seen fentry_caller_seen;
SEC("fentry/bpf_fentry_test1")
int fentry_caller(__u64 *ctx)
{
	if (!mine())
		return 0;
	note(&fentry_caller_seen);
	bpf_tail_call(ctx, &fentry_callees, 0);
	fentry_caller_seen.value++;
	return 0;
}

struct seen fentry_callee_seen;
SEC("fentry/bpf_fentry_test1")
int fentry_callee(__u64 *ctx)
{
	if (mine())
		note(&fentry_callee_seen);
	return 0;
}

/* A program that tail calls itself from a subprogram, as often as it may; sessions for both. */
CALLEES(tail_callees);
struct __sk_buff {
	__u32 len;
};
__u64 tail_runs, tail_sub_runs;
__noinline int tail_sub(struct __sk_buff *skb)
{
	volatile int value = 1;

	tail_sub_runs++;
	bpf_tail_call_static(skb, &tail_callees, 0);
	return value;
}

SEC("tc")
int tail_target(struct __sk_buff *skb)
{
	tail_runs++;
	tail_sub(skb);
	tail_sub(skb);
	return 7;
}

/*
 * Entries nest: each leaves the number of its call, and an exit that finds none is counted. In the sums
 * of both sides each number is there once.
 */
struct seen on_tail_seen[2];
SEC("fsession")
int on_tail(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);
	__u64 at = side(ctx);
	struct seen *s = &on_tail_seen[at];

	if (!mine())
		return 0;
	note(s);
	if (at == ENTRY) {
		if (*cookie)
			s->value++;
		*cookie = s->runs;
		s->cookie += s->runs;
	} else {
		if (!*cookie)
			s->value++;
		s->cookie += *cookie;
	}
	return 0;
}
