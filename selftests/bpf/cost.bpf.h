/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs of the group `cost`. They do almost nothing: the cost of calling them is measured. Their
 * target is a cheap helper that another BPF program calls in a loop, so that no system call is included.
 * Only the caller checks the process: nothing else calls that helper here, and otherwise the counts would
 * not match.
 */
__u64 cost_runs;
#define COUNT(name, section)						\
	SEC(section)							\
	int name(void *ctx)						\
	{								\
		cost_runs++;						\
		return 0;						\
	}

COUNT(cost_fentry, "fentry/bpf_get_numa_node_id")
COUNT(cost_fexit, "fexit/bpf_get_numa_node_id")
COUNT(cost_session, "fsession/bpf_get_numa_node_id")
COUNT(cost_kprobe_session, "kprobe.session/bpf_get_numa_node_id")

/* The cookie as found by the last run. */
__u64 cost_cookie;
SEC("fsession/bpf_get_numa_node_id")
int cost_session_with_cookie(__u64 *ctx)
{
	__u64 *cookie = bpf_session_cookie(ctx);

	cost_runs++;
	cost_cookie = ++*cookie;
	return 0;
}

/* Calls the target. The runner sets how often, and reads how long that took. */
__u32 cost_calls;
__u64 cost_called;
__u64 cost_ns;

static long call_target(__u64 index, void *unused)
{
	bpf_get_numa_node_id();
	cost_called++;
	return 0;
}

SEC("syscall")
int cost_caller(void *ctx)
{
	__u64 start = bpf_ktime_get_ns();

	if (!mine())
		return 0;
	bpf_loop(cost_calls, call_target, (void *)0, 0);
	cost_ns = bpf_ktime_get_ns() - start;
	return 0;
}
