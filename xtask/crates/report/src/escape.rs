// SPDX-License-Identifier: MIT OR Apache-2.0
//! Escapes untrusted text for the languages that reports are written in. Names, reasons and logs come from
//! guests and patches: none of it may end an element, start a command, or contain a character that a parser
//! rejects.

use vmtest_base::sanitize::lines;

/// XML 1.0 cannot represent most control characters, not even as a reference.
fn is_xml(c: char) -> bool {
    !matches!(c, '\u{fffe}' | '\u{ffff}') && (c >= ' ' || c == '\n' || c == '\t')
}

/// Unescaped text with characters that are invalid in XML replaced.
pub fn xml_chars(text: &str) -> String {
    lines(text).chars().map(|c| if is_xml(c) { c } else { '\u{fffd}' }).collect()
}

/// Text of an element, or of an attribute in double quotes, in XML and HTML. A parser turns line breaks in an
/// attribute into spaces.
pub fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in xml_chars(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
    out
}

/// One line of Markdown without any markup, in a table either: every character that could be markup becomes a
/// reference.
pub fn markdown(text: &str) -> String {
    let text: Vec<char> = lines(text).chars().collect();
    let mut out = String::with_capacity(text.len());
    let is_word = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(char::is_ascii_alphanumeric);
    for (at, c) in text.iter().copied().enumerate() {
        match c {
            '\n' | '\t' => out.push(' '),
            // Inside a word an underscore is not markup.
            '_' if is_word(at.checked_sub(1)) && is_word(Some(at + 1)) => out.push(c),
            c if c.is_ascii_punctuation() && !"-./:+=,()".contains(c) => {
                out.push_str(&format!("&#{};", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

/// The message of a workflow command: it ends at the end of its line.
pub fn command(text: &str) -> String {
    lines(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a workflow command: it also ends at a comma or two colons.
pub fn command_property(text: &str) -> String {
    command(text).replace(':', "%3A").replace(',', "%2C")
}

/// Description of a KTAP result: `#` starts a directive, and it must fit on one line.
pub fn ktap(text: &str) -> String {
    let mut line: String = lines(text).split_whitespace().collect::<Vec<_>>().join(" ");
    line = line.replace('#', "+");
    // A parser would strip this as the separator before the description.
    line.trim_start_matches("- ").to_owned()
}

/// At most this many bytes, cut at a character boundary, with a mark.
pub fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}\n[cut here: {} bytes more in run.json]", &text[..end], text.len() - end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a|b`c`*d*<script>&\"'[x](y)@z\n::error::x%0A\u{0}\u{8}\u{1b}[2J\u{ffff}# SKIP";

    #[test]
    fn nothing_of_a_stranger_is_markup() {
        let text = xml(HOSTILE);
        assert!(!text.contains(['<', '>', '"', '\'', '\u{0}', '\u{8}', '\u{1b}', '\u{ffff}']), "{text}");
        assert!(text.starts_with("a|b`c`*d*&lt;script&gt;&amp;&quot;&apos;"));
        let text = markdown(HOSTILE);
        assert!(!text.contains(['|', '`', '*', '<', '>', '[', '@', '\n', '\u{1b}']), "{text}");
        assert_eq!(markdown("_a_b__c_ :x:"), "&#95;a_b&#95;&#95;c&#95; :x:");
        let text = command(HOSTILE);
        assert!(!text.contains('\n') && text.contains("%0A::error::x%250A"), "{text}");
        assert!(!command_property("a:b,c").contains([':', ',']));
        assert!(!ktap(HOSTILE).contains(['#', '\n']));
        assert_eq!(ktap("- ok 1  two"), "ok 1 two");
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("äöü", 6), "äöü");
        assert_eq!(cut("äöü", 3), "ä\n[cut here: 4 bytes more in run.json]");
    }
}
