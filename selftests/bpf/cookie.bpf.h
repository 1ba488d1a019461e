/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs of the group `cookie`. */

/* The value that each session leaves for its exit run; filled by the runner. */
__u64 give[5];

/* Records its cookie, counts unexpected values, leaves give[n] for the exit and all ones after it. */
#define WITH_COOKIE(name, target, n)					\
	struct seen name##_seen[2];					\
	SEC("fsession/" target)						\
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
		if (*cookie != (at == EXIT ? give[n] : 0))		\
			s->value++;					\
		*cookie = at == EXIT ? ~0ULL : give[n];			\
		s->ip = bpf_get_func_ip(ctx);				\
		ARGS1(s, ctx);						\
		return 0;						\
	}

WITH_COOKIE(cookie_1, "bpf_fentry_test1", 0)
WITH_COOKIE(cookie_2, "bpf_fentry_test1", 1)
WITH_COOKIE(cookie_3, "bpf_fentry_test1", 2)
WITH_COOKIE(cookie_4, "bpf_fentry_test1", 3)
WITH_COOKIE(cookie_5, "bpf_fentry_test1", 4)
WITH_COOKIE(cookie_stack_args, "bpf_modify_return_test2", 0)
WITH_COOKIE(cookie_void, "fd_install", 1)
WITH_COOKIE(cookie_other_function, "bpf_fentry_test2", 1)

/* Calls the kfunc in dead code, which the verifier removes because a frozen constant makes it unreachable. */
const volatile bool never;
#define DEAD_CALL(name, target)						\
	struct seen name##_seen[2];					\
	SEC("fsession/" target)						\
	int name(__u64 *ctx)						\
	{								\
		struct seen *s = &name##_seen[side(ctx)];		\
									\
		if (!mine())						\
			return 0;					\
		note(s);						\
		if (never)						\
			*bpf_session_cookie(ctx) = 1;			\
		return 0;						\
	}

DEAD_CALL(dead_call_1, "bpf_fentry_test1")
DEAD_CALL(dead_call_2, "bpf_fentry_test1")

/* Sleepable, with a cookie. */
struct seen cookie_sleepable_seen[2];
SEC("fsession.s/bpf_fentry_test1")
int cookie_sleepable(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);
	struct seen *s = &cookie_sleepable_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->cookie = *cookie;
	*cookie += 0x100000001ULL;
	return 0;
}

/*
 * The runner attaches many copies, each with its own attach cookie to distinguish them. The function's
 * address occupies a slot before the cookies.
 */
struct seen identified_seen[2];
SEC("fsession/bpf_fentry_test1")
int identified(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);
	__u64 id = bpf_get_attach_cookie(ctx) ^ bpf_get_func_ip(ctx);
	__u64 at = side(ctx);

	if (!mine())
		return 0;
	note(&identified_seen[at]);
	if (*cookie != (at == EXIT ? id : 0))
		identified_seen[at].value++;
	*cookie = id;
	return 0;
}

/* The same without a session cookie. */
struct seen with_ip_seen[2];
SEC("fsession/bpf_fentry_test1")
int with_ip(__u64 *ctx)
{
	struct seen *s = &with_ip_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->ip = bpf_get_func_ip(ctx);
	s->attach_cookie = bpf_get_attach_cookie(ctx);
	return 0;
}

/* Rejected: the cookie is a single word. */
SEC("fsession/bpf_fentry_test1")
int second_word(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);

	cookie[1] = 1;
	return 0;
}

/* Rejected: the word before the cookie belongs to something else. */
SEC("fsession/bpf_fentry_test1")
int word_before(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);

	cookie[-1] = 1;
	return 0;
}

/* A tail call from a session without a cookie; the runner tries to add a session with one to the array. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} callees SEC(".maps");

SEC("fsession/bpf_fentry_test1")
int tail_caller(__u64 *ctx)
{
	if (mine())
		bpf_tail_call(ctx, &callees, 0);
	return 0;
}
