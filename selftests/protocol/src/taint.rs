// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bits of `/proc/sys/kernel/tainted`, and which of them indicate a problem.
//!
//! Only bits that the kernel sets because of its own trouble are bad. The others also occur in good runs, or
//! because of user space: test modules are unsigned, out of tree and marked as tests (E, O, N); a kernel
//! parameter names a CPU feature (S); firmware has a quirk (I); structures are randomised (T); a dangerous
//! file was written, or a module was loaded or unloaded by force (U, F, R).
//!
//! How it could be wrong: a flag that a later kernel adds for damage is unknown here and does not count. All
//! flags added since 4.17 (X, T, N, J) are harmless.

/// A bit, its letter in kernel messages, its meaning, and whether it is bad.
struct Flag {
    bit: u32,
    letter: char,
    text: &'static str,
    bad: bool,
}

impl Flag {
    fn words(&self) -> String {
        format!("{} ({})", self.letter, self.text)
    }
}

const fn flag(bit: u32, letter: char, text: &'static str) -> Flag {
    Flag { bit, letter, text, bad: false }
}

const fn bad(bit: u32, letter: char, text: &'static str) -> Flag {
    Flag { bit, letter, text, bad: true }
}

/// kernel/panic.c, `taint_flags`.
const FLAGS: [Flag; 20] = [
    flag(0, 'P', "a proprietary module"),
    flag(1, 'F', "a module was forced in"),
    flag(2, 'S', "a CPU outside of its specification"),
    flag(3, 'R', "a module was forced out"),
    bad(4, 'M', "a machine check"),
    bad(5, 'B', "a bad page or object"),
    flag(6, 'U', "user space asked for it"),
    bad(7, 'D', "an oops or BUG"),
    flag(8, 'A', "an ACPI table was replaced"),
    bad(9, 'W', "a warning"),
    flag(10, 'C', "a staging driver"),
    flag(11, 'I', "a firmware bug was worked around"),
    flag(12, 'O', "a module from outside of the tree"),
    flag(13, 'E', "an unsigned module"),
    bad(14, 'L', "a soft lockup"),
    flag(15, 'K', "a live patch"),
    flag(16, 'X', "something that the distribution defines"),
    flag(17, 'T', "randomised structures"),
    flag(18, 'N', "an in-kernel test"),
    flag(19, 'J', "a firmware control call"),
];

/// An oops or BUG: the kernel died, and nothing can explain that away.
pub const DIED: u64 = 1 << 7;
/// A machine check.
pub const MACHINE_CHECK: u64 = 1 << 4;
/// A bad page, or a memory error found by a sanitizer.
pub const BAD_PAGE: u64 = 1 << 5;
/// A warning.
pub const WARNED: u64 = 1 << 9;
/// A soft lockup.
pub const SOFT_LOCKUP: u64 = 1 << 14;

/// The bits that indicate a problem.
pub fn bad_bits(tainted: u64) -> u64 {
    FLAGS.iter().filter(|flag| flag.bad).fold(0, |bits, flag| bits | 1 << flag.bit) & tainted
}

const TITLE: &str = "kernel tainted: ";

/// The title of a warning that consists only of taint: `kernel tainted: B (a bad page or object), W (a
/// warning)`.
pub fn title(tainted: u64) -> String {
    let known = FLAGS.iter().filter(|flag| tainted & 1 << flag.bit != 0);
    let words: Vec<String> = known.map(Flag::words).collect();
    format!("{TITLE}{}", words.join(", "))
}

/// The bits that such a title names; 0 for any other title.
pub fn named(title: &str) -> u64 {
    let named = FLAGS.iter().filter(|flag| title.starts_with(TITLE) && title.contains(&flag.words()));
    named.fold(0, |bits, flag| bits | 1 << flag.bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_from_what_a_good_run_may_bring() {
        for (bit, letter) in [(4, 'M'), (5, 'B'), (7, 'D'), (9, 'W'), (14, 'L')] {
            assert_eq!(bad_bits(1 << bit), 1 << bit, "{letter}");
            assert!(title(1 << bit).starts_with(&format!("kernel tainted: {letter} (")), "{letter}");
        }
        let harmless = [0, 1, 2, 3, 6, 8, 10, 11, 12, 13, 15, 16, 17, 18, 19, 20, 63];
        assert_eq!(bad_bits(harmless.iter().map(|bit| 1 << bit).sum()), 0);
        assert_eq!(bad_bits(u64::MAX), DIED | MACHINE_CHECK | BAD_PAGE | WARNED | SOFT_LOCKUP);
        assert_eq!(title(1 << 9 | 1 << 5), "kernel tainted: B (a bad page or object), W (a warning)");
        assert_eq!(named(&title(1 << 9 | 1 << 5)), 1 << 9 | 1 << 5);
        assert_eq!(named("WARNING: W (a warning)"), 0);
    }

    #[test]
    fn each_bit_stands_at_its_place() {
        assert!(FLAGS.iter().enumerate().all(|(at, flag)| flag.bit as usize == at));
    }
}
