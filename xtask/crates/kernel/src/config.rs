// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests for kconfig options, and whether the resulting `.config` kept them. If an option were dropped
//! silently, the kernel would boot and its tests would fail for no visible reason.
//!
//! A fragment holds `CONFIG_X=value` and `# CONFIG_X is not set` lines. Of the lines between `# vmtest:
//! either` and `# vmtest: end`, at least one must hold. This module does not run `make`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::kconfig::Kconfig;
use crate::reserved;
use vmtest_base::dotconfig::DotConfig;
use vmtest_base::error::{Class, Error, Result};
use vmtest_base::files::read_text;
use vmtest_base::key::Key;

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Yes,
    Module,
    /// `n`, or not set.
    No,
    /// A number or a quoted string, as written in the file.
    Text(String),
}

impl Value {
    fn parse(text: &str) -> Option<Value> {
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
        let is_hex = |digits: &str| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_hexdigit());
        match text {
            "y" => Some(Value::Yes),
            "m" => Some(Value::Module),
            "n" => Some(Value::No),
            _ if is_number(text.strip_prefix('-').unwrap_or(text)) => Some(Value::Text(text.into())),
            _ if text.strip_prefix("0x").is_some_and(is_hex) => Some(Value::Text(text.into())),
            _ if text.len() > 1 && text.starts_with('"') && text.ends_with('"') => {
                Some(Value::Text(text.into()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Value::Yes => "y",
            Value::Module => "m",
            Value::No => "n",
            Value::Text(text) => text,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Without `CONFIG_`.
    pub option: String,
    /// The requested value.
    pub value: Value,
    /// `file:line`
    pub origin: String,
    /// Number of the `either` block around it, if any.
    pub either: Option<usize>,
}

/// Merged requests: the last one for an option wins.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    by_option: BTreeMap<String, Request>,
    blocks: usize,
    /// The whole configuration below the requests; empty for `allnoconfig`.
    base: BTreeMap<String, String>,
}

/// Options of a base that name files which only its distribution has.
const NAMES_FILES: [&str; 3] = ["SYSTEM_TRUSTED_KEYS", "SYSTEM_REVOCATION_KEYS", "INITRAMFS_SOURCE"];

impl Requests {
    /// All of them, sorted by option.
    pub fn iter(&self) -> impl Iterator<Item = &Request> {
        self.by_option.values()
    }

    /// The fragment for `KCONFIG_ALLCONFIG`.
    pub fn merged_text(&self) -> String {
        let mut text = String::new();
        let below = self.base.iter().filter(|(option, _)| !self.by_option.contains_key(*option));
        below.for_each(|(_, line)| text.push_str(&format!("{line}\n")));
        for Request { option, value, .. } in self.by_option.values() {
            text.push_str(&match value {
                Value::No => format!("# CONFIG_{option} is not set\n"),
                value => format!("CONFIG_{option}={value}\n"),
            });
        }
        text
    }

    /// Hash of the requests, independent of where they come from.
    pub fn key(&self) -> Key {
        let key = Key::of("config-1").field("requests", self.merged_text());
        if self.base.is_empty() { key.finish() } else { key.field("target", self.target()).finish() }
    }

    /// The make target for [`Self::merged_text`]: it decides the options that the text leaves open.
    pub fn target(&self) -> &'static str {
        if self.base.is_empty() { "allnoconfig" } else { "alldefconfig" }
    }

    /// Puts the requests on top of a whole `.config`. Returns its lines that are left out: they are reserved, or name
    /// files of a distribution.
    ///
    /// # Errors
    /// Class `Usage` if it is not a `.config`.
    pub fn put_on(&mut self, name: &str, text: &str) -> Result<Vec<String>> {
        let mut left_out = Vec::new();
        for (option, value) in vmtest_base::dotconfig::parse(text) {
            let plain = option.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
            let Some(value) = Value::parse(&value).filter(|_| plain) else { continue };
            let line = match &value {
                Value::No => format!("# CONFIG_{option} is not set"),
                value => format!("CONFIG_{option}={value}"),
            };
            let file = NAMES_FILES.contains(&option.as_str()) && value != Value::Text("\"\"".to_owned());
            if file || reserved::of_option(&option, &value.to_string()).is_some() {
                left_out.push(line);
            } else {
                self.base.insert(option, line);
            }
        }
        if self.base.is_empty() {
            return Err(Error::usage(format!("{name} is not a kernel configuration"))
                .why("it has no CONFIG_ line")
                .next("use the .config of a build, or /boot/config-VERSION; --config takes a fragment"));
        }
        Ok(left_out)
    }

    /// Adds the text of one fragment; `name` is shown in origins.
    ///
    /// # Errors
    /// Class `Usage` with `name:line` for a line that is malformed, contradicts another one or sets a
    /// reserved option.
    pub fn add(&mut self, name: &str, text: &str) -> Result<()> {
        let mut either: Option<(usize, usize)> = None;
        let mut here: BTreeMap<String, (usize, Value)> = BTreeMap::new();
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            let origin = format!("{name}:{number}");
            let malformed = |why: &str| {
                Err(Error::usage(format!("{origin}: {why}: {line:?}"))
                    .next("kconfig/README.md lists what a fragment may contain"))
            };
            if let Some(directive) = line.strip_prefix("# vmtest:") {
                match (directive.trim(), either) {
                    ("either", None) => {
                        self.blocks += 1;
                        either = Some((self.blocks, number));
                    }
                    ("end", Some(_)) => either = None,
                    ("either", Some(_)) => return malformed("`either` inside `either`"),
                    ("end", None) => return malformed("`end` without `either`"),
                    _ => return malformed("no such directive"),
                }
                continue;
            }
            let unset = line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set"));
            let (option, value) = match (unset, line.strip_prefix("CONFIG_")) {
                (Some(option), _) => (option, Value::No),
                (None, Some(setting)) => match setting.split_once('=') {
                    Some((option, value)) => match Value::parse(value) {
                        Some(value) => (option, value),
                        None => {
                            return malformed("the value is neither y, m, n, a number nor a quoted string");
                        }
                    },
                    None => return malformed("it has no `=`"),
                },
                (None, None) if line.is_empty() || line.starts_with('#') => continue,
                (None, None) => return malformed("it does not request an option"),
            };
            if option.is_empty() || !option.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
                return malformed("not a valid option name");
            }
            if let Some(found) = reserved::of_option(option, &value.to_string()) {
                return Err(found.refused(format!("{origin}: {line}")));
            }
            if let Some((before, other)) = here.insert(option.to_owned(), (number, value.clone())) {
                if other != value {
                    return malformed(&format!("it contradicts line {before}"));
                }
            }
            let either = either.map(|(block, _)| block);
            let request = Request { option: option.to_owned(), value, origin, either };
            self.by_option.insert(option.to_owned(), request);
        }
        match either {
            Some((_, line)) => Err(Error::usage(format!("{name}:{line}: `either` has no `end`"))),
            None => Ok(()),
        }
    }
}

