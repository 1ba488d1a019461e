/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs of the group `mixed`: programs of all kinds on two functions. */

/* Programs that run once per call and record the first argument and, at exit, the return value. */
#define ENTRY_NEIGHBOUR(name, section)					\
	struct seen name##_seen;					\
	SEC(section)							\
	int name(__u64 *ctx)						\
	{								\
		if (!mine())						\
			return 0;					\
		note(&name##_seen);					\
		ARGS1(&name##_seen, ctx);				\
		name##_seen.ip = bpf_get_func_ip(ctx);			\
		return 0;						\
	}

#define EXIT_NEIGHBOUR(name, section)					\
	struct seen name##_seen;					\
	SEC(section)							\
	int name(__u64 *ctx)						\
	{								\
		if (!mine())						\
			return 0;					\
		note(&name##_seen);					\
		ARGS1(&name##_seen, ctx);				\
		name##_seen.ip = bpf_get_func_ip(ctx);			\
		bpf_get_func_ret(ctx, &name##_seen.func_ret);		\
		return 0;						\
	}

ENTRY_NEIGHBOUR(plain_fentry, "fentry/bpf_fentry_test1")
EXIT_NEIGHBOUR(plain_fexit, "fexit/bpf_fentry_test1")

ENTRY_NEIGHBOUR(fentry_1, "fentry/bpf_modify_return_test")
ENTRY_NEIGHBOUR(fentry_2, "fentry/bpf_modify_return_test")
ENTRY_NEIGHBOUR(fentry_3, "fentry/bpf_modify_return_test")
ENTRY_NEIGHBOUR(fmod_1, "fmod_ret/bpf_modify_return_test")
ENTRY_NEIGHBOUR(fmod_2, "fmod_ret/bpf_modify_return_test")
ENTRY_NEIGHBOUR(fmod_3, "fmod_ret/bpf_modify_return_test")
EXIT_NEIGHBOUR(fexit_1, "fexit/bpf_modify_return_test")
EXIT_NEIGHBOUR(fexit_2, "fexit/bpf_modify_return_test")
EXIT_NEIGHBOUR(fexit_3, "fexit/bpf_modify_return_test")

#define SESSION_NEIGHBOUR(name)						\
	struct seen name##_seen[2];					\
	SEC("fsession/bpf_modify_return_test")				\
	int name(__u64 *ctx)						\
	{								\
		struct seen *s = &name##_seen[side(ctx)];		\
		__u64 *cookie = bpf_session_cookie(ctx);		\
									\
		if (!mine())						\
			return 0;					\
		note(s);						\
		ARGS1(s, ctx);						\
		s->func_ret_err = bpf_get_func_ret(ctx, &s->func_ret);	\
		s->cookie = *cookie;					\
		*cookie = s->order;					\
		return 0;						\
	}

SESSION_NEIGHBOUR(session_1)
SESSION_NEIGHBOUR(session_2)
SESSION_NEIGHBOUR(session_3)

/* Overrides the function, which does not run. */
int override_with;
struct seen override_seen;
SEC("fmod_ret/bpf_modify_return_test")
int override_value(__u64 *ctx)
{
	if (!mine())
		return 0;
	note(&override_seen);
	return override_with;
}

/* Probes of the same function that do not use a trampoline. */
struct seen kprobe_seen;
SEC("kprobe/bpf_fentry_test1")
int on_kprobe(void *ctx)
{
	if (mine())
		note(&kprobe_seen);
	return 0;
}

struct seen kretprobe_seen;
SEC("kretprobe/bpf_fentry_test1")
int on_kretprobe(void *ctx)
{
	if (mine())
		note(&kretprobe_seen);
	return 0;
}

struct seen kprobe_session_seen[2];
SEC("kprobe.session/bpf_fentry_test1")
int on_kprobe_session(void *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);
	struct seen *s = &kprobe_session_seen[side(ctx)];

	if (!mine())
		return 0;
	note(s);
	s->cookie = *cookie;
	*cookie = 0xabcdef;
	return 0;
}

/* A session on a tracing program, and a session on that; the runner sets the targets. */
struct seen on_tracing_seen[2];
SEC("fsession")
int on_tracing_program(__u64 *ctx)
{
	if (mine())
		note(&on_tracing_seen[side(ctx)]);
	return 0;
}

SEC("fsession")
int on_session(__u64 *ctx)
{
	return 0;
}

/* Two that replace the same function of a BPF program. */
SEC("freplace")
int replacement(int value)
{
	return value + 2;
}

struct seen on_replaceable_seen[2];
SEC("fsession")
int on_replaceable(__u64 *ctx)
{
	if (mine())
		note(&on_replaceable_seen[side(ctx)]);
	return 0;
}
