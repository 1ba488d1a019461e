// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kconfig files and their expressions, and explanations of lost options.

use super::*;
use crate::kconfig::explain::distance;
use vmtest_base::dotconfig::DotConfig;

/// Parts of kernel/trace/Kconfig and others, shortened.
const SNIPPET: &str = r#"
mainmenu "Linux/$(ARCH) Kernel Configuration"

config MODULES
	bool "Enable loadable module support"

config BPF_SYSCALL
	bool "Enable bpf() system call"
	help
	  Text with the words depends on NOTHING in it.

	    config NOT_AN_OPTION

config KPROBES
	bool "Kprobes"
	depends on HAVE_KPROBES

config HAVE_KPROBES
	bool

menuconfig FTRACE
	bool "Tracers"

if FTRACE

config BPF_EVENTS
	depends on BPF_SYSCALL
	depends on (KPROBE_EVENTS || UPROBE_EVENTS) && \
		   PERF_EVENTS
	bool
	default y

config KPROBE_EVENTS
	depends on KPROBES
	bool "Enable kprobes-based dynamic events"

config UPROBE_EVENTS
	bool "Enable uprobes-based dynamic events"

endif # FTRACE

config PERF_EVENTS
	bool "Kernel performance events and counters"
	depends on $(cc-option,-mfoo,$(x)) && !BROKEN

config BROKEN
	bool

config ARCH_X
	def_bool y
	select HAVE_KPROBES if KPROBES_OK

menu "Media"
	visible if EXPERT

config HIDDEN
	tristate "Hidden" if DEBUG_KERNEL

endmenu

choice
	prompt "Preemption"

config PREEMPT_NONE
	bool "None"

config PREEMPT
	bool "Full"

endchoice

config NR_CPUS
	int "CPUs" if SMP
	range 2 512 if SMP

config BIG
	bool "Big"
	depends on NR_CPUS > 64

config NEWER
	bool "depends with if"
	depends on KPROBES if FTRACE

config FORCED
	bool "Forced"

config FORCER
	bool "Forcer"
	select FORCED
"#;

fn snippet() -> Kconfig {
    let mut kconfig = Kconfig::default();
    kconfig.parse(Path::new("/nonexistent"), "Kconfig", SNIPPET, &mut Vec::new(), 0);
    kconfig
}

fn explain(option: &str, wanted: &str, set: &[(&str, &str)]) -> Vec<String> {
    let dotconfig = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    snippet().explain(option, wanted, &dotconfig)
}

const TRACING: [(&str, &str); 3] = [("FTRACE", "y"), ("BPF_SYSCALL", "y"), ("PERF_EVENTS", "y")];

#[test]
fn the_missing_dependency_is_named_and_what_that_misses() {
    assert_eq!(
        explain("BPF_EVENTS", "y", &TRACING),
        [
            "BPF_EVENTS needs (KPROBE_EVENTS || UPROBE_EVENTS): both are n",
            "KPROBE_EVENTS needs KPROBES: it is n",
            "KPROBES needs HAVE_KPROBES: it is n",
            "HAVE_KPROBES has no prompt: it can only be selected, by ARCH_X (n) if KPROBES_OK",
        ]
    );
    assert_eq!(explain("UPROBE_EVENTS", "y", &[]), ["UPROBE_EVENTS needs FTRACE: it is n"]);
    assert_eq!(explain("PERF_EVENTS", "y", &[("BROKEN", "y")]), ["PERF_EVENTS needs !BROKEN: BROKEN is y"]);
    assert_eq!(explain("BIG", "y", &[("NR_CPUS", "8")]), ["BIG needs (NR_CPUS > 64): NR_CPUS is 8"]);
    assert_eq!(
        explain("NEWER", "y", &[("FTRACE", "y"), ("HAVE_KPROBES", "y")]),
        ["NEWER needs (KPROBES || !FTRACE): KPROBES is n, FTRACE is y"]
    );
}

#[test]
fn misspelt_names_get_a_suggestion_and_help_texts_are_no_options() {
    assert_eq!(
        explain("BFP_EVENTS", "y", &[]),
        ["there is no option BFP_EVENTS in this tree; did you mean BPF_EVENTS?"]
    );
    assert_eq!(explain("NOT_AN_OPTION", "y", &[]), ["there is no option NOT_AN_OPTION in this tree"]);
}

#[test]
fn prompts_choices_ranges_and_selects_are_explained() {
    assert_eq!(
        explain("PREEMPT", "y", &[("PREEMPT_NONE", "y")]),
        ["PREEMPT is one of a choice: PREEMPT_NONE was chosen"]
    );
    assert_eq!(explain("FORCED", "n", &[("FORCER", "y")]), ["FORCED is selected by FORCER"]);
    assert_eq!(
        explain("HIDDEN", "y", &[("DEBUG_KERNEL", "y")]),
        ["HIDDEN has a prompt only if EXPERT: it is n"]
    );
    assert_eq!(explain("NR_CPUS", "1024", &[("SMP", "y")]), ["NR_CPUS has the range 2 to 512"]);
    assert_eq!(explain("FORCED", "m", &[]), ["FORCED is a bool: it cannot be a module"]);
    assert_eq!(explain("HIDDEN", "m", &[]), ["MODULES is n: nothing can be a module"]);
    assert_eq!(explain("BROKEN", "y", &[]), ["BROKEN has no prompt, and nothing selects it"]);
}

#[test]
fn unknown_macros_neither_hold_nor_fail() {
    let words = tokens("A && ($(cc-option,-m) || B) # why");
    let none = DotConfig::new();
    let on = DotConfig::from([("A".to_owned(), "y".to_owned())]);
    assert_eq!(parse_expr(&words).eval(&snippet(), &none), Some(0));
    assert_eq!(parse_expr(&words).eval(&snippet(), &on), Some(2));
    assert_eq!(parse_expr(&tokens("A ||")), Expr::Unknown);
    assert_eq!(parse_expr(&tokens("!(A = m || A != \"y\")")).eval(&snippet(), &on), Some(2));
}

#[test]
fn swapped_letters_are_one_edit() {
    assert_eq!(distance("BFP_JIT", "BPF_JIT"), 1);
    assert_eq!(distance("KPROBE", "KPROBES"), 1);
    assert_eq!(distance("A", "B"), 1);
}
