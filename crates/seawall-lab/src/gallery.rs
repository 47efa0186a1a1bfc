//! The gallery: the scenarios that come with Seawall, embedded, so that they play anywhere.

use std::path::{Path, PathBuf};

use rust_embed::RustEmbed;

use crate::scenario::Scenario;

/// The files of the folder `scenarios`.
#[derive(RustEmbed)]
#[folder = "../../scenarios"]
#[include = "*.toml"]
#[include = "*.csv"]
struct Embedded;

/// Where the files stand that a scenario names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// In this folder.
    Folder(PathBuf),
    /// In the gallery.
    Gallery,
}

impl Files {
    /// The text of a file.
    pub fn text(&self, path: &Path) -> Result<String, String> {
        match self {
            Files::Folder(folder) => {
                std::fs::read_to_string(folder.join(path)).map_err(|error| error.to_string())
            }
            Files::Gallery => {
                embedded(&path.to_string_lossy()).ok_or_else(|| "the gallery has no such file".to_owned())
            }
        }
    }
}

fn embedded(path: &str) -> Option<String> {
    Embedded::get(path).and_then(|file| String::from_utf8(file.data.into_owned()).ok())
}

/// The names of its scenarios, sorted.
pub fn names() -> Vec<String> {
    let names = Embedded::iter().filter_map(|path| {
        let name = path.strip_suffix(".toml")?;
        (!name.contains('/')).then(|| name.to_owned())
    });
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

/// The text of a scenario by its name.
pub fn text(name: &str) -> Option<String> {
    if name.contains(['/', '\\']) {
        return None;
    }
    embedded(&format!("{name}.toml"))
}

/// A scenario by its name; those of the gallery are valid.
pub fn scenario(name: &str) -> Option<Scenario> {
    let text = text(name)?;
    Scenario::from_text(&text, Path::new(name), &Files::Gallery).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Contender;

    #[test]
    fn every_scenario_of_the_gallery_can_be_played_and_says_what_it_teaches() {
        let names = names();
        assert!(names.iter().any(|name| name == "retry-storm"), "{names:?}");
        for name in names {
            let text = text(&name).unwrap();
            let scenario = Scenario::from_text(&text, Path::new(&name), &Files::Gallery)
                .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.name, name, "it has the name of its file");
            assert!(!scenario.about.is_empty() && !scenario.assertions.is_empty(), "{name}");
            for config in &scenario.configs {
                Contender::named(config, &scenario, &Files::Gallery)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }

    #[test]
    fn only_scenarios_are_found() {
        assert_eq!(text("configs/coarse-breaker"), None);
        assert_eq!(text("../README"), None);
        assert_eq!(scenario("no-such-storm"), None);
        assert!(Files::Gallery.text(Path::new("../Cargo.toml")).is_err());
    }
}
