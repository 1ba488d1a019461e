// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of kernels that a reader recognises: a revision as the user typed it, a patch with its number and subject.

use vmtest_record::run::{Kernel, Role, RunResult};

/// The number of patches applied, out of how many, for a column of `--each-patch`.
pub fn step(run: &RunResult, kernel: &Kernel) -> Option<(usize, usize)> {
    let steps = run.kernels.iter().any(|other| other.role == Some(Role::Step));
    let of = run.kernels.iter().map(|other| other.series.len()).max().unwrap_or(0);
    Some((kernel.series.len(), of)).filter(|(at, _)| steps && *at > 0)
}

/// `2/3 bpf: mask the cookie index`, `topic~1`, or the ID.
pub fn kernel(run: &RunResult, id: &str) -> String {
    let Some(kernel) = run.kernels.iter().find(|kernel| kernel.id == id) else { return id.to_owned() };
    if let (Some((at, of)), Some(subject)) = (step(run, kernel), kernel.series.last()) {
        return format!("{at}/{of} {subject}");
    }
    let name = revision(kernel);
    let taken = |other: &Kernel| other.id != id && revision(other) == name;
    match name {
        Some(_) if run.kernels.iter().any(taken) => id.to_owned(),
        Some(name) => name,
        None => id.to_owned(),
    }
}

/// The revision of a `git:` kernel, with what was applied to it; `None` for a range or a bare hash.
fn revision(kernel: &Kernel) -> Option<String> {
    let (_, rev) = kernel.spec.strip_prefix("git:")?.rsplit_once('@')?;
    let hash = rev.len() >= 12 && rev.chars().all(|c| c.is_ascii_hexdigit());
    if rev.contains("..") || hash {
        return None;
    }
    let series = kernel.id.split_once('+').map(|(_, series)| format!("+{series}")).unwrap_or_default();
    Some(format!("{rev}{series}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmtest_record::samples::run;

    fn git(id: &str, rev: &str) -> Kernel {
        Kernel { id: id.into(), spec: format!("git:../linux@{rev}"), ..Kernel::default() }
    }

    #[test]
    fn a_revision_is_named_as_it_was_typed_unless_another_has_that_name() {
        let mut run = run(Vec::new());
        run.kernels = vec![
            git("git:linux@1", "topic~1"),
            git("git:linux@2+fix", "topic"),
            git("git:a/linux@3", "v6.18"),
            git("git:b/linux@4", "v6.18"),
            git("git:linux@5", "a..b"),
            Kernel { id: "src:6.18.15".into(), spec: "src:6.18".into(), ..Kernel::default() },
        ];
        let names = run.kernels.iter().map(|one| kernel(&run, &one.id)).collect::<Vec<_>>();
        let expected =
            ["topic~1", "topic+fix", "git:a/linux@3", "git:b/linux@4", "git:linux@5", "src:6.18.15"];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_step_is_named_by_its_number_and_its_patch() {
        let step = |at: usize| Kernel {
            id: format!("k{at}"),
            role: Some(Role::Step).filter(|_| at < 2),
            series: (1..=at).map(|number| format!("subject {number}")).collect(),
            ..Kernel::default()
        };
        let mut run = run(Vec::new());
        run.kernels = (0..=2).map(step).collect();
        let names = ["k0", "k1", "k2"].map(|id| kernel(&run, id));
        assert_eq!(names, ["k0", "1/2 subject 1", "2/2 subject 2"]);
    }
}
