//! Who may do what on the admin plane.
//!
//! **Prevents** a web page in an operator's browser, or any user of the machine, from taking a
//! service down: whatever changes something needs the token, on loopback as well. On loopback the `Host`
//! must be a name of this machine, so that no foreign name that resolves to it (DNS rebinding) reads
//! what is shown there.
//!
//! **Mechanics.** The token is what the `token_file` holds, read anew when the file changes. Without
//! one, the gateway makes a token and leaves it where only its own user can read it, by the port of
//! the listener, so that the commands find it.
//!
//! **Edges.** On other addresses everything but `/livez` and `/readyz` needs the token. Nobody can
//! write when no token could be made.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use http::{HeaderMap, Method, StatusCode, header};

/// The longest token that is read, in bytes.
const TOKEN_MAX: u64 = 4_096;
/// The shortest token that is taken, in bytes: what is shorter can be guessed.
const TOKEN_MIN: usize = 16;

/// Decides who may pass.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    token_file: Option<PathBuf>,
    on_loopback: bool,
}

impl Auth {
    /// For a listener on this address. Without a `token_file` one is made.
    pub(crate) fn new(address: SocketAddr, token_file: Option<PathBuf>) -> Auth {
        let made = || {
            let Some(path) = default_token_file(address.port()) else {
                tracing::warn!(
                    "there is no admin token: nothing can be changed; set XDG_RUNTIME_DIR or HOME, so that there is a \
                     place for one, or `token_file` of `[admin]`"
                );
                return None;
            };
            let made = make_token(&path);
            if let Err(error) = &made {
                tracing::warn!(file = %path.display(), %error, "there is no admin token: nothing can be changed");
            }
            made.ok().map(|()| path)
        };
        Auth { token_file: token_file.or_else(made), on_loopback: address.ip().to_canonical().is_loopback() }
    }

    /// Whether a request may pass, or the status that it is refused with.
    pub(crate) fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), StatusCode> {
        if self.on_loopback && !names_this_machine(headers) {
            return Err(StatusCode::MISDIRECTED_REQUEST);
        }
        let probe = matches!(path, "/livez" | "/readyz");
        let reads = matches!(*method, Method::GET | Method::HEAD);
        if reads && (probe || self.on_loopback) {
            return Ok(());
        }
        let token = self.token_file.as_deref().and_then(|file| read_token(file).ok());
        let token = token.ok_or(StatusCode::FORBIDDEN)?;
        let said = headers.get(header::AUTHORIZATION).and_then(|said| bearer(said.as_bytes()));
        if said.is_some_and(|said| is_same(said, token.as_bytes())) {
            Ok(())
        } else {
            Err(StatusCode::UNAUTHORIZED)
        }
    }
}

/// What follows the scheme, which is no matter of case (RFC 9110 §11.1).
fn bearer(said: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = said.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii_start())
}

/// Compares without telling by the time how much was right.
fn is_same(said: &[u8], token: &[u8]) -> bool {
    let differing = said.iter().zip(token).fold(0, |differing, (a, b)| differing | (a ^ b));
    said.len() == token.len() && differing == 0
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => bare,
        _ => host,
    };
    let bare = bare.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Where the gateway on this port leaves its token, and the commands look for it.
pub(crate) fn default_token_file(port: u16) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_RUNTIME_DIR").or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    Some(folder.join("seawall").join(format!("admin-{port}.token")))
}

fn make_token(path: &Path) -> std::io::Result<()> {
    let mut random = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // A new file: the permissions of one that is there would stay.
    let _ = fs::remove_file(path);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(token.as_bytes())
}

/// The token in this file.
pub(crate) fn read_token(path: &Path) -> std::io::Result<String> {
    let mut token = String::new();
    File::open(path)?.take(TOKEN_MAX).read_to_string(&mut token)?;
    let token = token.trim().to_owned();
    if token.len() < TOKEN_MIN {
        let short = format!("the token is shorter than {TOKEN_MIN} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, short));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(auth: &Auth, method: Method, path: &str, headers: &[(&str, &str)]) -> Result<(), u16> {
        let headers = headers.iter().map(|(name, value)| {
            (name.parse::<http::HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap())
        });
        auth.check(&method, path, &headers.collect()).map_err(|status| status.as_u16())
    }

    #[test]
    fn writes_need_the_token_and_reads_a_name_of_this_machine() {
        let file = std::env::temp_dir().join(format!("seawall-token-{}", std::process::id()));
        make_token(&file).unwrap();
        let token = format!("Bearer {}", read_token(&file).unwrap());
        let auth = Auth::new("127.0.0.1:9090".parse().unwrap(), Some(file.clone()));
        let put = |headers: &[(&str, &str)]| check(&auth, Method::PUT, "/api/block/r", headers);
        assert_eq!(put(&[("host", "localhost:9090"), ("authorization", &token)]), Ok(()));
        assert_eq!(put(&[("host", "localhost")]), Err(401));
        assert_eq!(put(&[("host", "localhost"), ("authorization", &token[..token.len() - 1])]), Err(401));
        assert_eq!(put(&[("host", "evil.example"), ("authorization", &token)]), Err(421));
        let (lower, basic) = (token.replace("Bearer", "bearer"), token.replace("Bearer", "Basic"));
        assert_eq!(put(&[("host", "localhost"), ("authorization", &lower)]), Ok(()));
        assert_eq!(put(&[("host", "localhost"), ("authorization", &basic)]), Err(401));
        let get = |host| check(&auth, Method::GET, "/api/state", &[("host", host)]);
        assert_eq!(
            (get("127.0.0.1:9090"), get("[::1]:9090"), get("evil.example")),
            (Ok(()), Ok(()), Err(421))
        );
        let open = Auth::new("0.0.0.0:9090".parse().unwrap(), Some(file.clone()));
        assert_eq!(check(&open, Method::GET, "/readyz", &[("host", "a.example")]), Ok(()));
        assert_eq!(check(&open, Method::GET, "/metrics", &[]), Err(401));
        assert_eq!(check(&open, Method::GET, "/metrics", &[("authorization", &token)]), Ok(()));
        fs::remove_file(file).unwrap();
    }
}
