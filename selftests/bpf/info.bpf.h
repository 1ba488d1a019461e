/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs of the group `info`; `tools` uses them too. */

static long idle(__u64 index, void *unused)
{
	return 0;
}

/*
 * Runs for long enough that the kernel's clock moves on: where that goes by ticks, the time of a short run is 0, and
 * tools show neither time nor count.
 */
struct seen slow_seen;
SEC("fsession/bpf_fentry_test1")
int slow(__u64 *ctx)
{
	if (!mine())
		return 0;
	note(&slow_seen);
	bpf_loop(100000, idle, (void *)0, 0);
	return 0;
}
