// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Loaded by bpftool as type `fsession`. Its section is fentry, so that only the type makes it a session;
 * it calls no kfunc and has no map, so that nothing else affects whether it loads.
 */
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef unsigned short __u16;
typedef unsigned char __u8;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

#include <bpf/bpf_helpers.h>

SEC("fentry/bpf_fentry_test1")
int by_bpftool(__u64 *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
