// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use vmtest_base::error::Class;
use vmtest_record::outcome::Outcome;
use vmtest_record::samples;

fn pattern(toml: &str) -> CellPattern {
    CellPattern::new(&toml::from_str(toml).expect("globs")).expect("a pattern")
}

#[test]
fn what_is_not_named_fits_and_what_is_named_has_to() {
    let cell = samples::cell("src:6.18.15+fsession", "a", Outcome::Fail, Class::TestFailed);
    for fits in ["kernel = 'src:6.18*'", "kernel = ['x', 'src:*']", "test = 'basic'", "test = 'basic/*'", ""]
    {
        assert!(pattern(fits).fits(&cell), "{fits}");
    }
    for other in
        ["kernel = '6.18'", "suite = 'upstream'", "test = 'bas'", "test = ['basic/b', 'a']", "variant = 'x'"]
    {
        assert!(!pattern(other).fits(&cell), "{other}");
    }
    assert!(CellPattern::new(&toml::from_str("kernel = []").expect("globs")).is_err());
    assert!(CellPattern::new(&toml::from_str("test = '['").expect("globs")).is_err());
}

#[test]
fn what_fits_everything_is_known_for_that() {
    for everything in ["", "kernel = '*'", "test = '*/*'", "kernel = ['a', '**']"] {
        assert!(pattern(everything).is_everything(), "{everything}");
    }
    assert!(!pattern("test = 'basic/*'").is_everything());
    assert!(!pattern("test = '*'\nkernel = 'src:*'").is_everything());
}
