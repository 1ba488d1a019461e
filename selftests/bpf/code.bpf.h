/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sessions whose own code is special: where they call the kfuncs, and how much stack they use. */

/* The value that the function returns, asked for in subprograms. */
static __noinline long static_value(__u64 *ctx, __u64 *value)
{
	return bpf_get_func_ret(ctx, value);
}

struct seen value_in_global_seen[2];
__noinline int global_value(__u64 *ctx __arg_ctx)
{
	struct seen *s = &value_in_global_seen[side(ctx)];

	note(s);
	s->func_ret = UNTOUCHED;
	s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);
	s->arg_cnt = bpf_get_func_arg_cnt(ctx);
	return 0;
}

struct seen value_in_static_seen[2];
SEC("fsession/bpf_fentry_test1")
int value_in_subprogs(__u64 *ctx)
{
	struct seen *s = &value_in_static_seen[side(ctx)];
	__u64 value = UNTOUCHED;

	if (!mine())
		return 0;
	note(s);
	s->func_ret_err = static_value(ctx, &value);
	s->func_ret = value;
	global_value(ctx);
	return 0;
}

/* The kfunc is called in a static subprogram and nowhere else. */
static __noinline __u64 next_cookie(__u64 *ctx)
{
	return *bpf_session_cookie(ctx) += 3;
}

struct seen only_in_static_seen[2];
SEC("fsession/bpf_fentry_test1")
int only_in_static(__u64 *ctx)
{
	struct seen *s = &only_in_static_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->cookie = next_cookie(ctx);
	return 0;
}

/* In a callback, through the context and through a pointer. */
struct looping {
	__u64 *ctx, *cookie;
};

static long count_loop(__u32 i, struct looping *looping)
{
	*bpf_session_cookie(looping->ctx) += 1;
	*looping->cookie += 0x100;
	return 0;
}

struct seen in_loop_seen[2];
SEC("fsession/bpf_fentry_test1")
int in_loop(__u64 *ctx)
{
	struct looping looping = { ctx, bpf_session_cookie(ctx) };
	struct seen *s = &in_loop_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->cookie = *looping.cookie;
	bpf_loop(10, count_loop, &looping, 0);
	s->value = *looping.cookie;
	return 0;
}

/* Two frames that together use nearly all of the stack, or have a private one. */
static __noinline __u64 big_frame(__u64 *ctx, __u64 from)
{
	volatile __u64 words[30];
	int i;

	for (i = 0; i < 30; i++)
		words[i] = from + i;
	*bpf_session_cookie(ctx) += words[7] + words[29];
	return words[3];
}

struct seen big_stack_seen[2];
SEC("fsession/bpf_fentry_test1")
int big_stack(__u64 *ctx)
{
	struct seen *s = &big_stack_seen[side(ctx)];
	volatile __u64 words[28];
	int i;

	if (!mine())
		return 0;
	note(s);
	for (i = 0; i < 28; i++)
		words[i] = 1000 + i;
	s->cookie = *bpf_session_cookie(ctx);
	s->value = big_frame(ctx, 5) + words[27];
	s->arg[0] = *bpf_session_cookie(ctx);
	return 0;
}

/* Cookies on a target that no program asks for its address: then they have other places. */
#define WITHOUT_IP(name, n)						\
	struct seen name##_seen[2];					\
	SEC("fsession/bpf_fentry_test3")				\
	int name(__u64 *ctx)						\
	{								\
		__u64 *cookie = bpf_session_cookie(ctx);		\
		__u64 at = side(ctx);					\
		struct seen *s = &name##_seen[at];			\
									\
		if (!mine())						\
			return 0;					\
		note(s);						\
		s->cookie = *cookie;					\
		*cookie = at == EXIT ? ~0ULL : give[n];			\
		ARGS3(s, ctx);						\
		s->ret = ctx[3];					\
		s->attach_cookie = bpf_get_attach_cookie(ctx);		\
		return 0;						\
	}

WITHOUT_IP(no_ip_1, 0)
WITHOUT_IP(no_ip_2, 1)
WITHOUT_IP(no_ip_3, 2)
WITHOUT_IP(no_ip_4, 3)

struct seen ip_of_3_seen;
SEC("fentry/bpf_fentry_test3")
int ip_of_3(__u64 *ctx)
{
	if (!mine())
		return 0;
	note(&ip_of_3_seen);
	ip_of_3_seen.ip = bpf_get_func_ip(ctx);
	return 0;
}
