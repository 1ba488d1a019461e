// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares the conditions of a variant (`[[condition]]`) with what the runner read in the guest. Pure.
//!
//! An emulator builds and boots a kernel with indirect branch tracking on a CPU that does not support it.
//! Such a pass only proves the code layout, so the record says `enforced: false` with the value that was
//! read. If only the kernel decides, a variant requires its condition (`must`): a guest that does not meet it
//! is not what its column is called, and nothing in it passes.
//!
//! How it could be wrong: the value is the kernel's own report. A kernel that reports `Mitigation:
//! Retpolines` but was compiled without them would be believed.

use std::collections::BTreeMap;

use crate::judge::Verdict;
use vmtest_base::condition::Condition;
use vmtest_base::error::Class;
use vmtest_record::run::ConditionRecord;

/// The value of something that was not read.
const UNKNOWN: &str = "not read";

/// Each condition, and whether the guest met it.
pub fn check(conditions: &[Condition], features: &BTreeMap<String, String>) -> Vec<ConditionRecord> {
    let check = |condition: &Condition| {
        let value = features.get(&condition.read);
        ConditionRecord {
            what: condition.what.clone(),
            read: condition.read.clone(),
            wanted: condition.text.clone(),
            value: value.cloned().unwrap_or_else(|| UNKNOWN.to_owned()),
            enforced: value.is_some_and(|value| condition.is.is_match(value)),
            must: condition.must,
        }
    };
    conditions.iter().map(check).collect()
}

/// For the cells: whether all of them were met; `None` without conditions.
pub fn enforced(found: &[ConditionRecord]) -> Option<bool> {
    (!found.is_empty()).then(|| found.iter().all(|one| one.enforced))
}

/// A completed boot of a guest that does not meet what its variant requires is not a pass.
pub fn judge(found: &[ConditionRecord], verdict: Verdict) -> Verdict {
    let lacking = found.iter().find(|one| one.must && !one.enforced);
    match (lacking, verdict.class) {
        // A warning from such a kernel still counts, but its cells would be passes.
        (Some(one), Class::Pass | Class::Splat) => Verdict {
            class: Class::Host,
            reason: format!(
                "the guest is not what its variant is about ({}): {} is {:?}, wanted is {}",
                one.what, one.read, one.value, one.wanted
            ),
        },
        _ => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(is: &str, must: bool) -> Condition {
        Condition::new("it counts", "retbleed", is, must).expect("a condition")
    }

    fn features(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("retbleed".to_owned(), value.to_owned())])
    }

    fn verdict(class: Class) -> Verdict {
        Verdict { class, reason: "before".to_owned() }
    }

    #[test]
    fn the_whole_text_has_to_be_as_wanted() {
        let enforced = |is: &str, value: &str| check(&[condition(is, true)], &features(value))[0].enforced;
        assert!(enforced("Mitigation: Stuffing.*", "Mitigation: Stuffing"));
        assert!(!enforced("Mitigation: Stuffing.*", "not Mitigation: Stuffing"));
        assert!(enforced("2", "2") && !enforced("2", "12") && !enforced("2", "2\n1"));
        let found = check(&[condition("2", true)], &BTreeMap::new());
        assert_eq!((found[0].enforced, found[0].value.as_str()), (false, UNKNOWN));
        assert_eq!(crate::judge::conditions::enforced(&found), Some(false));
        assert_eq!(crate::judge::conditions::enforced(&[]), None);
    }

    #[test]
    fn what_a_variant_demands_and_the_guest_has_not_is_no_pass() {
        for (must, value, before, after) in [
            (true, "Vulnerable", Class::Pass, Class::Host),
            (true, "Vulnerable", Class::Splat, Class::Host),
            (true, "Vulnerable", Class::Panic, Class::Panic),
            (true, "Vulnerable", Class::Interrupted, Class::Interrupted),
            (true, "yes", Class::Pass, Class::Pass),
            (false, "Vulnerable", Class::Pass, Class::Pass),
        ] {
            let found = check(&[condition("yes", must)], &features(value));
            assert_eq!(judge(&found, verdict(before)).class, after, "{must} {value} {before:?}");
        }
    }
}
