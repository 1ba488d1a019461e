// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guests of a run: how each was started, where its time went, what its console shows.

use maud::{Markup, html};

use crate::html::{GUESTS, Page, badge, bounded, console, lines, more, pairs};
use crate::names;
use vmtest_base::error::Class;
use vmtest_record::run::BootRecord;

/// The section with all guests. Those that completed are folded.
pub(super) fn section(page: &mut Page<'_>) -> Markup {
    let run = page.story.run;
    let boots = &run.boots;
    let each = boots.iter().enumerate().map(|(at, boot)| article(page, at, boot));
    let (articles, shown) = bounded(each, GUESTS);
    let lost = boots.iter().filter(|boot| boot.class != Class::Pass).count();
    page.guests = shown;
    html! {
        @if !boots.is_empty() {
            section {
                details open[lost > 0] {
                    summary {
                        h2 {
                            "Guests: " (boots.len())
                            @if lost > 0 { ", " (lost) " with a problem" } @else { ", all completed" }
                        }
                    }
                    (articles)
                    @for kernel in run.kernels.iter().filter(|kernel| kernel.same_as.is_some()) {
                        p {
                            (names::kernel(run, &kernel.id)) " was not booted: its kernel is the same as that of "
                            (names::kernel(run, kernel.same_as.as_deref().unwrap_or_default())) "."
                        }
                    }
                    (more(boots.len(), shown, "guests"))
                }
            }
        }
    }
}

fn article(page: &Page<'_>, at: usize, boot: &BootRecord) -> Markup {
    let good = boot.class == Class::Pass;
    let (tone, word) = if good { ("ok", "completed") } else { ("dead", boot.class.label()) };
    let run = page.story.run;
    let warned = run.splats.iter().any(|splat| splat.variant_id() == boot.variant_id());
    let tail = boot.console_tail.join("\n");
    let console = page.story.consoles.get(&boot.directory).map_or(&tail[..], String::as_str);
    html! {
        article.guest id={ "g" (at) } tabindex="-1" aria-labelledby={ "gh" (at) } {
            details open[!good] {
                summary {
                    h3 id={ "gh" (at) } {
                        (badge(tone, word)) " " (names::kernel(run, &boot.kernel))
                        @if !boot.variant.is_empty() { "/" (boot.variant) }
                        " (" (boot.boot) ", " (boot.suite)
                        @if let Some(attempt) = boot.attempt { ", attempt " (attempt) } ")"
                    }
                }
                @if !boot.reason.is_empty() { p.reason { (boot.reason) } }
                (times(boot))
                @if !boot.before_kill.is_empty() {
                    h4 { "State before it was killed" }
                    (lines("State before it was killed", &boot.before_kill.join("\n")))
                }
                @if good && !warned { p.meta { "Its console has no kernel warning." } }
                @if !console.is_empty() { h4 { "Console" } (console::excerpt(console)) }
                (conditions(boot))
                @if !boot.directory.is_empty() {
                    p.meta {
                        "Whole console: " code { (page.story.directory) "/" (boot.directory) "/console.log" }
                        ", events beside it"
                    }
                }
            }
        }
    }
}

/// The time from start to `hello`, in the tests, and waiting at the end.
pub(super) fn times(boot: &BootRecord) -> Markup {
    let total = boot.duration_ms.max(1);
    let booted = boot.booted_after_ms.unwrap_or(total).min(total);
    let waited = boot.to_verdict_ms.min(total - booted);
    let parts = [
        ("boot", booted, "p0"),
        ("tests", total - booted - waited, "p1"),
        ("waiting for an end", waited, "p2"),
    ];
    html! {
        div.bar aria-hidden="true" {
            @for (_, ms, class) in &parts {
                span class=(class) style=(format!("width:{:.2}%", *ms as f64 * 100.0 / total as f64)) {}
            }
        }
        p.meta {
            @for (name, ms, class) in &parts {
                span class={ "key " (class) } aria-hidden="true" {}
                (name) (format!(" {:.1} s ", *ms as f64 / 1000.0))
            }
        }
    }
}

fn conditions(boot: &BootRecord) -> Markup {
    let own = str::to_owned;
    let because = |what: &str, reason: &str| match reason {
        "" => what.to_owned(),
        reason => format!("{what}: {reason}"),
    };
    let limits: Vec<String> =
        boot.limits_s.iter().map(|(name, seconds)| format!("{name} {seconds} s")).collect();
    let thread = boot.tcg_thread.as_ref().map_or_else(String::new, |thread| {
        because(thread, boot.tcg_thread_reason.as_deref().unwrap_or_default())
    });
    let met = boot.conditions.iter().map(|one| {
        let is = if one.enforced { "enforced" } else { "NOT enforced" };
        (one.what.clone(), format!("{is}: {} is {}", one.read, one.value))
    });
    let rows = [
        (own("boot"), because(&boot.boot, &boot.boot_reason)),
        (own("accelerator"), because(&boot.accel, &boot.accel_reason)),
        (own("CPUs"), because(&boot.cpus.to_string(), &boot.cpus_reason)),
        (own("emulator's threads"), thread),
        (own("limits"), limits.join(", ")),
    ];
    let found = boot.features.iter().chain(&boot.profile).map(|(name, value)| (name.clone(), value.clone()));
    html! {
        details {
            summary { "How it was started, and what it found" }
            (pairs(met.chain(rows).chain(found)))
        }
    }
}
