// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The only BPF object of the suite. A subtest loads only the programs that it names, so that a program
 * rejected by this kernel only fails the subtests that use it.
 */
#include "vmtest.bpf.h"
#include "basic.bpf.h"
#include "cookie.bpf.h"
#include "mixed.bpf.h"
#include "reject.bpf.h"
#include "elsewhere.bpf.h"
#include "info.bpf.h"
#include "cost.bpf.h"
#include "concurrent.bpf.h"
#include "multi.bpf.h"
#include "bounds.bpf.h"
#include "tailcalls.bpf.h"
#include "targets.bpf.h"
#include "code.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
