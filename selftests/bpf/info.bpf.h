/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs of the group `info`; `tools` uses them too. */

/*
 * Runs long enough that the kernel's clock advances: with a tick-based clock, a short run takes 0 ns, and
 * then tools show neither time nor count. A plain loop, because the interpreter does not support
 * callbacks and so has no bpf_loop().
 */
struct seen slow_seen;
SEC("fsession/bpf_fentry_test1")
int slow(__u64 *ctx)
{
	__u64 sum = 0;

	if (!mine())
		return 0;
	note(&slow_seen);
	for (int i = 0; i < 5000; i++)
		sum += bpf_get_prandom_u32();
	slow_seen.value = sum;
	return 0;
}
