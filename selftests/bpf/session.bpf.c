// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The one BPF object of the suite. A subtest loads the programs that it names and no others, so that a program
 * which this kernel refuses fails the subtests that use it and none besides.
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

char LICENSE[] SEC("license") = "Dual BSD/GPL";
