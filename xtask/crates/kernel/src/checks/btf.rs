// SPDX-License-Identifier: MIT OR Apache-2.0
//! Types and functions of a kernel, as its BTF describes them: what BPF programs and tracers depend on.
//! pahole prints structs with their layout, pfunct prints prototypes, and bpftool prints enums.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::checks::{Changed, changed};
use vmtest_base::error::{Error, Result};
use vmtest_host::process::Job;
use vmtest_host::sandbox::{ON_PATH, Sandbox, Tools};

/// Time limit of one program; each takes a fraction of a second.
const LIMIT: Duration = Duration::from_secs(120);

/// The types and functions of one kernel, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Btf {
    pub types: BTreeMap<String, String>,
    pub functions: BTreeMap<String, String>,
}

impl Btf {
    /// Reads the vmlinux in `kernel`. `bpftool`: the directory with a bpftool; without one, enums are not
    /// read.
    ///
    /// # Errors
    /// Class `Host` if a program fails or prints nothing.
    pub fn of(tools: &Tools, kernel: &Path, bpftool: Option<&Path>) -> Result<Btf> {
        let sandbox = Sandbox::new(tools).read_only(kernel, "/kernel");
        let sandbox = match bpftool {
            Some(dir) => sandbox.read_only(dir, ON_PATH),
            None => sandbox,
        };
        let vmlinux = sandbox.see("/kernel/vmlinux");
        let run = |program: &str, arguments: &[&str], more: &[&str]| {
            let mut command = sandbox.command(program);
            command.args(arguments).arg(&vmlinux).args(more);
            let what = format!("{program} cannot read the kernel's BTF");
            Ok(Job::new(command).deadline(LIMIT).run()?.ok(what)?.stdout)
        };
        let mut types = blocks(&run("pahole", &["-F", "btf"], &[])?, &["struct ", "union "]);
        if bpftool.is_some() {
            let program = sandbox.see(ON_PATH).join("bpftool");
            let text = run(&program.to_string_lossy(), &["btf", "dump", "file"], &["format", "c"])?;
            types.extend(blocks(&text, &["enum "]));
        }
        let functions = prototypes(&run("pfunct", &["-F", "btf", "-P", "--all"], &[])?);
        Btf { types, functions }.filled()
    }

    /// Itself, if there is something to compare.
    fn filled(self) -> Result<Btf> {
        if self.types.is_empty() || self.functions.is_empty() {
            let (types, functions) = (self.types.len(), self.functions.len());
            return Err(Error::host("the kernel's BTF is not readable")
                .why(format!("pahole and pfunct show {types} types and {functions} functions")));
        }
        Ok(self)
    }

    /// The types and the functions that differ in a later kernel.
    pub fn changes(&self, after: &Btf) -> (Vec<Changed>, Vec<Changed>) {
        (changed(&self.types, &after.types), changed(&self.functions, &after.functions))
    }
}

/// `struct NAME {` to `};`, by `struct NAME`. Anonymous ones have no name to compare by; they are part of the
/// types that use them.
fn blocks(text: &str, kinds: &[&str]) -> BTreeMap<String, String> {
    let mut blocks = BTreeMap::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        if let Some((name, mut body)) = open.take() {
            if line.starts_with('}') {
                blocks.insert(name, body);
                continue;
            }
            body.push_str(line.trim());
            body.push('\n');
            open = Some((name, body));
        } else if kinds.iter().any(|kind| line.starts_with(kind)) {
            open = line
                .strip_suffix(" {")
                .filter(|name| name.contains(' '))
                .map(|name| (name.to_owned(), String::new()));
        }
    }
    blocks
}

/// `int f(struct a * x);` by `f`.
fn prototypes(text: &str) -> BTreeMap<String, String> {
    let named = |line: &str| {
        let before = line.split('(').next()?;
        let name = before.rsplit([' ', '*']).next().filter(|name| !name.is_empty())?;
        Some((name.to_owned(), line.trim_end_matches(';').to_owned()))
    };
    text.lines().filter_map(named).collect()
}

/// The change of a type in a few words: `struct a: size 16 -> 24`, `+ struct b`.
pub fn line(change: &Changed) -> String {
    let name = &change.name;
    let size = |text: &Option<String>| {
        let text = text.as_deref()?;
        let line = text.lines().find_map(|line| line.strip_prefix("/* size: "))?;
        line.split(',').next().map(str::to_owned)
    };
    match (&change.was, &change.is) {
        (None, _) => format!("+ {name}"),
        (_, None) => format!("- {name}"),
        (was, is) => match (size(was), size(is)) {
            (Some(was), Some(is)) if was != is => format!("{name}: size {was} -> {is}"),
            _ => match first_difference(was.as_deref(), is.as_deref()) {
                Some((was, is)) => format!("{name}: {was} -> {is}"),
                None => format!("{name}: changed"),
            },
        },
    }
}

/// The first lines that differ, without the comments about offsets.
fn first_difference(was: Option<&str>, is: Option<&str>) -> Option<(String, String)> {
    let plain = |line: &str| {
        let line = line.split("/*").next().unwrap_or(line);
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (was, is) = (was?, is?);
    let mut pairs = was.lines().map(plain).zip(is.lines().map(plain));
    pairs.find(|(was, is)| was != is)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = include_str!("btf/before.txt");

    #[test]
    fn structs_are_compared_by_their_layout() {
        let before = blocks(BEFORE, &["struct ", "union "]);
        assert!(
            before.contains_key("struct rcuwait") && before.contains_key("struct callback_head"),
            "{before:?}"
        );
        let after = blocks(&BEFORE.replace("struct task_struct *       task;                 /*     0     8 */",
            "long                       more;                 /*     0     8 */\n\tstruct task_struct *       task;                 /*     8     8 */"),
            &["struct "]);
        let changes = changed(&before, &after);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(line(&changes[0]), "struct rcuwait: struct task_struct * task; -> long more;");
        assert!(changed(&before, &before).is_empty());
    }

    #[test]
    fn a_kernel_without_types_or_functions_is_not_compared() {
        let types = blocks(BEFORE, &["struct "]);
        let functions = prototypes("int f(void);\n");
        assert!(Btf::default().filled().is_err());
        assert!(Btf { types: types.clone(), ..Btf::default() }.filled().is_err());
        assert!(Btf { functions: functions.clone(), ..Btf::default() }.filled().is_err());
        assert!(Btf { types, functions }.filled().is_ok());
    }

    #[test]
    fn functions_are_compared_by_their_prototype() {
        let before = prototypes(
            "void BUG_func(void);\nstruct file * fget(unsigned int fd);\nvoid f(struct seq_file * m, const char  * fmt, ...);\n",
        );
        assert_eq!(before.keys().map(String::as_str).collect::<Vec<_>>(), ["BUG_func", "f", "fget"]);
        let after = prototypes("void BUG_func(void);\nstruct file * fget(int fd);\nint g(void);\n");
        let lines: Vec<String> = changed(&before, &after).iter().map(line).collect();
        assert_eq!(
            lines,
            ["- f", "fget: struct file * fget(unsigned int fd) -> struct file * fget(int fd)", "+ g"]
        );
    }

    #[test]
    fn a_named_enum_is_read_and_an_anonymous_one_is_not() {
        let text = "enum {\n\tA = 0,\n};\n\nenum bpf_attach_type {\n\tBPF_X = 0,\n\tBPF_Y = 1,\n};\n";
        let enums = blocks(text, &["enum "]);
        assert_eq!(enums.len(), 1);
        assert_eq!(enums["enum bpf_attach_type"], "BPF_X = 0,\nBPF_Y = 1,\n");
    }
}
