//! A case: a scenario and its contenders, kept as texts too, so that a key of theirs can be varied.

use std::path::{Path, PathBuf};

use seawall_config::report::suggestion;
use seawall_config::{Config, ConfigError};

use crate::contender::Contender;
use crate::gallery::{self, Files};
use crate::scenario::Scenario;
use crate::vary::Vary;

/// A scenario and what it is played with.
#[derive(Clone, Debug)]
pub struct Case {
    /// The scenario.
    pub scenario: Scenario,
    /// What stands in front of its services.
    pub contenders: Vec<Contender>,
    path: PathBuf,
    files: Files,
    text: String,
    /// The text of each contender's config, under its name.
    configs: Vec<(String, Option<String>)>,
}

impl Case {
    /// Opens the file at `path`, or the scenario of this name in the gallery; with these configs, or with
    /// those that it names.
    pub fn open(path: &Path, configs: &[String]) -> Result<Case, ConfigError> {
        let (text, files) = match path.to_str().and_then(gallery::text).filter(|_| !path.exists()) {
            Some(text) => (text, Files::Gallery),
            None => (read(path)?, Files::Folder(path.parent().unwrap_or(Path::new("")).to_owned())),
        };
        let scenario = Scenario::from_text(&text, path, &files)?;
        let here = Files::Folder(PathBuf::new());
        let (names, beside) =
            if configs.is_empty() { (&scenario.configs[..], &files) } else { (configs, &here) };
        let texts = names.iter().map(|name| Ok((name.clone(), Contender::text(name, &scenario, beside)?)));
        let configs = texts.collect::<Result<Vec<_>, ConfigError>>()?;
        let contenders = contenders(&configs)?;
        Ok(Case { scenario, contenders, path: path.to_owned(), files, text, configs })
    }

    /// The same with another value under a key of the scenario, or of the configs.
    pub fn with(&self, vary: &Vary, step: u32) -> Result<Case, ConfigError> {
        let mut case = self.clone();
        if vary.is_of_scenario() {
            case.text = vary.apply(&self.text, step).map_err(|problem| self.refused(vary, problem))?;
            case.scenario = Scenario::from_text(&case.text, &self.varied(vary, &self.path), &self.files)?;
        } else {
            if case.configs.iter().all(|(_, text)| text.is_none()) {
                return Err(self.refused(vary, "none of what is compared has a config".to_owned()));
            }
            for (_, text) in &mut case.configs {
                if let Some(text) = text {
                    *text = vary.apply(text, step).map_err(|problem| self.refused(vary, problem))?;
                }
            }
            case.contenders = contenders(&case.configs)?;
        }
        Ok(case)
    }

    fn varied(&self, vary: &Vary, path: &Path) -> PathBuf {
        PathBuf::from(format!("{} with another {}", path.display(), vary.key()))
    }

    fn refused(&self, vary: &Vary, problem: String) -> ConfigError {
        ConfigError::unreadable(Path::new(vary.key()), problem)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    if path.exists() {
        return Config::text(path);
    }
    let names = gallery::names();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let help = suggestion(&name, names.iter().map(String::as_str));
    Err(ConfigError::unreadable(path, format!("no such file, nor a scenario of the gallery; {help}")))
}

fn contenders(configs: &[(String, Option<String>)]) -> Result<Vec<Contender>, ConfigError> {
    configs.iter().map(|(name, text)| Contender::of(name, text.as_deref())).collect()
}
