// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completions and man pages. Their tests with other shells and man page linters are in `interop`.

use std::process::Command;

use crate::support::{Done, World};

pub fn run(world: &World, words: &[&str]) -> Done {
    world.start(world.command(words)).done()
}

#[test]
fn bash_completes_behind_cargo_xtask() {
    let world = World::new();
    let script = run(&world, &["completions", "bash"]);
    script.exits(0);
    world.write("xtask.bash", &script.stdout);
    let complete = |words: &[&str]| {
        let list = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let text = format!(
            "_cargo() {{ COMPREPLY=(cargos-own); }}\nsource xtask.bash\nCOMP_WORDS=({list})\nCOMP_CWORD={}\n\
             _cargo_xtask cargo \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.len() - 1
        );
        let output =
            Command::new("bash").arg("-c").arg(text).current_dir(world.path("")).output().expect("bash");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(complete(&["cargo", "xtask", ""]).contains(&"vmtest".to_owned()));
    assert_eq!(complete(&["cargo", "xtask", "repo"]), ["report"]);
    assert_eq!(complete(&["cargo", "xtask", "report", "di"]), ["diff"]);
    assert_eq!(complete(&["cargo", "xtask", "vmtest", "--with-b"]), ["--with-base"]);
    assert_eq!(complete(&["cargo", "xtask", "vmtest", "--boot", "d"]), ["direct"]);
    assert_eq!(complete(&["cargo", "bu"]), ["cargos-own"]);
    run(&world, &["completions", "tcsh"]).exits(2);
}

#[test]
fn every_command_has_a_man_page() {
    let world = World::new();
    let dir = world.path("man").display().to_string();
    let done = run(&world, &["man", "--dir", &dir]);
    done.exits(0);
    for name in ["xtask", "xtask-vmtest", "xtask-bisect", "xtask-report", "xtask-report-diff", "xtask-doctor"]
    {
        let page = world.read(&format!("man/{name}.1"));
        assert!(page.contains(&format!(".TH {}", name.to_uppercase())), "{name}: {page}");
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}");
        assert!(done.stdout.contains(&format!("{dir}/{name}.1\n")), "{done}");
    }
}
