//! TLS: certificates from files, for clients and for upstreams.
//!
//! **Mechanics.** A listener looks its certificate up by the name that the client asks for. The files, of clients'
//! authorities and of upstreams as well, are read again when they have changed, looked at with each reload and now
//! and then; connections that stand keep theirs. HTTP/2 is offered before HTTP/1.1.
//!
//! **Edges.** Files that cannot be read stop the start. Later they are reported, and what was read
//! before stays.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio_rustls::rustls;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier as _;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};

use seawall_config::{Config, Identity, Protocol, ServerTls, UpstreamTls, Url};

/// Why there is no TLS.
#[derive(Debug)]
pub(crate) struct TlsError {
    what: String,
    /// Which file is missing, or makes no sense.
    pub(crate) file: Option<PathBuf>,
}

impl TlsError {
    fn new(what: impl Into<String>) -> TlsError {
        TlsError { what: what.into(), file: None }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for TlsError {}

fn about<E: fmt::Display>(path: &Path) -> impl Fn(E) -> TlsError {
    move |error| TlsError { what: format!("{}: {error}", path.display()), file: Some(path.to_owned()) }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(about(path))?;
    let read = read.collect::<Result<Vec<_>, _>>().map_err(about(path))?;
    if read.is_empty() { Err(about(path)("it holds no certificate")) } else { Ok(read) }
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(about(path))?;
    }
    Ok(roots)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => about(path)("it holds no private key"),
        error => about(path)(error),
    })
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(&identity.cert)?;
    let key = private_key(&identity.key)?;
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(about(&identity.key))?;
    Ok(Arc::new(key))
}

/// What a listener shows, as it was last read.
#[derive(Debug)]
struct Shown {
    default: Arc<CertifiedKey>,
    by_name: BTreeMap<String, Arc<CertifiedKey>>,
}

/// When each of some files last changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Option<SystemTime>>);

impl Stamps {
    fn of<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Stamps {
        Stamps(files.map(|path| std::fs::metadata(path).and_then(|of| of.modified()).ok()).collect())
    }

    /// Of the files for the TLS of an upstream.
    pub(crate) fn of_client(tls: &UpstreamTls) -> Stamps {
        Stamps::of(tls.roots.iter().chain(tls.identity.iter().flat_map(|own| [&own.cert, &own.key])))
    }

    fn of_server(tls: &ServerTls) -> Stamps {
        let identities = std::iter::once(&tls.default).chain(tls.by_name.values());
        Stamps::of(tls.client_ca.iter().chain(identities.flat_map(|own| [&own.cert, &own.key])))
    }
}

/// The certificates of a listener, those of its clients' authorities among them.
#[derive(Debug)]
pub(crate) struct Certificates {
    config: ServerTls,
    read: ArcSwap<ServerConfig>,
    changed: Mutex<Stamps>,
}

impl Certificates {
    /// As they were last read.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.read.load_full()
    }

    /// Reads the files again if they have changed; says whether they have.
    pub(crate) fn refresh(&self) -> bool {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Stamps::of_server(&self.config);
        if *changed == now {
            return false;
        }
        match read(&self.config) {
            Ok(server) => {
                self.read.store(Arc::new(server));
                tracing::info!("certificates read again");
            }
            Err(error) => tracing::error!(%error, "certificates cannot be read, the old ones stay"),
        }
        *changed = now;
        true
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let above = name.split_once('.').map(|(_, above)| format!("*.{above}"));
            self.by_name.get(&name).or_else(|| self.by_name.get(&above?))
        });
        Some(named.unwrap_or(&self.default).clone())
    }
}

/// The TLS of a listener.
pub(crate) fn server(config: &ServerTls) -> Result<Arc<Certificates>, TlsError> {
    let changed = Mutex::new(Stamps::of_server(config));
    Ok(Arc::new(Certificates { read: ArcSwap::from_pointee(read(config)?), changed, config: config.clone() }))
}

fn read(config: &ServerTls) -> Result<ServerConfig, TlsError> {
    let by_name = config.by_name.iter().map(|(name, identity)| Ok((name.clone(), certified(identity)?)));
    let by_name = by_name.collect::<Result<_, TlsError>>()?;
    let shown = Shown { default: certified(&config.default)?, by_name };
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| TlsError::new(error.to_string()))?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider());
            builder.with_client_cert_verifier(verifier.build().map_err(about(path))?)
        }
    };
    let mut server = builder.with_cert_resolver(Arc::new(shown));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server)
}

/// How a host of an upstream is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Secure {
    /// The name that its certificate must have.
    pub(crate) name: ServerName<'static>,
    /// Whom to believe, and what to show.
    pub(crate) config: Arc<ClientConfig>,
}

impl PartialEq for Secure {
    fn eq(&self, other: &Secure) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for Secure {}

impl std::hash::Hash for Secure {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        Arc::as_ptr(&self.config).hash(state);
    }
}

/// The TLS of an upstream.
pub(crate) fn client(tls: &UpstreamTls, protocol: Protocol) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &tls.roots {
        Some(path) => roots(path)?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let failed = |error: &dyn fmt::Display| TlsError::new(format!("TLS to an upstream: {error}"));
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| failed(&error))?;
    let builder = builder.with_webpki_verifier(verifier.map_err(|error| failed(&error))?);
    let mut client = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = private_key(&identity.key)?;
            builder
                .with_client_auth_cert(certificates(&identity.cert)?, key)
                .map_err(about(&identity.cert))?
        }
    };
    client.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::H2c => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(client))
}

/// Whether no connection stands because the other end's certificate is not believed.
pub(crate) fn is_about_certificate(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

/// Whether everything that a config names for TLS is there and makes sense.
pub(crate) fn check(config: &Config) -> Result<(), TlsError> {
    for tls in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        server(tls)?;
    }
    for upstream in config.upstreams.values() {
        for host in upstream.hosts.as_slice().iter().filter(|host| host.is_secure()) {
            client(&upstream.tls, upstream.protocol)?;
            name_of(host, &upstream.tls).ok_or_else(|| TlsError::new(format!("{host}: it has no name")))?;
        }
    }
    Ok(())
}

/// The files of the gateway's own certificates that have expired, or are not valid yet, and what is wrong. Those that
/// cannot be read are left out.
pub(crate) fn untimely(config: &Config) -> Vec<(&Path, String)> {
    let listeners = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let shown = listeners.flat_map(|tls| std::iter::once(&tls.default).chain(tls.by_name.values()));
    let upstreams = config.upstreams.values().filter_map(|upstream| upstream.tls.identity.as_ref());
    let mut files: Vec<&Path> = shown.chain(upstreams).map(|identity| identity.cert.as_path()).collect();
    files.sort_unstable();
    files.dedup();
    let what = |path| certificates(path).ok()?.iter().find_map(why_untimely);
    files.into_iter().filter_map(|path| Some((path, what(path)?))).collect()
}

/// What is wrong with the time of this certificate. It is made to vouch for itself, because time is looked at first.
fn why_untimely(certificate: &CertificateDer<'_>) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone().into_owned()).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    match verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()) {
        Err(rustls::Error::InvalidCertificate(
            error @ (CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }),
        )) => Some(error.to_string()),
        _ => None,
    }
}

/// The name that the certificate of this host must have.
pub(crate) fn name_of(host: &Url, tls: &UpstreamTls) -> Option<ServerName<'static>> {
    let name = tls.server_name.as_deref().unwrap_or(host.host());
    ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).ok()
}
