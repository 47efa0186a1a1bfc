//! `listen` as tables, and `tls`: where clients connect, and which certificates are shown to whom.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::pattern::HostPattern;
use super::reader::{Field, Named, Section};
use super::report::Malformed;
use super::{ADDRESS, address, file};

/// The most listeners.
const LISTENERS_MAX: usize = 16;

/// An address for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// Whether TLS is spoken, and with which certificates.
    pub tls: Option<ServerTls>,
    /// Whether every connection begins with a PROXY protocol header; default no.
    pub proxy_protocol: bool,
}

impl Listener {
    /// Plain HTTP on this address.
    pub const fn plain(address: SocketAddr) -> Listener {
        Listener { address, tls: None, proxy_protocol: false }
    }
}

/// A certificate with its chain, and its key: PEM files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The certificate chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// What a listener shows its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// For names that are not listed, and clients that name none.
    pub default: Identity,
    /// By the name that the client asks for: a host, or `*.example.com`.
    pub by_name: BTreeMap<String, Identity>,
    /// Who must have signed the client's certificate, if it needs one.
    pub client_ca: Option<PathBuf>,
}

/// How the hosts of an upstream are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// Who must have signed their certificates; default the roots of the system.
    pub roots: Option<PathBuf>,
    /// The gateway's own certificate, for hosts that want one.
    pub identity: Option<Identity>,
    /// The name that their certificates must have; default the host of their URL.
    pub server_name: Option<String>,
}

/// Reads `listen`: an address, or tables of listeners by name. At least one is returned.
pub(super) fn listeners(root: &mut Section<'_>) -> Vec<Listener> {
    let default = || vec![Listener::plain(address::LISTEN)];
    let Some(field) = root.field("listen") else { return default() };
    if !field.is_table() {
        let parsed = field.parsed(ADDRESS, address::listen).map_err(|malformed| field.reject(malformed));
        return parsed.map_or_else(|()| default(), |address| vec![Listener::plain(address)]);
    }
    let listeners: Vec<Listener> = root.named("listen").into_iter().map(listener).collect();
    if !(1..=LISTENERS_MAX).contains(&listeners.len()) {
        field.reject(Malformed::new(format!(
            "there are {} listeners, not 1 to {LISTENERS_MAX}",
            listeners.len()
        )));
        return default();
    }
    listeners
}

fn listener(Named { mut section, .. }: Named<'_>) -> Listener {
    let address =
        section.required("address", "\"0.0.0.0:8443\"", |field| field.parsed(ADDRESS, address::listen));
    let tls = section.section("tls").and_then(server_tls);
    let proxy_protocol = section.value("proxy_protocol", false, Field::switch);
    section.finish();
    Listener { address: address.unwrap_or(address::LISTEN), tls, proxy_protocol }
}

fn server_tls(mut section: Section<'_>) -> Option<ServerTls> {
    let default = identity(&mut section);
    let by_name = section.tables("sni").into_iter().filter_map(|Named { name, mut section }| {
        if let Err(malformed) = HostPattern::parse(name) {
            section.reject(malformed);
        }
        let identity = identity(&mut section);
        section.finish();
        Some((name.to_lowercase(), identity?))
    });
    let by_name = by_name.collect();
    let client_ca = section.optional("client_ca", file);
    section.finish();
    Some(ServerTls { default: default?, by_name, client_ca })
}

fn identity(section: &mut Section<'_>) -> Option<Identity> {
    let cert = section.required("cert", "\"cert.pem\"", file);
    let key = section.required("key", "\"key.pem\"", file);
    Some(Identity { cert: cert?, key: key? })
}

/// Reads `tls` of an upstream.
pub(super) fn upstream_tls(mut section: Section<'_>) -> UpstreamTls {
    let roots = section.optional("roots", file);
    let own = section.optional("cert", file).zip(section.optional("key", file));
    let server_name = section.optional("server_name", |field| match field.text() {
        Some(text) => super::url::check_host(text).map(|()| text.to_owned()),
        None => Err(field.is_not("a name")),
    });
    section.finish();
    UpstreamTls { roots, identity: own.map(|(cert, key)| Identity { cert, key }), server_name }
}
