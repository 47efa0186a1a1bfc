//! Contenders: what stands in front of the services, under a name.

use std::fmt::Write as _;
use std::path::Path;

use seawall_config::{Config, ConfigError};

use crate::gallery::Files;
use crate::scenario::{NAIVE, PROTECTED, Scenario};

/// What stands in front of the services, under its name.
#[derive(Clone, Debug)]
pub struct Contender {
    /// `naive`, `protected`, or the name of its file without the ending.
    pub name: String,
    /// The config; `None` for nothing.
    pub config: Option<Config>,
}

impl Contender {
    /// Nothing at all.
    pub fn naive() -> Contender {
        Contender { name: NAIVE.to_owned(), config: None }
    }

    /// What a scenario means by `naive`, `protected`, or the path of a file beside it.
    pub fn named(name: &str, scenario: &Scenario, files: &Files) -> Result<Contender, ConfigError> {
        let text = Contender::text(name, scenario, files)?;
        Contender::of(name, text.as_deref())
    }

    /// The text of its config; `None` for nothing.
    pub fn text(name: &str, scenario: &Scenario, files: &Files) -> Result<Option<String>, ConfigError> {
        match (name, files) {
            (NAIVE, _) => Ok(None),
            (PROTECTED, _) => Ok(Some(protected(scenario))),
            (file, Files::Folder(folder)) => Config::text(&folder.join(file)).map(Some),
            (file, Files::Gallery) => {
                let path = Path::new(file);
                files.text(path).map(Some).map_err(|problem| ConfigError::unreadable(path, problem))
            }
        }
    }

    /// A config by its text; `name` is that of its file.
    pub fn of(name: &str, text: Option<&str>) -> Result<Contender, ConfigError> {
        let path = Path::new(name);
        let config = text.map(|text| Config::from_toml(text, path)).transpose()?;
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Contender { name, config })
    }
}

/// Seawall in front of every service, with every default but one: nothing is done for a client that waits no
/// longer.
fn protected(scenario: &Scenario) -> String {
    let mut text = String::new();
    for (place, service) in scenario.services.iter().enumerate() {
        let name = &service.name;
        let hosts: Vec<String> =
            (1..=service.replicas).map(|replica| format!("\"http://{name}-{replica}:80\"")).collect();
        _ = write!(text, "[upstream.{name}]\nhosts = [{}]\n", hosts.join(", "));
        _ = write!(text, "[route.{name}]\npath = \"/{name}/*\"\nupstream = \"{name}\"\n");
        let callers = scenario.clients.iter().filter(|clients| clients.calls == place);
        // A deadline is passed on; how long an attempt is waited for is not.
        let waits = callers.filter(|clients| clients.deadline.is_none());
        let waits = waits.filter_map(|clients| clients.retry.per_attempt);
        if let Some(least) = waits.min() {
            _ = writeln!(text, "deadline = \"{}ms\"", least.as_nanos().div_ceil(1_000_000).max(1));
        }
    }
    text
}
