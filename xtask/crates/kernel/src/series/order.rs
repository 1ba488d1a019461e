// SPDX-License-Identifier: MIT OR Apache-2.0
//! Orders the patches, and checks that none is missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::series::mail::Mail;
use crate::series::thread::{self, Chosen, Kind};
use crate::series::{Patch, Series};
use vmtest_base::error::{Class, Error, Result};

/// A directory is applied in the order of its file names. Numbers in subjects only serve to detect missing
/// patches.
pub(super) fn order_directory(shown: &str, name: String, mails: Vec<Mail>) -> Result<Series> {
    let chosen = thread::choose(shown, mails, Kind::Directory)?;
    let mut groups: BTreeMap<(u32, u32), Vec<&Mail>> = BTreeMap::new();
    for mail in &chosen.patches {
        if let Some((_, total)) = mail.tags.place {
            groups.entry((mail.tags.version, total)).or_default().push(mail);
        }
    }
    thread::refuse_mixed_versions(shown, &chosen.patches)?;
    for ((_, total), group) in groups {
        check_numbers(shown, total, &group)?;
    }
    into_series(name, chosen)
}

/// An mbox can have any order and contain replies, so the numbers in the subjects decide.
pub(super) fn order_mbox(shown: &str, name: String, mails: Vec<Mail>) -> Result<Series> {
    let mut chosen = thread::choose(shown, mails, Kind::Mailbox)?;
    let patches = &mut chosen.patches;
    let numbered = patches.iter().filter(|mail| mail.tags.place.is_some()).count();
    if numbered == 0 {
        return into_series(name, chosen);
    }
    if let Some(odd) = patches.iter().find(|mail| mail.tags.place.is_none()) {
        let what = format!(
            "cannot order {shown}: {} ({:?}) has no number, but others do",
            odd.label, odd.tags.subject
        );
        return Err(
            Error::new(Class::SeriesDoesNotApply, what).next("remove it, or give a directory of patches")
        );
    }
    let totals: BTreeSet<u32> = patches.iter().filter_map(|m| m.tags.place).map(|(_, total)| total).collect();
    let total = totals.iter().next().copied().unwrap_or(0);
    if totals.len() > 1 {
        let listed: Vec<String> = totals.iter().map(|total| format!("n/{total}")).collect();
        let what = format!("cannot order {shown}: it holds more than one series ({})", listed.join(", "));
        return Err(Error::new(Class::SeriesDoesNotApply, what).next("give one mbox per series, in order"));
    }
    let checked = check_numbers(shown, total, &patches.iter().collect::<Vec<_>>());
    checked.map_err(|error| error.detail(chosen.notes.iter().map(|note| note.text().to_owned())))?;
    patches.sort_by_key(|mail| mail.tags.place);
    into_series(name, chosen)
}

pub(super) fn into_series(name: String, chosen: Chosen) -> Result<Series> {
    let Chosen { patches: mails, notes, base_commit, letter, prerequisites } = chosen;
    let count = mails.len();
    let patches: Result<Vec<Patch>> =
        mails.into_iter().enumerate().map(|(at, mail)| mail.into_patch(at, count)).collect();
    let (patches, origin) = (patches?, None);
    Ok(Series { name, patches, base_commit, of: count, origin, notes, letter, prerequisites })
}

fn check_numbers(shown: &str, total: u32, mails: &[&Mail]) -> Result<()> {
    let mut labels: BTreeMap<u32, &str> = BTreeMap::new();
    for mail in mails {
        let number = mail.tags.place.map_or(0, |(number, _)| number);
        if let Some(first) = labels.insert(number, &mail.label) {
            let what = format!("{shown} holds patch {number}/{total} twice");
            return Err(Error::new(Class::SeriesDoesNotApply, what)
                .why(format!("{first} and {}", mail.label))
                .next("remove one of them"));
        }
    }
    let missing = thread::missing(total, &labels.keys().copied().collect());
    if !missing.is_empty() {
        let what = format!("{shown} is incomplete: of {total} patches, {missing}");
        return Err(Error::new(Class::SeriesDoesNotApply, what)
            .next("add the missing patches; to leave them out on purpose, name the patch files one by one"));
    }
    Ok(())
}
