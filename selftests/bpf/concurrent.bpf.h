/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs of the groups `concurrent`, `in_flight` and `stress`. Many calls are in flight at once here,
 * so counters are updated atomically, and every call has its own value.
 *
 * The target is usually futex_wait(uaddr, flags, val, abs_time, bitset): its caller can choose 56 bits of
 * val and bitset to identify the call, and whether it returns at once or sleeps until it is woken.
 */

enum { CALLERS = 64 };

/* Results of the runs of a session. */
struct tally {
	__u64 entries;			/* entry runs */
	__u64 exits;			/* exit runs */
	__u64 full;			/* entry runs that found a nonzero cookie */
	__u64 empty;			/* exit runs that found 0 */
	__u64 foreign;			/* exit runs that found neither 0 nor the value of their call */
	__u64 found;			/* what the last of those found .. */
	__u64 instead_of;		/* .. instead of this */
	__u64 inside;			/* calls between entry and exit */
	__u64 overlaps;			/* entry runs that found other calls in between */
	__u64 elsewhere;		/* runs on another CPU than the one with the caller's number */
	__u64 of_caller[CALLERS];	/* runs by caller */
};

/* Counts a run of the call identified by `own`, and stores that in the cookie for its exit. */
static __always_inline void count(struct tally *t, __u64 at, __u64 *cookie, __u64 own, __u32 caller)
{
	__u64 found = *cookie;

	__sync_fetch_and_add(&t->of_caller[caller & (CALLERS - 1)], 1);
	if (bpf_get_smp_processor_id() != caller)
		__sync_fetch_and_add(&t->elsewhere, 1);
	if (at == EXIT) {
		__sync_fetch_and_add(&t->exits, 1);
		__sync_fetch_and_add(&t->inside, -1);
		if (!found) {
			__sync_fetch_and_add(&t->empty, 1);
		} else if (found != own) {
			__sync_fetch_and_add(&t->foreign, 1);
			t->found = found;
			t->instead_of = own;
		}
		/* For later users of this memory: it must never be seen. */
		*cookie = ~own;
		return;
	}
	__sync_fetch_and_add(&t->entries, 1);
	if (__sync_fetch_and_add(&t->inside, 1))
		__sync_fetch_and_add(&t->overlaps, 1);
	if (found)
		__sync_fetch_and_add(&t->full, 1);
	*cookie = own;
}

/* Top byte of the bitset of the runner's calls. Other calls, even in its process, have other bitsets. */
enum { OURS = 0x5a };

/* Session n replaces that byte by its number: no two sessions ever have the same value. */
#define ON_FUTEX(name, n)						\
	struct tally name##_tally;					\
	SEC("fsession/futex_wait")					\
	int name(__u64 *ctx)						\
	{								\
		__u64 *cookie = bpf_session_cookie(ctx);		\
		__u64 at = side(ctx);					\
		__u32 val = ctx[2], bitset = ctx[4];			\
		__u64 own = (__u64)val << 32 | n << 24 | (bitset & 0xffffff); \
									\
		if (mine() && bitset >> 24 == OURS)			\
			count(&name##_tally, at, cookie, own, bitset & 0xffffff); \
		return 0;						\
	}

ON_FUTEX(tally_1, 1)
ON_FUTEX(tally_2, 2)
ON_FUTEX(tally_3, 3)

/* Plain programs next to those. */
__u64 futex_fentry_runs, futex_fexit_runs;
SEC("fentry/futex_wait")
int futex_fentry(__u64 *ctx)
{
	if (mine() && (__u32)ctx[4] >> 24 == OURS)
		__sync_fetch_and_add(&futex_fentry_runs, 1);
	return 0;
}

SEC("fexit/futex_wait")
int futex_fexit(__u64 *ctx)
{
	if (mine() && (__u32)ctx[4] >> 24 == OURS)
		__sync_fetch_and_add(&futex_fexit_runs, 1);
	return 0;
}

/* A function that may finish on another CPU than it started on. The runner fills give[0] before each call. */
struct seen migrated_seen[2];
SEC("fsession/sched_setaffinity")
int migrated(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);
	__u64 at = side(ctx);
	struct seen *s = &migrated_seen[at];

	if (!mine())
		return 0;
	note(s);
	s->cookie = *cookie;
	s->value = bpf_get_smp_processor_id();
	s->ret = ctx[2];
	*cookie = at == EXIT ? ~0ULL : give[0];
	return 0;
}

/*
 * Calls of bpf_fentry_test1, whose arguments identify nothing: each thread of the runner has its own
 * place.
 */
enum { PLACES = 4 };
struct call {
	__u64 tid;	/* whose place it is */
	__u64 value;	/* of its current call */
	__u64 entered;	/* whether that had an entry run */
};
struct call calls[PLACES];
/* Pages of the runner, one for the entry run and one for each place: reads sleep until they are filled. */
__u64 user_address;

/* The caller's place; PLACES for any other thread. */
static __always_inline __u32 place(void)
{
	__u32 tid = bpf_get_current_pid_tgid(), i;

	for (i = 0; i < PLACES; i++)
		if (calls[i].tid == tid)
			break;
	return i;
}

/* What the last failed read returned. */
__u64 unread;

static __always_inline void wait_for_page(__u32 page)
{
	__u64 word;
	long ret = bpf_copy_from_user(&word, sizeof(word), (void *)(user_address + page * 4096UL));

	if (ret)
		unread = ret;
}

/* Exit runs that found 0 although their call had an entry run. */
__u64 forgotten;

/* Sleeps in its entry run, so that the entry runs of other calls on the same CPU are skipped. */
struct tally blocking_tally;
SEC("fsession.s/bpf_fentry_test1")
int blocking(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);
	__u64 at = side(ctx);
	__u32 i = place();
	struct call *call;
	__u64 own;

	if (!mine() || i >= PLACES)
		return 0;
	call = &calls[i];
	own = at == EXIT && !call->entered ? 0 : call->value;
	if (at == EXIT && own && !*cookie)
		__sync_fetch_and_add(&forgotten, 1);
	count(&blocking_tally, at, cookie, own, i);
	if (at == ENTRY) {
		call->entered = 1;
		wait_for_page(0);
	}
	return 0;
}

/* Act like a body that sleeps: a program for each place, because a sleeping one is skipped for others. */
#define BODY(n)							\
SEC("fentry.s/bpf_fentry_test1")				\
int blocking_body_##n(__u64 *ctx)				\
{								\
	if (mine() && place() == n)				\
		wait_for_page(1 + n);				\
	return 0;						\
}
BODY(0)
BODY(1)
BODY(2)
BODY(3)
