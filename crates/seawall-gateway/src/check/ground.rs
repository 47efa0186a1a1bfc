//! What a config needs of the machine, and the gateway refuses to start without: files for TLS, and an address
//! for each thing that listens.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use seawall_config::report::Report;
use seawall_config::{Config, ConfigError, Malformed};

use crate::tls;

/// Whether what TLS needs is there, which is asked with each reload, too.
pub(crate) fn has_files(config: &Config, text: &str, name: &Path) -> Result<(), ConfigError> {
    let report = Report::default();
    files(config, text, &report);
    report.finish(text, name)
}

fn files(config: &Config, text: &str, report: &Report) {
    if let Err(error) = tls::check(config) {
        let file = error.file.as_ref().map(|file| file.display().to_string());
        let span = file.map_or(0..0, |file| place(text, &file));
        let help = "the gateway takes a config only where it can read certificates and keys in PEM, each key that of \
                    its certificate";
        report.at(span, Malformed::new(format!("TLS: {error}")).help(help));
    }
}

/// Whether it is there.
pub(super) fn stands(config: &Config, text: &str, name: &Path) -> Result<(), ConfigError> {
    let report = Report::default();
    files(config, text, &report);
    let mut taken: Vec<SocketAddr> = config.listeners.iter().map(|listener| listener.address).collect();
    for (key, address) in [("listen", Some(config.admin.listen)), ("probes", config.admin.probes)] {
        let Some(address) = address else { continue };
        if taken.iter().any(|other| collide(*other, address)) {
            let what = format!("`{key}` of `admin` is an address that is listened on already: {address}");
            report.at(
                place(text, &address.to_string()),
                Malformed::new(what).help("give it a port of its own"),
            );
        }
        taken.push(address);
    }
    report.finish(text, name)
}

/// Whether one socket would be in the way of another. Port 0 is another one each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let are_same = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && are_same
}

/// Where a value stands last: that of `admin` comes after `listen`, which is of the whole file.
fn place(text: &str, value: &str) -> Range<usize> {
    text.rfind(value).map_or(0..0, |at| at..at + value.len())
}
