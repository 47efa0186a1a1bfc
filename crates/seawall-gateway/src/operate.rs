//! `seawall block` and `seawall admit`: a word to a gateway that runs, over its admin API.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use crate::admin::auth::{default_token_file, read_token};

/// How long the gateway may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most that is read of its answer.
const ANSWER_MAX: u64 = 1 << 20;

/// A gateway and what opens it.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Gateway {
    /// The admin address of the gateway
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090", value_parser = seawall_config::listen_address)]
    pub(crate) admin: SocketAddr,
    /// The file with its token [default: the one that the gateway made]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// What an answer says that whoever asked should not overlook.
pub(crate) fn warning(answer: &str) -> Option<&'static str> {
    let answer: serde_json::Value = serde_json::from_str(answer).ok()?;
    let is_forgotten = answer.get("remembered") == Some(&false.into());
    is_forgotten.then_some(
        "the gateway cannot remember this: a restart undoes it. Its log says why; `state` in its config says where",
    )
}

/// Sends one request; the answer's body, or what went wrong.
pub(crate) fn ask(gateway: &Gateway, method: &str, target: &str) -> Result<String, String> {
    let file = gateway.token_file.clone().or_else(|| default_token_file(gateway.admin.port()));
    let file = file.ok_or("there is no token: say where it is with --token-file")?;
    let token = read_token(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let address = gateway.admin;
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(
            stream,
            "{method} {target} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| format!("no gateway answers on {address}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        return Ok(format!("{}\n", body.trim_end()));
    }
    let status =
        head.lines().next().unwrap_or_default().split_once(' ').map_or("no HTTP", |(_, status)| status);
    Err(format!("the gateway refuses ({status}): {}", body.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_remembered_is_warned_of() {
        assert!(warning(r#"{"route":"r","remembered":false}"#).is_some());
        assert_eq!(warning(r#"{"route":"r","remembered":true}"#), None);
        assert_eq!(warning("as you like"), None);
    }
}