/// Reads fragments; later ones override earlier ones.
///
/// # Errors
/// Class `Usage` for a malformed line, a host error for a file that cannot be read.
pub fn read(fragments: &[PathBuf]) -> Result<Requests> {
    let mut requests = Requests::default();
    for path in fragments {
        requests.add(&shown(path), &read_text(path)?)?;
    }
    Ok(requests)
}

/// The path from `kconfig/` on, as known from the project.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.rfind("/kconfig/").map_or(text.as_ref(), |at| &text[at + 1..]).to_owned()
}

/// A request that the configuration did not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Without `CONFIG_`.
    pub option: String,
    /// The requested value.
    pub wanted: String,
    /// The actual value; `n` if the option is missing.
    pub got: String,
    /// Where it was requested.
    pub origin: String,
    /// The reasons found in the Kconfig files; empty before [`explain`].
    pub missing: Vec<String>,
}

/// The requests that the configuration did not keep.
pub fn lost(requests: &Requests, dotconfig: &DotConfig) -> Vec<Lost> {
    let got = |request: &Request| dotconfig.get(&request.option).map_or("n", String::as_str);
    let holds = |request: &&Request| got(request) == request.value.to_string();
    let kept: BTreeSet<usize> = requests.iter().filter(holds).filter_map(|request| request.either).collect();
    requests
        .iter()
        .filter(|request| !holds(request))
        .filter(|request| request.either.is_none_or(|block| !kept.contains(&block)))
        .map(|request| Lost {
            option: request.option.clone(),
            wanted: request.value.to_string(),
            got: got(request).to_owned(),
            origin: match request.either {
                Some(_) => format!("{}, in a block where one line must hold", request.origin),
                None => request.origin.clone(),
            },
            missing: Vec::new(),
        })
        .collect()
}

/// Adds the reasons, from the Kconfig files of the tree.
pub fn explain(lost: &mut [Lost], tree: &Path, dotconfig: &DotConfig) {
    if lost.is_empty() {
        return;
    }
    let kconfig = Kconfig::read(tree);
    for one in lost {
        one.missing = if kconfig.is_empty() {
            vec![format!("unknown reason: cannot read any Kconfig file in {}", tree.display())]
        } else {
            kconfig.explain(&one.option, &one.wanted, dotconfig)
        };
    }
}

/// The error that names all of them.
pub fn lost_error(lost: &[Lost], kernel_id: &str) -> Error {
    let line = |one: &Lost| {
        let Lost { option, wanted, got, origin, missing: _ } = one;
        format!("CONFIG_{option}={wanted} became {got} (requested at {origin})")
    };
    let first = lost.first().map(line).unwrap_or_default();
    let what = match lost.len() {
        0 | 1 => format!("{kernel_id}: a requested option is lost: {first}"),
        count => format!("{kernel_id}: {count} requested options are lost, first {first}"),
    };
    let mut error = Error::new(Class::OptionLost, what);
    if let Some(cause) = lost.first().and_then(|one| one.missing.first()) {
        error = error.why(cause);
    }
    for (at, one) in lost.iter().enumerate() {
        // The first line and its first cause are already shown above.
        let shown = usize::from(at == 0);
        let head = (lost.len() > 1).then(|| line(one));
        let causes = one.missing.iter().skip(if lost.len() > 1 { 0 } else { shown });
        error = error.detail(head.into_iter().chain(causes.map(|cause| format!("  {cause}"))));
    }
    error.next("request the missing options too, in a fragment of the variant, or drop this request")
}

#[cfg(test)]
mod tests;
