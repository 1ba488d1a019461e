// SPDX-License-Identifier: MIT OR Apache-2.0
//! Selects the patches of a series from a mailbox. Archives return whole threads: cover letters, reviews,
//! reports of robots, suggestions with a diff, the previous version, and mails that arrived through two
//! lists.
//!
//! The risk is to miss a patch, or to apply something else. So every ignored mail is reported with the
//! reason, the numbers must be complete, and anything ambiguous is rejected. A fixup in a reply is never
//! applied.

use std::collections::{BTreeMap, BTreeSet};

use crate::series::{Letter, Mail, Note, directory};
use vmtest_base::error::{Class, Error, Result};

/// The selected patches in their order in the file, and notes about ignored mails.
pub(super) struct Chosen {
    pub patches: Vec<Mail>,
    pub notes: Vec<Note>,
    /// The commit that the series is based on, if known.
    pub base_commit: Option<String>,
    /// The cover letter, else the first patch.
    pub letter: Option<Box<Letter>>,
    /// Patch IDs of what must be applied before it.
    pub prerequisites: Vec<String>,
}

impl Chosen {
    /// Patches without a cover letter.
    pub fn of(patches: Vec<Mail>, notes: Vec<Note>) -> Chosen {
        Chosen::with(&[], patches, notes)
    }

    fn with(covers: &[&Mail], patches: Vec<Mail>, notes: Vec<Note>) -> Chosen {
        let all = || covers.iter().copied().chain(&patches);
        Chosen {
            base_commit: all().find_map(|mail| mail.base_commit.clone()),
            letter: all().find_map(Mail::letter).map(Box::new),
            prerequisites: all().flat_map(|mail| mail.prerequisites.clone()).collect(),
            patches,
            notes,
        }
    }
}

/// Missing numbers that an error lists: a subject could say 1/4000000000.
const MAX_MISSING: usize = 20;

/// Where the mails come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A mailbox from an archive: any order, with other mails.
    Mailbox,
    /// Files that the user selected.
    Directory,
}

/// Selects the patches of a thread; `shown` names the input in messages.
pub(super) fn choose(shown: &str, mails: Vec<Mail>, kind: Kind) -> Result<Chosen> {
    let mut notes = Vec::new();
    let (covers, patches) = without_replies(mails, kind, &mut notes);
    let mut patches = without_twins(patches, &mut notes);
    if kind == Kind::Mailbox {
        patches = without_extras(shown, &covers, patches, &mut notes)?;
        patches = newest(shown, &covers, patches, &mut notes)?;
    }
    if patches.is_empty() {
        return Err(nothing(shown, &covers, &notes));
    }
    let versions: BTreeSet<u32> = patches.iter().map(|mail| mail.tags.version).collect();
    let of_series: Vec<&Mail> =
        covers.iter().filter(|cover| versions.contains(&cover.tags.version)).collect();
    Ok(Chosen::with(&of_series, patches, notes))
}

fn nothing(shown: &str, covers: &[Mail], notes: &[Note]) -> Error {
    let what = match covers {
        [] => format!("{shown} holds no patch"),
        _ => format!("{shown} holds a cover letter and no patch"),
    };
    Error::new(Class::SeriesDoesNotApply, what)
        .detail(notes.iter().map(|note| note.text().to_owned()))
        .next("add the patches: `b4 am MESSAGE-ID` fetches a whole series as one mbox")
}

fn left_out(mail: &Mail, why: &str) -> String {
    format!("left out: {} ({:?}): {why}", mail.label, mail.subject())
}

/// Separates cover letters and patches, and drops replies.
fn without_replies(mails: Vec<Mail>, kind: Kind, notes: &mut Vec<Note>) -> (Vec<Mail>, Vec<Mail>) {
    // If no mail is marked as a patch, any mail may be one.
    let marked = mails.iter().any(|mail| mail.tags.patch && !mail.tags.reply);
    let is_reply = |mail: &Mail| {
        let unmarked = marked && !mail.tags.patch;
        if mail.tags.reply {
            Some("it is a reply")
        } else if unmarked && mail.fields.answers() {
            Some("it replies to another mail and is not marked as a patch")
        } else if unmarked && mail.quotes && kind == Kind::Mailbox {
            Some("it quotes another mail and is not marked as a patch")
        } else if unmarked && !mail.has_diff && kind == Kind::Mailbox {
            Some("it is not marked as a patch and has no diff")
        } else {
            None
        }
    };
    let (mut covers, mut patches) = (Vec::new(), Vec::new());
    for mail in mails {
        // format-patch writes the cover letter as 0000- or v2-0000-.
        let is_cover = mail.tags.is_cover() || (!mail.has_diff && mail.label.contains("0000-cover-letter"));
        match is_reply(&mail) {
            Some(why) if mail.has_diff => {
                let diff = "; the diff in it is not applied";
                notes.push(Note::plain(left_out(&mail, &format!("{why}{diff}"))));
            }
            Some(why) => notes.push(Note::plain(left_out(&mail, why))),
            None if is_cover => {
                if mail.has_diff {
                    let why = "it is the cover letter; the diff in it is not applied";
                    notes.push(Note::loud(left_out(&mail, why)));
                }
                covers.push(mail);
            }
            None => patches.push(mail),
        }
    }
    (covers, patches)
}

