// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses the subject of a mail: `[PATCH v2 3/12]`, and whether it is a reply or forwarded.

/// The parsed subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tags {
    /// `Re: `, `AW: [PATCH]`, `[EXT] Fwd: ` ..: a reply or forwarded, so not a patch of its own.
    pub reply: bool,
    /// Marked as a patch in brackets: `[PATCH`, `[RFC`, or a number.
    pub patch: bool,
    /// 1 without `vN`.
    pub version: u32,
    /// Number and total of `[PATCH 3/12]`.
    pub place: Option<(u32, u32)>,
    pub subject: String,
}

/// Prefixes of replies and forwarded mails, in lower case. Others are recognized by a `[PATCH` after them.
const REPLIES: [&str; 16] = [
    "re", "aw", "antw", "antwort", "sv", "fw", "fwd", "wg", "odp", "回复", "答复", "回覆", "答覆", "转发",
    "轉寄", "轉發",
];

impl Tags {
    pub fn of(subject: &str) -> Tags {
        let mut rest = subject.trim();
        let mut tags = Tags { version: 1, ..Tags::default() };
        loop {
            if let Some((inside, after)) = brackets(rest) {
                tags.read(inside);
                rest = after;
            } else if tags.patch {
                break;
            } else if let Some(after) = behind_reply(rest) {
                tags.reply = true;
                rest = after;
            } else {
                break;
            }
        }
        tags.subject = rest.to_owned();
        tags
    }

    fn read(&mut self, inside: &str) {
        let words = || inside.split([' ', ',', '\t']);
        let place = |word: &str| {
            let (number, total) = word.split_once('/')?;
            let (number, total): (u32, u32) = number.parse().ok().zip(total.parse().ok())?;
            (total > 0).then_some((number, total))
        };
        let named = words().any(is_patch);
        // `[tree:branch 123/456]` of a build robot counts commits, not patches.
        if !named && inside.contains(':') {
            return;
        }
        self.place = words().filter_map(place).next_back().or(self.place);
        self.patch |= named || words().any(|word| place(word).is_some());
        for word in words() {
            let version = word.strip_prefix("PATCH").unwrap_or(word).strip_prefix(['v', 'V']);
            if let Some(version) = version.and_then(|digits| digits.parse().ok()) {
                self.version = version;
            }
        }
    }

    pub fn is_cover(&self) -> bool {
        matches!(self.place, Some((0, _)))
    }

    /// `fixup! ..`, written by `git commit --fixup`: a change to another patch.
    pub fn is_fixup(&self) -> bool {
        ["fixup!", "squash!", "amend!"].iter().any(|start| self.subject.starts_with(start))
    }
}

/// Whether a word in brackets marks a patch.
fn is_patch(word: &str) -> bool {
    let starts = |with: &str| word.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    starts("PATCH") || starts("RFC")
}

/// The text in brackets at the start, and the rest.
fn brackets(text: &str) -> Option<(&str, &str)> {
    let (inside, after) = text.strip_prefix('[')?.split_once(']')?;
    Some((inside, after.trim_start()))
}

/// The rest after a reply prefix: `Re: `, `Re[2]: `, or any text before a `[PATCH ..]` that is followed by
/// words.
fn behind_reply(text: &str) -> Option<&str> {
    let length = text.find(|c: char| !c.is_alphabetic()).unwrap_or(text.len());
    let (word, mut rest) = text.split_at(length);
    if REPLIES.contains(&word.to_lowercase().as_str()) {
        // A reply count of some mail programs: Re[2], Re(2), Re^2.
        let count = |c: char| c.is_ascii_digit() || "[]()^ ".contains(c);
        rest = rest.trim_start_matches(count);
        if let Some(after) = rest.strip_prefix([':', '：']) {
            return Some(after.trim_start());
        }
    }
    let tag = text.match_indices('[').map(|(at, _)| &text[at..]).find(|rest| {
        brackets(rest).is_some_and(|(inside, after)| {
            !after.is_empty() && inside.split([' ', ',']).any(|word| word.to_uppercase().starts_with("PATCH"))
        })
    })?;
    Some(tag)
}

#[cfg(test)]
mod tests;
