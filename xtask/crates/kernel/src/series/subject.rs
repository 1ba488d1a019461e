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
mod tests {
    use super::*;

    #[test]
    fn subjects_give_version_and_place() {
        let tags = Tags::of("[PATCH bpf-next v9 03/11] bpf: x [sic]");
        assert_eq!((tags.version, tags.place, tags.subject.as_str()), (9, Some((3, 11)), "bpf: x [sic]"));
        assert_eq!(Tags::of("[RFC][PATCHv2 0/2] y").version, 2);
        assert!(Tags::of("[RFC][PATCHv2 0/2] y").is_cover());
        assert_eq!(
            Tags::of("[net-next,v3,1/2] y"),
            Tags { reply: false, patch: true, version: 3, place: Some((1, 2)), subject: "y".into() }
        );
        assert_eq!(Tags::of("kernel/x: no brackets").place, None);
        let robot = Tags::of("[linux-next:master 1234/5678] kernel/x.c:1: warning: y");
        assert!(!robot.patch && robot.place.is_none(), "{robot:?}");
        assert_eq!(Tags::of("[PATCH 1/0] z").place, None);
    }

    #[test]
    fn replies_and_forwarded_mails_are_known_in_many_languages() {
        for before in [
            "Re: ",
            "RE: ",
            "re:",
            "Re : ",
            "Re[2]: ",
            "Re(3): ",
            "Re^2: ",
            "Re: Re: ",
            "AW: ",
            "Aw: ",
            "Antw: ",
            "SV: ",
            "Fwd: ",
            "FW: ",
            "WG: ",
            "Odp: ",
            "回复: ",
            "回复：",
            "答复: ",
            "转发: ",
            "RES: ",
            "VS: ",
            "Ynt: ",
            "[External] Re: ",
            "[EXT] AW: ",
            "Re: [External] ",
            "[External] [SPAM?] Re: Fwd: ",
            "Automatic reply: ",
            "Re: [bpf] Re: ",
            "Accepted: ",
        ] {
            let tags = Tags::of(&format!("{before}[PATCH bpf-next v2 1/2] bpf: x"));
            assert!(tags.reply, "{before}");
            assert_eq!((tags.place, tags.subject.as_str()), (Some((1, 2)), "bpf: x"), "{before}");
        }
        for whole in ["[syzbot ci] Re: bpf: remarks", "Re: bpf: x", "AW: bpf: x", "[bpf?] Re: x"] {
            assert!(Tags::of(whole).reply, "{whole}");
        }
    }

    #[test]
    fn a_patch_is_not_taken_for_a_reply() {
        for whole in [
            "[PATCH] bpf: x",
            "[PATCH 1/2] re: x",
            "[PATCH] Re: what [PATCH] said",
            "[External] [PATCH v2 1/2] bpf: x",
            "[PATCH] [RFC] x",
            "bpf: x",
            "net: implement [RFC 5681]",
            "net: [RFC 5681] y",
            "bpf: x [PATCH v2]",
            "resolve_btfids: x",
            "svm: x",
            "fwctl: x",
        ] {
            assert!(!Tags::of(whole).reply, "{whole}");
        }
    }
}
