/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs of the group `multi`. Each is compiled as a session on one function, and the runner loads the
 * same code again for many functions: then it may not read its arguments directly. The attach cookie is
 * the position of the function in the runner's list, and the records are kept by it.
 */

#define MULTI_FUNCS 16

/* What the runs of one kind on one function saw. */
struct multi_seen {
	__u64 runs;
	__u64 order;		/* position of the last run among those of all programs, from 1 */
	__u64 ip;		/* bpf_get_func_ip() */
	__u64 arg;		/* the first argument by bpf_get_func_arg() */
	__u64 arg_cnt;		/* bpf_get_func_arg_cnt() */
	__u64 func_ret;		/* bpf_get_func_ret() */
	__u64 attach_cookie;	/* bpf_get_attach_cookie() */
	__u64 cookie;		/* all that was found in the session cookie, added up */
	__u64 value;		/* entry: the value that the last run left in the session cookie */
	__u64 empty;		/* exit: runs that found 0: their entry did not run */
	__u64 foreign;		/* exit: runs that found anything but that value or 0 */
};

#define MULTI_SESSION(name)						\
	struct multi_seen name##_seen[2][MULTI_FUNCS];			\
	SEC("fsession/bpf_fentry_test1")				\
	int name(__u64 *ctx)						\
	{								\
		__u64 n = bpf_get_attach_cookie(ctx), at = side(ctx);	\
		struct multi_seen *s = &name##_seen[at][n & (MULTI_FUNCS - 1)]; \
		struct multi_seen *e = &name##_seen[ENTRY][n & (MULTI_FUNCS - 1)]; \
		__u64 *cookie = bpf_session_cookie(ctx);		\
									\
		if (!mine())						\
			return 0;					\
		s->runs++;						\
		s->order = ++order;					\
		s->ip = bpf_get_func_ip(ctx);				\
		bpf_get_func_arg(ctx, 0, &s->arg);			\
		s->arg_cnt = bpf_get_func_arg_cnt(ctx);			\
		bpf_get_func_ret(ctx, &s->func_ret);			\
		s->attach_cookie = n;					\
		s->cookie += *cookie;					\
		if (at == ENTRY)					\
			*cookie = s->value = s->order << 32 | (n & 15) << 8 | 1; \
		else if (!*cookie)					\
			s->empty++;					\
		else							\
			s->foreign += *cookie != e->value;		\
		return 0;						\
	}

MULTI_SESSION(multi_1)
MULTI_SESSION(multi_2)

/* Counts only, for links that come and go while one thread calls. */
struct multi_count {
	__u64 entries;
	__u64 exits;
	__u64 found;		/* entries that found anything in the session cookie */
	__u64 empty;		/* exits that found 0: their entry did not run */
	__u64 foreign;		/* exits that found a value that no entry left */
} multi_tally;

#define LEFT_AT_ENTRY 0x5e5510

SEC("fsession/bpf_fentry_test1")
int multi_counts(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);

	if (!mine())
		return 0;
	if (side(ctx) == ENTRY) {
		multi_tally.entries++;
		multi_tally.found += *cookie != 0;
		*cookie = LEFT_AT_ENTRY;
	} else {
		multi_tally.exits++;
		if (!*cookie)
			multi_tally.empty++;
		else
			multi_tally.foreign += *cookie != LEFT_AT_ENTRY;
	}
	return 0;
}

/* Sleepable: reads memory of the calling process. */
__u64 multi_user_word;
struct seen multi_sleepable_seen[2];
SEC("fsession.s/bpf_fentry_test1")
int multi_sleepable(__u64 *ctx)
{
	struct seen *s = &multi_sleepable_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->func_ret_err = bpf_copy_from_user(&s->value, sizeof(s->value), (void *)multi_user_word);
	return 0;
}

/* Calls the global subprogram of `basic` with its context; the runner makes it a session on many functions. */
SEC("tc")
int multi_arg_ctx(void *ctx)
{
	if (mine())
		global_subprog(ctx);
	return 0;
}
