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

/* Counts the links that the iterator over them shows. */
struct bpf_link {
	__u32 id;
	struct bpf_prog *prog;
} __attribute__((preserve_access_index));

struct bpf_iter__bpf_link {
	struct bpf_iter_meta *meta;
	struct bpf_link *link;
} __attribute__((preserve_access_index));

struct listed {
	__u64 links;
	__u64 without_id;
	__u64 without_program;
} listed;
SEC("iter/bpf_link")
int list_links(struct bpf_iter__bpf_link *ctx)
{
	struct bpf_link *link = ctx->link;

	if (!link || !mine())
		return 0;
	listed.links++;
	listed.without_id += !link->id;
	listed.without_program += !link->prog;
	return 0;
}
