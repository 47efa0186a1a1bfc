//! Contenders: what stands in front of the services, under a name.

use std::fmt::Write as _;
use std::path::Path;

use seawall_config::{Config, ConfigError};

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
    /// What a scenario means by `naive`, `protected`, or the path of a file beside it.
    pub fn named(name: &str, scenario: &Scenario, base: &Path) -> Result<Contender, ConfigError> {
        match name {
            NAIVE => Ok(Contender { name: name.to_owned(), config: None }),
            PROTECTED => Ok(Contender { name: name.to_owned(), config: Some(protected(scenario)?) }),
            file => Contender::read(&base.join(file)),
        }
    }

    /// A config file.
    pub fn read(path: &Path) -> Result<Contender, ConfigError> {
        let config = Config::from_toml(&Config::text(path)?, path)?;
        let name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Ok(Contender { name, config: Some(config) })
    }
}

/// Seawall in front of every service, with every default.
fn protected(scenario: &Scenario) -> Result<Config, ConfigError> {
    let mut text = String::new();
    for service in &scenario.services {
        let name = &service.name;
        let hosts: Vec<String> =
            (1..=service.replicas).map(|replica| format!("\"http://{name}-{replica}:80\"")).collect();
        _ = write!(text, "[upstream.{name}]\nhosts = [{}]\n", hosts.join(", "));
        _ = write!(text, "[route.{name}]\npath = \"/{name}/*\"\nupstream = \"{name}\"\n");
    }
    Config::from_toml(&text, Path::new(PROTECTED))
}
