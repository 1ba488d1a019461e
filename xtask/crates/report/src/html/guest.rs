// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guests of a run: how each was started, where its time went, what its console shows.

use std::fmt::Write as _;

use crate::escape::xml as escape;
use crate::html::{MAX_BYTES, Page, console};
use vmtest_base::error::Class;
use vmtest_record::run::BootRecord;

/// The section with all guests.
pub(super) fn section(text: &mut String, page: &Page<'_>) {
    if page.story.run.boots.is_empty() {
        return;
    }
    text.push_str("<section aria-labelledby=\"guests-title\">\n<h2 id=\"guests-title\">Guests</h2>\n");
    for (at, boot) in page.story.run.boots.iter().enumerate() {
        article(text, page, at, boot);
    }
    text.push_str("</section>\n");
}

fn article(text: &mut String, page: &Page<'_>, at: usize, boot: &BootRecord) {
    let class = boot.class;
    let (tone, word) = if class == Class::Pass { ("ok", "went through") } else { ("dead", class.label()) };
    let slash = if boot.variant.is_empty() { "" } else { "/" };
    let attempt = boot.attempt.map_or_else(String::new, |attempt| format!(", attempt {attempt}"));
    let open = if class == Class::Pass { "" } else { " open" };
    let _ = writeln!(
        text,
        "<article class=\"guest\" id=\"g{at}\" tabindex=\"-1\" aria-labelledby=\"gh{at}\">\n<details{open}>\
        <summary><h3 id=\"gh{at}\"><span class=\"badge {tone}\">{}</span> {}{slash}{} ({}, {}{attempt})</h3>\
        </summary>",
        escape(word),
        escape(&boot.kernel),
        escape(&boot.variant),
        escape(&boot.boot),
        escape(&boot.suite)
    );
    if !boot.reason.is_empty() {
        let _ = writeln!(text, "<p class=\"reason\">{}</p>", escape(&boot.reason));
    }
    times(text, boot);
    if text.len() > MAX_BYTES {
        let place = escape(&boot.directory);
        let _ = writeln!(
            text,
            "<p class=\"meta\">The page is full: <code>{place}</code></p>\n</details>\n</article>"
        );
        return;
    }
    for (title, lines) in [("State before it was killed", &boot.before_kill)] {
        if !lines.is_empty() {
            let _ =
                writeln!(text, "<h4>{title}</h4>\n<pre tabindex=\"0\">{}</pre>", escape(&lines.join("\n")));
        }
    }
    if class == Class::Pass && !complained(page, boot) {
        text.push_str("<p class=\"meta\">Its console has no kernel warning.</p>\n");
    } else if let Some(lines) = page.story.consoles.get(&boot.directory) {
        let _ = writeln!(text, "<h4>Console</h4>\n{}", console::excerpt(lines));
    } else if !boot.console_tail.is_empty() {
        let _ = writeln!(
            text,
            "<h4>End of its console</h4>\n{}",
            console::excerpt(&boot.console_tail.join("\n"))
        );
    }
    conditions(text, boot);
    let _ = writeln!(
        text,
        "<p class=\"meta\">Whole console and events: <code>{}</code></p>\n</details>\n</article>",
        escape(&boot.directory)
    );
}

fn complained(page: &Page<'_>, boot: &BootRecord) -> bool {
    let run = page.story.run;
    run.splats.iter().any(|splat| splat.variant_id() == boot.variant_id())
}

/// The time from start to `hello`, in the tests, and waiting at the end.
pub(super) fn times(text: &mut String, boot: &BootRecord) {
    let total = boot.duration_ms.max(1);
    let booted = boot.booted_after_ms.unwrap_or(total).min(total);
    let waited = boot.to_verdict_ms.min(total - booted);
    let parts = [
        ("boot", booted, "p0"),
        ("tests", total - booted - waited, "p1"),
        ("waiting for an end", waited, "p2"),
    ];
    text.push_str("<div class=\"bar\" aria-hidden=\"true\">");
    for (_, ms, class) in &parts {
        let _ = write!(
            text,
            "<span class=\"{class}\" style=\"width:{:.2}%\"></span>",
            *ms as f64 * 100.0 / total as f64
        );
    }
    text.push_str("</div>\n<p class=\"legend\">");
    for (name, ms, class) in &parts {
        let _ = write!(
            text,
            "<span class=\"key {class}\" aria-hidden=\"true\"></span>{name} {:.1} s ",
            *ms as f64 / 1000.0
        );
    }
    text.push_str("</p>\n");
}

fn conditions(text: &mut String, boot: &BootRecord) {
    text.push_str(
        "<details><summary>How it was started, and what it found</summary>\n<table class=\"plain\"><tbody>\n",
    );
    let cpus = format!("{}: {}", boot.cpus, boot.cpus_reason);
    let thread = boot
        .tcg_thread
        .as_deref()
        .map(|thread| format!("{thread}: {}", boot.tcg_thread_reason.as_deref().unwrap_or_default()));
    let limits: Vec<String> =
        boot.limits_s.iter().map(|(name, seconds)| format!("{name} {seconds} s")).collect();
    let rows = [
        ("boot", format!("{}: {}", boot.boot, boot.boot_reason)),
        ("accelerator", format!("{}: {}", boot.accel, boot.accel_reason)),
        ("CPUs", cpus),
        ("emulator's threads", thread.unwrap_or_default()),
        ("limits", limits.join(", ")),
    ];
    for one in &boot.conditions {
        let (is, value) = (if one.enforced { "enforced" } else { "NOT enforced" }, escape(&one.value));
        let what = escape(&one.what);
        let _ = writeln!(
            text,
            "<tr><th scope=\"row\">{what}</th><td>{is}: {} is {value}</td></tr>",
            escape(&one.read)
        );
    }
    let found = boot.features.iter().chain(&boot.profile).map(|(name, value)| (name.as_str(), value.clone()));
    for (name, value) in rows.into_iter().chain(found).filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(&value));
    }
    text.push_str("</tbody></table>\n</details>\n");
}
