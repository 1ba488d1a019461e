// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

#[test]
fn every_class_has_its_place_in_the_precedence() {
    // The match fails to compile when a class is added; add it to `PRECEDENCE` and to the codes below,
    // too.
    let known = |class: Class| match class {
        Class::Pass | Class::TestFailed | Class::Usage | Class::Incomplete | Class::Splat => true,
        Class::Flaky | Class::SeriesDoesNotApply | Class::OptionLost | Class::KernelBuild => true,
        Class::SuiteBuild | Class::BootFailed | Class::Panic | Class::Hang | Class::WallClock => true,
        Class::GuestLost | Class::RunnerDied | Class::Host | Class::Interrupted | Class::Terminated => true,
    };
    let mut codes: Vec<u8> = PRECEDENCE.iter().inspect(|c| assert!(known(**c))).map(|c| c.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 20, 21, 22, 23, 24, 25, 30, 130, 143]);
    assert_eq!(PRECEDENCE.last(), Some(&Class::Pass), "success is the last branch");
}

#[test]
fn help_names_every_code() {
    for class in PRECEDENCE {
        let code = class.code().to_string();
        let named = EXIT_CODES_HELP.split(|c: char| !c.is_ascii_digit()).any(|word| word == code);
        assert!(named, "{class:?} is missing in the help");
    }
}

#[test]
fn an_error_reads_from_the_outside_in() {
    let error = Error::host("cannot unpack a.tar")
        .why("No space left")
        .within("cannot get src:7.3")
        .next("free some");
    assert_eq!(
        error.to_string(),
        "cannot get src:7.3\n  because: cannot unpack a.tar\n    because: No space left\n  next: free some"
    );
}
