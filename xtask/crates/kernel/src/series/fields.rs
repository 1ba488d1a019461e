// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mail headers that git does not report.

/// Longest header that is read.
const MAX_HEAD: usize = 1 << 20;

/// Headers of a mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// Its own message ID.
    pub id: Option<String>,
    /// IDs of the mails that it replies to.
    pub refers_to: Vec<String>,
    /// Whether it has a header that every mail has.
    pub is_mail: bool,
    /// `format=flowed`: the mail program may have joined lines.
    pub flowed: bool,
}

impl Fields {
    pub fn of(raw: &[u8]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in head(raw) {
            match name.as_str() {
                "message-id" => fields.id = ids(&value).next(),
                "in-reply-to" | "references" => fields.refers_to.extend(ids(&value)),
                "content-type" => fields.flowed |= value.to_ascii_lowercase().contains("format=flowed"),
                _ => (),
            }
            fields.is_mail |= ["from", "subject", "date", "message-id"].contains(&name.as_str());
        }
        fields
    }

    /// Whether it is a reply according to its headers.
    pub fn answers(&self) -> bool {
        !self.refers_to.is_empty()
    }
}

/// Names in lower case and unfolded values, up to the first line that is not a header.
fn head(raw: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&raw[..raw.len().min(MAX_HEAD)]);
    let mut fields: Vec<(String, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if at == 0 && line.starts_with("From ") {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            match fields.last_mut() {
                Some((_, value)) if !line.trim().is_empty() => {
                    value.push(' ');
                    value.push_str(line.trim());
                    continue;
                }
                _ => break,
            }
        }
        match line.split_once(':') {
            Some((name, value)) if !name.is_empty() && name.bytes().all(|c| c.is_ascii_graphic()) => {
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            _ => break,
        }
    }
    fields
}

fn ids(value: &str) -> impl Iterator<Item = String> + '_ {
    value.split('<').skip(1).filter_map(|rest| Some(rest.split_once('>')?.0.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_folded_fields_of_any_case() {
        let mail = b"From mboxrd@z Thu Jan  1 00:00:00 1970\nMESSAGE-ID: <a@b>\r\nIn-reply-to:\n <c@d> (Ann)\n\
                     References: <e@f>\n\t<g@h>\nContent-Type: text/plain;\n format=Flowed\n\nIn-Reply-To: <not@head>\n";
        let fields = Fields::of(mail);
        assert_eq!(fields.id.as_deref(), Some("a@b"));
        assert_eq!(fields.refers_to, ["c@d", "e@f", "g@h"]);
        assert!(fields.flowed && fields.is_mail && fields.answers());
        for bare in
            [&b"diff --git a/x b/x\n"[..], b"Note: a remark\n\nFrom: a\n", b"", b"From abc\n is quoted\n"]
        {
            assert!(!Fields::of(bare).is_mail, "{bare:?}");
        }
    }
}