/// Drops duplicates: a mail that arrived through two lists or was sent again. Also drops a mail without a
/// diff that has the same number as one with a diff, since it is a reply with an unchanged subject.
fn without_twins(mails: Vec<Mail>, notes: &mut Vec<Note>) -> Vec<Mail> {
    let place = |mail: &Mail| mail.tags.place.map(|place| (mail.tags.version, place));
    let taken: BTreeMap<_, String> = mails
        .iter()
        .filter(|mail| mail.has_diff)
        .filter_map(|mail| Some((place(mail)?, mail.label.clone())))
        .collect();
    let mut kept: Vec<Mail> = Vec::new();
    for mail in mails {
        let same = |other: &&Mail| {
            let same_mail = mail.fields.id.is_some() && mail.fields.id == other.fields.id;
            let known = mail.tags.place.is_some() || (mail.fields.id.is_some() && other.fields.id.is_some());
            other.change() == mail.change() && (same_mail || (known && mail.tags == other.tags))
        };
        let why = if mail.has_diff {
            kept.iter().find(same).map(|first| format!("it is the same as {}", first.label))
        } else {
            let other = place(&mail).and_then(|place| taken.get(&place));
            other.map(|other| format!("it has the same number as {other}, but no diff"))
        };
        match why {
            Some(why) => notes.push(Note::plain(left_out(&mail, &why))),
            None => kept.push(mail),
        }
    }
    kept
}

/// Keeps only the newest version, if all are clearly versions of one series.
fn newest(shown: &str, covers: &[Mail], mails: Vec<Mail>, notes: &mut Vec<Note>) -> Result<Vec<Mail>> {
    let versions: BTreeSet<u32> = mails.iter().map(|mail| mail.tags.version).collect();
    let (Some(last), true) = (versions.last().copied(), versions.len() > 1) else { return Ok(mails) };
    let listed: Vec<String> = versions.iter().map(u32::to_string).collect();
    let refused = |why: String| {
        Error::new(
            Class::SeriesDoesNotApply,
            format!("{shown} mixes versions {} of a series, and {why}", listed.join(" and ")),
        )
        .next("keep the mails of one version")
    };
    let (new, old): (Vec<Mail>, Vec<Mail>) = mails.into_iter().partition(|mail| mail.tags.version == last);
    let numbered = |mails: &[Mail]| mails.iter().any(|mail| mail.tags.place.is_some());
    if numbered(&old) && !numbered(&new) {
        return Err(refused(format!(
            "version {last} is not numbered: it may replace one patch or all of them"
        )));
    }
    let places: Vec<(u32, u32)> = new.iter().filter_map(|mail| mail.tags.place).collect();
    let numbers = places.iter().map(|(number, _)| *number).collect();
    let missing = places.first().map(|(_, total)| missing(*total, &numbers));
    if let Some(missing) = missing.filter(|missing| !missing.is_empty()) {
        return Err(refused(format!("version {last} is incomplete: {missing}")));
    }
    let with = |mails: &[Mail], one: fn(&Mail) -> bool| -> BTreeSet<String> {
        mails.iter().filter(|mail| one(mail)).map(|mail| mail.tags.subject.clone()).collect()
    };
    let is_cover = |mail: &&Mail| mail.tags.version == last;
    let mut subjects = with(&new, |_| true);
    subjects.extend(covers.iter().filter(is_cover).map(|mail| mail.tags.subject.clone()));
    let mut before = with(&old, |_| true);
    before.extend(covers.iter().filter(|mail| !is_cover(mail)).map(|mail| mail.tags.subject.clone()));
    let old_ids: BTreeSet<&String> = old
        .iter()
        .chain(covers.iter().filter(|mail| !is_cover(mail)))
        .filter_map(|mail| mail.fields.id.as_ref())
        .collect();
    let mut later = new.iter().chain(covers.iter().filter(is_cover));
    let threaded = later.any(|mail| mail.fields.refers_to.iter().any(|id| old_ids.contains(id)));
    if !threaded && subjects.is_disjoint(&before) {
        return Err(refused("they have no patch in common: they may be two series".to_owned()));
    }
    let older: Vec<&str> = old.iter().map(|mail| mail.label.as_str()).collect();
    notes.push(Note::loud(format!(
        "{shown} holds versions {} of the series: version {last} is used; left out: {}",
        listed.join(" and "),
        older.join("; ")
    )));
    Ok(new)
}

