//! A scenario of the lab: whatever is in it, it is read or refused, with an error that can be shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use seawall_config::Colour;
use seawall_lab::scenario::Scenario;

fuzz_target!(|text: &str| {
    if let Err(error) = Scenario::from_toml(text, Path::new("scenario.toml")) {
        assert!(!error.render(Colour::Never).is_empty());
    }
});
