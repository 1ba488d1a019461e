/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs of the group `elsewhere`: the session kfuncs in sessions other than fsession. Those are older,
 * and so were their kfuncs: first without an argument, later with the context. libbpf strips the suffix
 * after the three underscores, compares the prototypes, and resolves the one that this kernel has.
 */
extern bool bpf_session_is_return___old(void) __ksym __weak;
extern bool bpf_session_is_return___new(void *ctx) __ksym __weak;
extern __u64 *bpf_session_cookie___old(void) __ksym __weak;
extern __u64 *bpf_session_cookie___new(void *ctx) __ksym __weak;

/* Which of the four were resolved at load time: one bit each, in the order above. */
__u32 resolved;
SEC("kprobe.session/bpf_fentry_test1")
int flavours(void *ctx)
{
	if (!mine())
		return 0;
	resolved = 0;
	if (bpf_ksym_exists(bpf_session_is_return___old))
		resolved |= 1;
	if (bpf_ksym_exists(bpf_session_is_return___new))
		resolved |= 2;
	if (bpf_ksym_exists(bpf_session_cookie___old))
		resolved |= 4;
	if (bpf_ksym_exists(bpf_session_cookie___new))
		resolved |= 8;
	return 0;
}

static __always_inline __u64 side_of_either(void *ctx)
{
	__u64 is_return;

	if (bpf_ksym_exists(bpf_session_is_return___new))
		is_return = bpf_session_is_return___new(ctx);
	else
		is_return = bpf_session_is_return___old();
	asm volatile("%0 &= 1" : "+r"(is_return));
	return is_return;
}

static __always_inline __u64 *cookie_of_either(void *ctx)
{
	if (bpf_ksym_exists(bpf_session_cookie___new))
		return bpf_session_cookie___new(ctx);
	return bpf_session_cookie___old();
}

#define SESSION_ELSEWHERE(name, section)				\
	struct seen name##_seen[2];					\
	SEC(section)							\
	int name(void *ctx)						\
	{								\
		struct seen *s;						\
									\
		if (!mine())						\
			return 0;					\
		s = &name##_seen[side_of_either(ctx)];			\
		note(s);						\
		return 0;						\
	}

SESSION_ELSEWHERE(kprobe_sides, "kprobe.session/bpf_fentry_test1")
/* The runner sets the place. */
SESSION_ELSEWHERE(uprobe_sides, "uprobe.session")

/* The value to leave for the exit run; set by the runner. */
__u64 leave_elsewhere;
#define COOKIE_ELSEWHERE(name, section)					\
	struct seen name##_seen[2];					\
	SEC(section)							\
	int name(void *ctx)						\
	{								\
		__u64 *cookie = cookie_of_either(ctx);			\
		__u64 at = side_of_either(ctx);				\
		struct seen *s = &name##_seen[at];			\
									\
		if (!mine())						\
			return 0;					\
		note(s);						\
		s->cookie = *cookie;					\
		if (at == ENTRY)					\
			*cookie = leave_elsewhere;			\
		return 0;						\
	}

COOKIE_ELSEWHERE(kprobe_cookie, "kprobe.session/bpf_fentry_test1")
COOKIE_ELSEWHERE(uprobe_cookie, "uprobe.session")

/* One prototype each, without checking whether it exists. */
SEC("kprobe.session/bpf_fentry_test1")
int is_return_old(void *ctx)
{
	return bpf_session_is_return___old() & 0;
}

SEC("kprobe.session/bpf_fentry_test1")
int is_return_new(void *ctx)
{
	return bpf_session_is_return___new(ctx) & 0;
}

SEC("kprobe.session/bpf_fentry_test1")
int cookie_old(void *ctx)
{
	*bpf_session_cookie___old() = 1;
	return 0;
}

SEC("kprobe.session/bpf_fentry_test1")
int cookie_new(void *ctx)
{
	*bpf_session_cookie___new(ctx) = 1;
	return 0;
}

/* A session of kprobes with a function that the runner has replaced; the extension calls the kfunc. */
struct pt_regs {
	unsigned long word;
};

struct seen kprobe_part_seen;
__noinline int kprobe_part(struct pt_regs *ctx)
{
	/* Otherwise the compiler passes anything. */
	asm volatile("" : : "r"(ctx));
	note(&kprobe_part_seen);
	return 0;
}

SEC("kprobe.session/bpf_fentry_test1")
int kprobe_in_parts(struct pt_regs *ctx)
{
	if (mine())
		kprobe_part(ctx);
	return 0;
}

struct seen kprobe_extension_seen[2];
SEC("freplace")
int kprobe_extension(struct pt_regs *ctx)
{
	note(&kprobe_extension_seen[side_of_either(ctx)]);
	return 0;
}