/// Drops patches in reply to a numbered series, and those whose number exceeds the total.
fn without_extras(
    shown: &str,
    covers: &[Mail],
    mails: Vec<Mail>,
    notes: &mut Vec<Note>,
) -> Result<Vec<Mail>> {
    let ids: BTreeSet<String> =
        covers.iter().chain(&mails).filter_map(|mail| mail.fields.id.clone()).collect();
    let answers = |mail: &Mail| mail.fields.refers_to.iter().any(|id| ids.contains(id));
    let numbered = mails.iter().any(|mail| mail.tags.place.is_some());
    // A later version may well be a reply to the previous one.
    let first = mails.iter().map(|mail| mail.tags.version).min();
    let mut kept = Vec::new();
    for mail in mails {
        let why = match mail.tags.place {
            Some((number, total)) if number > total => "its number is beyond the end of the series",
            None if Some(mail.tags.version) > first && !mail.tags.is_fixup() => {
                kept.push(mail);
                continue;
            }
            None if answers(&mail) && (numbered || mail.tags.is_fixup()) => {
                "it replies to another mail of the thread and is not one of its numbered patches"
            }
            None if answers(&mail) && mail.tags.patch => {
                let what = format!(
                    "cannot order {shown}: {} ({:?}) replies to another patch",
                    mail.label,
                    mail.subject()
                );
                return Err(Error::new(Class::SeriesDoesNotApply, what)
                    .why("it may be the next patch of an unnumbered series, or an alternative")
                    .next("put the patches to test in separate files, in order"));
            }
            _ => {
                kept.push(mail);
                continue;
            }
        };
        let diff = if mail.has_diff { "; the diff in it is not applied" } else { "" };
        notes.push(Note::loud(left_out(&mail, &format!("{why}{diff}"))));
    }
    Ok(kept)
}

/// `3 is missing` or `4, 5 are missing`, of the numbers up to `total`; empty if all are there.
pub(super) fn missing(total: u32, there: &BTreeSet<u32>) -> String {
    let mut missing = (1..=total).filter(|number| !there.contains(number));
    let mut listed: Vec<String> =
        missing.by_ref().take(MAX_MISSING).map(|number| number.to_string()).collect();
    if missing.next().is_some() {
        listed.push("..".to_owned());
    }
    match &listed[..] {
        [] => String::new(),
        [one] => format!("{one} is missing"),
        several => format!("{} are missing", several.join(", ")),
    }
}

/// Refuses a directory with mixed versions: two with the same number or subject, or file names with different
/// versions.
pub(super) fn refuse_mixed_versions(shown: &str, mails: &[Mail]) -> Result<()> {
    let refused = |one: u32, other: u32, why: String| {
        let what = format!("{shown} mixes versions {one} and {other} of a series");
        Err(Error::new(Class::SeriesDoesNotApply, what).why(why).next("keep the patches of one version"))
    };
    let mut named: BTreeMap<u32, &str> = BTreeMap::new();
    for (at, mail) in mails.iter().enumerate() {
        for other in &mails[..at] {
            let same_place = mail.tags.place.is_some() && mail.tags.place == other.tags.place;
            let same_subject = !mail.tags.subject.is_empty() && mail.tags.subject == other.tags.subject;
            if mail.tags.version != other.tags.version && (same_place || same_subject) {
                let why = format!("{} and {} are the same patch", other.label, mail.label);
                return refused(other.tags.version, mail.tags.version, why);
            }
        }
        if let Some(version) = directory::version_of(&mail.label) {
            named.entry(version).or_insert(&mail.label);
        }
    }
    match named.iter().collect::<Vec<_>>().as_slice() {
        [(one, first), (other, second), ..] => {
            refused(**one, **other, format!("according to the file names {first} and {second}"))
        }
        _ => Ok(()),
    }
}
