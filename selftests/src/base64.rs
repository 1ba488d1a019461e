// SPDX-License-Identifier: MIT OR Apache-2.0
//! Base64, standard alphabet: the one way a shell command survives a kernel command line.

/// Decodes padded text; `None` for anything that is not exactly that.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if bytes.len() % 4 != 0 {
        return None;
    }
    let padding = bytes.iter().rev().take_while(|&&b| b == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    for quad in bytes.chunks(4) {
        let mut word = 0u32;
        for &byte in quad {
            word = word << 6 | digit(byte)?;
        }
        out.extend_from_slice(&word.to_be_bytes()[1..]);
    }
    // Padding in the middle decodes as zeros here; only at the end does it mean fewer bytes.
    if bytes[..bytes.len() - padding].contains(&b'=') {
        return None;
    }
    out.truncate(out.len() - padding);
    Some(out)
}

fn digit(byte: u8) -> Option<u32> {
    Some(match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        b'=' => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn decodes_every_padding() {
        for (text, plain) in
            [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("YWJj", "abc"), ("bHMgL3wvYmluPz8=", "ls /|/bin??")]
        {
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()), "{text}");
        }
        assert_eq!(decode("+/8=").as_deref(), Some(&[0xfb, 0xff][..]));
    }

    #[test]
    fn refuses_what_is_not_base64() {
        for text in ["YQ", "YQ=", "Y===", "YQ==YQ==", "-_8=", "YW J"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
