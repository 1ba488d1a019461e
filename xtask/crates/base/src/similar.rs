// SPDX-License-Identifier: MIT OR Apache-2.0
//! "Did you mean": the valid value that a wrong one resembles.

/// The most similar of the known values; `None` if none is similar. At most one typing error in four letters.
pub fn closest<T: AsRef<str>>(wrong: &str, known: impl IntoIterator<Item = T>) -> Option<String> {
    let most = wrong.chars().count().div_ceil(4);
    let distance = |known: &str| strsim::damerau_levenshtein(&wrong.to_lowercase(), &known.to_lowercase());
    let near = known.into_iter().map(|known| (distance(known.as_ref()), known.as_ref().to_owned()));
    // If several are equally close, the first in the alphabet: the order of the values must not matter.
    near.filter(|(distance, _)| *distance <= most).min().map(|(_, known)| known)
}

/// `next`, after a question if a known value is similar.
pub fn or<T: AsRef<str>>(wrong: &str, known: impl IntoIterator<Item = T>, next: &str) -> String {
    match closest(wrong, known) {
        Some(known) => format!("did you mean `{known}`? Otherwise, {next}"),
        None => next.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_error_in_four_letters_is_a_typing_error() {
        let known = ["basic", "cookie", "mixed", "nojit", "6.18.15", "v6.18"];
        for (wrong, right) in [
            ("cokie", Some("cookie")),
            ("cookei", Some("cookie")),
            ("Basic", Some("basic")),
            ("6.81.15", Some("6.18.15")),
            ("v6.81", Some("v6.18")),
            ("cook", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(closest(wrong, known).as_deref(), right, "{wrong}");
        }
        assert_eq!(or("nogit", known, "list them"), "did you mean `nojit`? Otherwise, list them");
        assert_eq!(or("unlike", known, "list them"), "list them");
        assert_eq!(closest("ab", ["ac", "aa"]).as_deref(), Some("aa"));
    }
}
