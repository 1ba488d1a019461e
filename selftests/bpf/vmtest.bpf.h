/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What every program of the suite needs: a few types (there is no vmlinux.h here), the session kfuncs,
 * and the records that the runner reads.
 */
#ifndef VMTEST_BPF_H
#define VMTEST_BPF_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0

enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_PROG_ARRAY = 3, BPF_MAP_TYPE_SK_STORAGE = 24 };

#include <bpf/bpf_helpers.h>

/* Weak, so that a kernel without them can open the object and reject it for the right reason. */
extern bool bpf_session_is_return(void *ctx) __ksym __weak;
extern __u64 *bpf_session_cookie(void *ctx) __ksym __weak;

enum { ENTRY, EXIT };

/* What one run of a program saw; each program has an array of two, indexed by ENTRY and EXIT. */
struct seen {
	__u64 runs;		/* runs of this kind */
	__u64 order;		/* position of the last run among those of all programs, from 1 */
	__u64 arg[10];		/* argument slots, whole registers */
	__u64 ret;		/* the return value as the argument after the last */
	__u64 func_ret;		/* the same by bpf_get_func_ret() */
	__s64 func_ret_err;	/* return value of bpf_get_func_ret() */
	__u64 func_arg[10];	/* the arguments by bpf_get_func_arg() */
	__u64 arg_cnt;		/* bpf_get_func_arg_cnt() */
	__u64 ip;		/* bpf_get_func_ip() */
	__u64 attach_cookie;	/* bpf_get_attach_cookie() */
	__u64 cookie;		/* session cookie as found, before the program wrote to it */
	__u64 value;		/* anything else that the program records */
};

/* Process whose calls count: other processes may call the same function at any time. */
__u32 tgid;
/* Runs so far, of all programs. */
__u64 order;

static __always_inline bool mine(void)
{
	return (bpf_get_current_pid_tgid() >> 32) == tgid;
}

/*
 * ENTRY or EXIT, as an index. The mask is hidden from the compiler, which would optimize it out for a
 * bool; the verifier assumes that the kfunc may return any number.
 */
static __always_inline __u64 side(void *ctx)
{
	__u64 is_return = bpf_session_is_return(ctx);

	asm volatile("%0 &= 1" : "+r"(is_return));
	return is_return;
}

static __always_inline void note(struct seen *s)
{
	s->runs++;
	s->order = ++order;
}

/* Copies the first n argument slots, as whole registers. */
#define ARGS1(s, ctx) ((s)->arg[0] = (ctx)[0])
#define ARGS2(s, ctx) (ARGS1(s, ctx), (s)->arg[1] = (ctx)[1])
#define ARGS3(s, ctx) (ARGS2(s, ctx), (s)->arg[2] = (ctx)[2])
#define ARGS4(s, ctx) (ARGS3(s, ctx), (s)->arg[3] = (ctx)[3])
#define ARGS5(s, ctx) (ARGS4(s, ctx), (s)->arg[4] = (ctx)[4])
#define ARGS6(s, ctx) (ARGS5(s, ctx), (s)->arg[5] = (ctx)[5])
#define ARGS7(s, ctx) (ARGS6(s, ctx), (s)->arg[6] = (ctx)[6])
#define ARGS8(s, ctx) (ARGS7(s, ctx), (s)->arg[7] = (ctx)[7])
#define ARGS9(s, ctx) (ARGS8(s, ctx), (s)->arg[8] = (ctx)[8])

#endif
