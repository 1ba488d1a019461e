/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Programs of the group `reject`: none of them may load. */

/* A tracing program like a session, but at a tracepoint. */
SEC("tp_btf/sched_switch")
int raw_tp_is_return(__u64 *ctx)
{
	return side(ctx) & 0;
}

SEC("tp_btf/sched_switch")
int raw_tp_cookie(__u64 *ctx)
{
	*bpf_session_cookie(ctx) = 1;
	return 0;
}

/* Replaces a session's global subprogram, with the same type; the runner sets the target. */
SEC("freplace")
int subprog_replacement(__u64 *ctx)
{
	return 0;
}
