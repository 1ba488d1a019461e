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

/* The links of the system. */
struct bpf_prog_aux {
	__u32 id;
} __attribute__((preserve_access_index));

struct bpf_prog {
	struct bpf_prog_aux *aux;
} __attribute__((preserve_access_index));

struct bpf_link {
	__u32 id;
	struct bpf_prog *prog;
} __attribute__((preserve_access_index));

struct bpf_iter__bpf_link {
	void *meta;
	struct bpf_link *link;
} __attribute__((preserve_access_index));

struct {
	__u64 links;		/* seen at all */
	__u64 sessions;		/* those of the program `iterated` */
	__u64 without_id;
	__u64 without_program;
} iteration;
__u32 iterated;

SEC("iter/bpf_link")
int iterate_links(struct bpf_iter__bpf_link *ctx)
{
	struct bpf_link *link = ctx->link;

	if (!link || !mine())
		return 0;
	iteration.links++;
	if (!link->id)
		iteration.without_id++;
	if (!link->prog)
		iteration.without_program++;
	else if (link->prog->aux->id == iterated)
		iteration.sessions++;
	return 0;
}
