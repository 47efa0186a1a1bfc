//! Every scenario of the gallery, and every target, plays and holds what it asserts. A few seeds each: a verdict
//! that takes many is for `seawall lab run`.

use std::path::{Path, PathBuf};

use seawall_lab::Case;
use seawall_lab::experiment::{self, Seeds};
use seawall_lab::report::Report;

const SEEDS: Seeds = Seeds { count: 4, first: 1, adds: false };

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios").join(folder);
    let entries = std::fs::read_dir(&folder).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

/// What does not hold.
fn failures(path: &Path) -> Vec<String> {
    let Case { scenario, contenders, .. } = Case::open(path, &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(path.file_stem(), Some(scenario.name.as_ref()), "the name is that of the file");
    assert!(scenario.about.len() > 80, "{}: `about` teaches nothing", scenario.name);
    assert!(!scenario.assertions.is_empty(), "{}: nothing is asserted", scenario.name);
    let results = experiment::run(&scenario, &contenders, SEEDS, &|| {});
    let report = Report::new(scenario, results, Vec::new(), String::new());
    let failing = report.checks.iter().filter(|check| !check.holds);
    let name = &report.scenario.name;
    failing.map(|check| format!("{name}: {} ({:?}, {:?})", check.text, check.left, check.right)).collect()
}

fn all_hold(folder: &str) {
    let failures: Vec<String> = files(folder).iter().flat_map(|path| failures(path)).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_gallery_holds_what_it_asserts() {
    all_hold("");
}

#[test]
fn the_targets_are_met() {
    all_hold("targets");
}
