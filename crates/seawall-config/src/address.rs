//! Addresses that the gateway listens on, and networks that it trusts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use super::report::{Malformed, quoted};

/// Where clients connect when nothing else is said.
pub(crate) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Where operators connect when nothing else is said.
pub(crate) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// An IP address and a port to listen on; port 0 takes a free one.
pub fn listen(text: &str) -> Result<SocketAddr, Malformed> {
    text.parse().map_err(|_| {
        let malformed = Malformed::new(format!("{} is not an IP address and a port", quoted(text)));
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        match (text.parse::<IpAddr>(), port) {
            (Ok(ip), _) => malformed.help(format!("write `{}`", SocketAddr::new(ip, LISTEN.port()))),
            (_, Some(port)) if text.starts_with("localhost:") => {
                malformed.help(format!("write `127.0.0.1:{port}`"))
            }
            (_, Some(port)) => malformed.help(format!(
                "write `0.0.0.0:{port}` for all networks, `127.0.0.1:{port}` for this machine"
            )),
            _ => malformed.help(format!("write it as in `{LISTEN}`")),
        }
    })
}

/// An address for the admin plane when there is no token file: loopback only.
pub fn admin(text: &str) -> Result<SocketAddr, Malformed> {
    let address = listen(text)?;
    if address.ip().to_canonical().is_loopback() {
        return Ok(address);
    }
    let malformed =
        Malformed::new(format!("{} is not a loopback address, which needs a `token_file`", quoted(text)));
    Err(malformed.help(format!("write `127.0.0.1:{}`", address.port())))
}

/// A network in CIDR notation: `10.0.0.0/8`.
pub(super) fn network(text: &str) -> Result<IpNet, Malformed> {
    let malformed = || Malformed::new(format!("{} is not a network", quoted(text)));
    match text.parse::<IpNet>() {
        Ok(network) if network == network.trunc() => Ok(network),
        Ok(network) => Err(malformed().help(format!(
            "write `{}`, or `{}` for the one address",
            network.trunc(),
            IpNet::from(network.addr())
        ))),
        Err(_) => Err(match text.parse::<IpAddr>() {
            Ok(ip) => malformed().help(format!("write `{}`", IpNet::from(ip))),
            Err(_) => malformed().help("write it as in `10.0.0.0/8`"),
        }),
    }
}
