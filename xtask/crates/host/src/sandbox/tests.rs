// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn root() -> BuildRoot {
    BuildRoot { dir: "/cache/root".into(), key: Key::of("test").finish() }
}

fn image() -> Tools {
    Tools::Image(root())
}

fn words(sandbox: &Sandbox<'_>) -> Vec<String> {
    sandbox.options(&root()).into_iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

#[test]
fn the_sandbox_has_no_network_and_dies_with_its_parent() {
    let tools = image();
    let sandbox = Sandbox::new(&tools).read_only("/a", "/src").writable("/b", "/obj");
    let words = words(&sandbox);
    for needed in
        ["--unshare-net", "--unshare-pid", "--die-with-parent", "--clearenv", "--new-session", "--cap-drop"]
    {
        assert!(words.iter().any(|word| word == needed), "{needed}");
    }
    assert!(words.windows(3).any(|three| three == ["--ro-bind", "/a", "/src"]));
    assert!(words.windows(3).any(|three| three == ["--bind", "/b", "/obj"]));
    // The command line that is visible from inside reveals no path of this host.
    let command = sandbox.command("make");
    let seen: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    assert_eq!(seen.last().map(String::as_str), Some("make"));
    assert!(!seen.iter().any(|word| word.contains("/cache") || word == "/a" || word == "/b"), "{seen:?}");
}

#[test]
fn a_network_has_to_be_asked_for() {
    let tools = image();
    let has = |sandbox: Sandbox<'_>| !words(&sandbox).contains(&"--unshare-net".to_owned());
    assert!(has(Sandbox::new(&tools).network()));
    assert!(!has(Sandbox::new(&tools).terminal().kvm(true)));
}

#[test]
fn paths_are_fixed_inside_and_real_on_the_host() {
    let (inside, host) = (image(), Tools::Host(Key::of("test").finish()));
    assert_eq!(Sandbox::new(&inside).read_only("/a b", "/src").see("/src/x"), Path::new("/src/x"));
    assert_eq!(Sandbox::new(&host).read_only("/a b", "/src").see("/src/x"), Path::new("/a b/x"));
    assert_eq!(Sandbox::new(&host).read_only("/a b", "/src").see("/src"), Path::new("/a b"));
}
