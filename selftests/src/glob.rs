// SPDX-License-Identifier: MIT OR Apache-2.0
//! Globs of subtest names: `*` matches any text (including slashes), `?` any single character.

/// Whether `glob` matches the whole of `text`.
pub fn matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t) = (0, 0);
    // Where to retry after a mismatch: after the last star, one character further on.
    let mut retry = None;
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                retry = Some((g, t));
                g += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                g += 1;
                t += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                (g, t) = (star + 1, from + 1);
            }
        }
    }
    glob[g..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs() {
        for (glob, text) in [
            ("*", ""),
            ("*", "a/b"),
            ("basic/*", "basic/x"),
            ("*/args_?", "basic/args_7"),
            ("a*b*c", "aXbXbc"),
        ] {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in
            [("", "a"), ("basic", "basic/x"), ("?", ""), ("a*b", "abc"), ("*/args_?", "basic/args_10")]
        {
            assert!(!matches(glob, text), "{glob} {text}");
        }
    }
}
