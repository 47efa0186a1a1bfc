//! A config file: whatever is in it, it is read or refused, with an error that can be shown.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use seawall_config::{Colour, Config};

fuzz_target!(|text: &str| {
    let read = || Config::from_toml(text, Path::new("seawall.toml"));
    match (read(), read()) {
        (Ok(first), Ok(second)) => assert_eq!(first, second),
        (Err(first), Err(second)) => {
            assert_eq!(first.render(Colour::Never), second.render(Colour::Never));
        }
        _ => panic!("read once and refused once"),
    }
});
