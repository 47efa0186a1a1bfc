//! What the README shows is what its command says.
//!
//! `UPDATE_README=1 cargo test -p seawall-gateway readme` writes it anew.

use std::path::Path;
use std::process::Command;

/// Where the sample begins and ends.
const BEGINS: &str = "```text\noffered";
const FIGURE: &str = "assets/retry-storm.svg";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_sample_is_what_its_command_says() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let command = readme.lines().find_map(|line| line.strip_prefix("cargo run --release -- lab run "));
    let mut arguments: Vec<&str> = command.expect("the README plays a scenario").split(' ').collect();
    let figure = format!("{}/readme.svg", env!("CARGO_TARGET_TMPDIR"));
    arguments.extend(["--svg", &figure]);
    let output = Command::new(env!("CARGO_BIN_EXE_seawall"))
        .args(["lab", "run"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    // Up to the first line about assertions: the sparklines and the table.
    let wanted: Vec<&str> = said.lines().take_while(|line| !line.contains(" serves ")).collect();
    let wanted = wanted.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n");
    let from = readme.find(BEGINS).expect("the README has a sample") + "```text\n".len();
    let to = from + readme[from..].find("```").expect("which ends");
    let figure = std::fs::read_to_string(figure).unwrap();
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = format!("{}{}\n{}", &readme[..from], wanted.trim_end(), &readme[to..]);
        std::fs::write(root().join("README.md"), updated).unwrap();
        std::fs::write(root().join(FIGURE), figure).unwrap();
        return;
    }
    assert_eq!(readme[from..to].trim_end(), wanted.trim_end(), "UPDATE_README=1 writes it anew");
    let shown = std::fs::read_to_string(root().join(FIGURE)).unwrap();
    assert!(shown == figure, "{FIGURE} shows something else: UPDATE_README=1 writes it anew");
}

#[test]
fn the_commands_of_the_readme_are_ones_that_exist() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let verbs: Vec<&str> = (readme.lines())
        .filter_map(|line| line.trim_start().strip_prefix("cargo run --release -- "))
        .map(|line| line.split([' ', '#']).next().unwrap_or_default())
        .collect();
    assert!(verbs.len() >= 3, "{verbs:?}");
    for verb in verbs {
        let output = Command::new(env!("CARGO_BIN_EXE_seawall")).args([verb, "--help"]).output().unwrap();
        assert!(output.status.success(), "{verb}");
    }
}
