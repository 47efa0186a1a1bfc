//! TLS on both sides, and the PROXY protocol.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::{CertificateParams, Issuer, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use crate::harness::{Gateway, config, origin};

/// An authority and what it signs, as PEM files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: String,
}

impl Authority {
    fn new(file: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, file);
        let key = KeyPair::generate().unwrap();
        let cert = config(file, &params.self_signed(&key).unwrap().pem());
        Authority { issuer: Issuer::new(params, key), cert }
    }

    /// Certificate and key for this name.
    fn sign(&self, file: &str, name: &str) -> (String, String) {
        self.sign_until(file, name, 4_096)
    }

    /// The same, valid from the year 2000 to the end of this one.
    fn sign_until(&self, file: &str, name: &str, year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2_000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 12, 31);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (config(&format!("{file}.pem"), &cert.pem()), config(&format!("{file}.key"), &key.serialize_pem()))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.cert).unwrap()).unwrap();
        roots
    }

    /// A client that believes this authority, and shows a certificate if it has one.
    fn config(&self, own: Option<&(String, String)>) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(self.roots());
        match own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_file(cert).unwrap()],
                    PrivateKeyDer::from_pem_file(key).unwrap(),
                )
                .unwrap(),
        }
    }

    fn client(&self, address: &str, name: &str) -> StreamOwned<ClientConnection, TcpStream> {
        self.client_showing(None, address, name)
    }

    fn client_showing(
        &self,
        own: Option<&(String, String)>,
        address: &str,
        name: &str,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let client = Arc::new(self.config(own));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        StreamOwned::new(ClientConnection::new(client, name).unwrap(), TcpStream::connect(address).unwrap())
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";

fn ask(mut stream: impl std::io::Read + std::io::Write) -> String {
    // A handshake that fails has no answer.
    let _ = stream.write_all(GET);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap().to_ascii_lowercase()
}

fn start(name: &str, listen: &str, host: &str, upstream: &str) -> Gateway {
    let file = format!(
        "[listen.public]\naddress = \"127.0.0.1:0\"\n{listen}\n[identity]\ntrusted_proxies = []\n\
         [upstream.u]\nhosts = [\"{host}\"]\n{upstream}\n[route.r]\nupstream = \"u\"\n"
    );
    Gateway::start(&[&config(name, &file)])
}

#[test]
fn a_certificate_for_each_name_and_a_new_one_without_a_restart() {
    let authority = Authority::new("down-ca.pem");
    let (cert, key) = authority.sign("down-a", "a.example");
    let (other_cert, other_key) = authority.sign("down-b", "*.b.example");
    let tls = format!(
        "tls = {{ cert = \"{cert}\", key = \"{key}\", sni = {{ \"*.b.example\" = {{ cert = \"{other_cert}\", key = \"{other_key}\" }} }} }}"
    );
    let gateway = start("tls.toml", &tls, &format!("http://{}", origin()), "");
    for name in ["a.example", "x.b.example"] {
        let answer = ask(authority.client(&gateway.address, name));
        assert!(
            answer.starts_with("http/1.1 200") && answer.contains("x-forwarded-proto: https"),
            "{answer}"
        );
    }
    authority.sign("down-a", "new.example");
    gateway.signal("-HUP");
    gateway.await_log("certificates read again");
    assert!(ask(authority.client(&gateway.address, "new.example")).starts_with("http/1.1 200"));
}

#[test]
fn a_certificate_that_has_expired_is_told_at_the_start_and_by_reload_and_check() {
    let authority = Authority::new("untimely-ca.pem");
    let sign = |year| authority.sign_until("untimely", "a.example", year);
    let (cert, key) = sign(2_001);
    let tls = format!("tls = {{ cert = \"{cert}\", key = \"{key}\" }}");
    let gateway = start("untimely.toml", &tls, &format!("http://{}", origin()), "");
    let told = format!("nobody believes this certificate now file={cert} what=\"certificate expired");
    gateway.await_log(&told);
    gateway.signal("-HUP");
    gateway.await_log(&told);
    let file = std::path::Path::new(&cert).with_file_name("untimely.toml");
    let check = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(["check", "--lint", file.to_str().unwrap()])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let found = format!("file {cert}: warning [certificate-untimely]: certificate expired");
    assert!(check().contains(&found), "{}", check());
    sign(4_096);
    assert!(!check().contains("certificate-untimely"), "{}", check());
}

#[test]
fn a_reload_tells_which_file_makes_no_sense_and_what_is_wrong_with_it() {
    let authority = Authority::new("nonsense-ca.pem");
    let (cert, key) = authority.sign("nonsense", "a.example");
    let tls = format!("tls = {{ cert = \"{cert}\", key = \"{key}\" }}");
    let gateway = start("nonsense.toml", &tls, &format!("http://{}", origin()), "");
    for (file, what) in
        [("nonsense.key", "it holds no private key"), ("nonsense.pem", "it holds no certificate")]
    {
        let path = config(file, "nonsense");
        gateway.signal("-HUP");
        gateway.await_log(&format!("error: TLS: {path}: {what}"));
        gateway.await_log("nonsense.toml:3:");
        gateway.await_log("the config is refused, the old one stays");
    }
}

/// An origin that speaks TLS, and perhaps wants its clients to; says its URL.
fn tls_origin(cert: &str, key: &str, clients: Option<RootCertStore>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("https://{}", listener.local_addr().unwrap());
    let (cert, key) = (cert.to_owned(), key.to_owned());
    thread::spawn(move || {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let provider = Arc::new(ring::default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = vec![CertificateDer::from_pem_file(&cert).unwrap()];
        let server =
            Arc::new(builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(&key).unwrap()).unwrap());
        for stream in listener.incoming() {
            let mut stream =
                StreamOwned::new(ServerConnection::new(server.clone()).unwrap(), stream.unwrap());
            let mut some = [0; 1024];
            if stream.read(&mut some).is_ok_and(|read| read > 0) {
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    host
}

#[test]
fn an_upstream_is_believed_only_with_a_certificate_for_its_name() {
    let authority = Authority::new("up-ca.pem");
    let (cert, key) = authority.sign("up", "orders.example");
    let host = tls_origin(&cert, &key, None);
    let tls = |name: &str| format!("tls = {{ roots = \"{}\", server_name = \"{name}\" }}", authority.cert);
    let gateway = start("up.toml", "", &host, &tls("orders.example"));
    let answer = ask(TcpStream::connect(&gateway.address).unwrap());
    assert!(answer.starts_with("http/1.1 200") && answer.ends_with("ok"), "{answer}");
    let gateway = start("up-wrong.toml", "", &host, &tls("others.example"));
    let answer = ask(TcpStream::connect(&gateway.address).unwrap());
    let says_why = answer.contains("proxy-status: seawall; error=tls_certificate_error");
    assert!(answer.starts_with("http/1.1 502") && says_why, "{answer}");
}

#[test]
fn the_log_tells_why_an_upstream_is_not_believed() {
    let (authority, other) = (Authority::new("cause-ca.pem"), Authority::new("cause-other-ca.pem"));
    let sign = |file: &str, year| authority.sign_until(file, "a.example", year);
    let (valid, expired) = (sign("cause-valid", 4_096), sign("cause-expired", 2_001));
    for (number, (origin, roots, name, wanted)) in [
        (&expired, &authority.cert, "a.example", "certificate expired"),
        (&valid, &other.cert, "a.example", "UnknownIssuer"),
        (&valid, &authority.cert, "b.example", "certificate not valid for name"),
    ]
    .into_iter()
    .enumerate()
    {
        let host = tls_origin(&origin.0, &origin.1, None);
        let tls = format!("tls = {{ roots = \"{roots}\", server_name = \"{name}\" }}");
        let gateway = start(&format!("cause-{number}.toml"), "", &host, &tls);
        ask(TcpStream::connect(&gateway.address).unwrap());
        let authority = host.strip_prefix("https://").unwrap();
        gateway.await_log(&format!(
            "the host does not answer route=\"r\" host=\"{authority}\" reason=\"tls_certificate_error\" \
             cause=\"invalid peer certificate: {wanted}"
        ));
    }
    let host = tls_origin(&valid.0, &valid.1, Some(authority.roots()));
    let tls = format!("tls = {{ roots = \"{}\", server_name = \"a.example\" }}", authority.cert);
    let log = "\n[log]\nrefusals = \"100%\"\nformat = \"json\"";
    let gateway = start("cause-shows-none.toml", "", &host, &format!("{tls}{log}"));
    ask(TcpStream::connect(&gateway.address).unwrap());
    let (said, told) = (gateway.log.recv().unwrap(), crate::access::told(&gateway));
    let wanted = "received fatal alert: CertificateRequired";
    assert!(said.contains(wanted) && told["cause"].as_str().unwrap().contains(wanted), "{said} {told}");
}

#[test]
fn clients_and_the_gateway_itself_show_certificates_where_they_must() {
    let authority = Authority::new("mutual-ca.pem");
    let (cert, key) = authority.sign("mutual-server", "a.example");
    let own = authority.sign("mutual-client", "client.example");
    let tls = format!("tls = {{ cert = \"{cert}\", key = \"{key}\", client_ca = \"{}\" }}", authority.cert);
    let host = tls_origin(&cert, &key, Some(authority.roots()));
    let upstream =
        |own: &str| format!("tls = {{ roots = \"{}\", server_name = \"a.example\"{own} }}", authority.cert);
    let shown = upstream(&format!(", cert = \"{}\", key = \"{}\"", own.0, own.1));
    let gateway = start("mutual.toml", &tls, &host, &shown);
    let answer = ask(authority.client_showing(Some(&own), &gateway.address, "a.example"));
    assert!(answer.starts_with("http/1.1 200") && answer.ends_with("ok"), "{answer}");
    assert_eq!(
        ask(authority.client(&gateway.address, "a.example")),
        "",
        "a client that shows none is nobody"
    );
    let gateway = start("mutual-not.toml", "", &host, &upstream(""));
    assert!(ask(TcpStream::connect(&gateway.address).unwrap()).starts_with("http/1.1 502"));
}

#[test]
fn other_authorities_and_an_own_certificate_are_read_again_without_a_restart() {
    let (old, new) = (Authority::new("turned-old-ca.pem"), Authority::new("turned-new-ca.pem"));
    let (cert, key) = old.sign("turned-server", "a.example");
    let clients = [old.sign("turned-old-client", "c.example"), new.sign("turned-new-client", "c.example")];
    let copy = |from: &str, to: &str| config(to, &std::fs::read_to_string(from).unwrap());
    let client_ca = copy(&old.cert, "turned-client-ca.pem");
    let own = |of: &(String, String)| (copy(&of.0, "turned-own.pem"), copy(&of.1, "turned-own.key"));
    let (own_cert, own_key) = own(&clients[0]);
    let tls = format!("tls = {{ cert = \"{cert}\", key = \"{key}\", client_ca = \"{client_ca}\" }}");
    // The upstream believes the new authority alone.
    let host = tls_origin(&cert, &key, Some(new.roots()));
    let upstream = format!(
        "tls = {{ roots = \"{}\", server_name = \"a.example\", cert = \"{own_cert}\", key = \"{own_key}\" }}\nbreaker = false",
        old.cert
    );
    let gateway = start("turned.toml", &tls, &host, &upstream);
    let ask = |client: &(String, String)| {
        let answer = ask(old.client_showing(Some(client), &gateway.address, "a.example"));
        answer.get(..12).unwrap_or("").to_owned()
    };
    assert_eq!(clients.each_ref().map(ask), ["http/1.1 502", ""]);
    copy(&new.cert, "turned-client-ca.pem");
    own(&clients[1]);
    gateway.signal("-HUP");
    while clients.each_ref().map(ask) != ["", "http/1.1 200"] {}
}

#[tokio::test]
async fn http2_is_agreed_on_where_the_client_can() {
    let authority = Authority::new("alpn-ca.pem");
    let (cert, key) = authority.sign("alpn", "a.example");
    let tls = format!("tls = {{ cert = \"{cert}\", key = \"{key}\" }}");
    let log = "[log]\naccess = \"100%\"\nformat = \"json\"";
    let gateway = start("alpn.toml", &tls, &format!("http://{}", origin()), log);
    let mut client = authority.config(None);
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = tokio::net::TcpStream::connect(&gateway.address).await.unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (io, executor) = (hyper_util::rt::TokioIo::new(stream), hyper_util::rt::TokioExecutor::new());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://a.example/").body(http_body_util::Empty::<bytes::Bytes>::new());
    let response = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let seen = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let seen = String::from_utf8(seen.to_vec()).unwrap().to_ascii_lowercase();
    assert!(seen.contains("x-forwarded-proto: https") && seen.contains("host: a.example"), "{seen}");
    let told = crate::access::told(&gateway);
    assert!(told["protocol"] == "HTTP/2" && told["tls"] == "1.3" && told["host"] == "a.example", "{told}");
}

#[test]
fn a_proxy_says_who_the_client_is() {
    let gateway = start("proxy.toml", "proxy_protocol = true", &format!("http://{}", origin()), "");
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    stream.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 80\r\n").unwrap();
    let answer = ask(stream);
    assert!(answer.contains("x-forwarded-for: 203.0.113.7"), "{answer}");
    assert_eq!(ask(TcpStream::connect(&gateway.address).unwrap()), "", "without a header there is no answer");
    let short =
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0a"[..], &[203, 0, 113, 7, 192, 0, 2, 1, 0x13, 0x88]].concat();
    for nonsense in [&b"PROXY TCP4 203.0.113.7 192.0.2.1 +5000 80\r\n"[..], &short] {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        stream.write_all(nonsense).unwrap();
        assert_eq!(ask(stream), "", "{nonsense:?}");
    }
}
