//! `[identity]`: who is asking, and how many users are remembered.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::HeaderName;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use seawall_core::throttle::{self, OnFull};

use super::address;
use super::reader::{Field, Section};
use super::report::{Malformed, quoted};

/// The most sources of a user's identity.
const SOURCES_MAX: usize = 8;
/// The most trusted networks.
const NETWORKS_MAX: usize = 1_024;
/// The most users that a throttle can be told to remember.
const USERS_MAX: u32 = 100_000_000;

/// Where a user's identity is found in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    /// The value of this header.
    Header(HeaderName),
    /// The address of the client.
    ClientIp,
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The first that is present is the user; at least one. Default: the client's address, which
    /// also stands in for a request that has none of them.
    pub user: Vec<UserSource>,
    /// The header that names a user's plan; counts from trusted proxies only. Default none.
    pub plan: Option<HeaderName>,
    /// Whose word about clients and tiers counts; default: loopback.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Identity {
    fn default() -> Identity {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
        Identity { user: vec![UserSource::ClientIp], plan: None, trusted_proxies: vec![v4.into(), v6.into()] }
    }
}

/// The table of users that each throttle has.
#[derive(Clone, Copy)]
pub(super) struct Table {
    /// 1 to 100 million.
    pub(super) max_users: u32,
    pub(super) on_full: OnFull,
}

impl Default for Table {
    fn default() -> Table {
        Table { max_users: throttle::MAX_USERS, on_full: OnFull::default() }
    }
}

/// Reads `[identity]`, which may be absent.
pub(super) fn read(section: Option<Section<'_>>) -> (Identity, Table) {
    let (default, table) = (Identity::default(), Table::default());
    let Some(mut section) = section else { return (default, table) };
    let identity = Identity {
        user: section.value("user", default.user, |field| list(field, SOURCES_MAX, source)),
        plan: section.optional("plan", |field| {
            field.parsed("the name of a header", |text| header(text.strip_prefix("header:").unwrap_or(text)))
        }),
        trusted_proxies: section.value("trusted_proxies", default.trusted_proxies, |field| {
            // None at all is a choice, too: then nobody's word counts.
            field.items(0..=NETWORKS_MAX).map(|items| each(&items, network))
        }),
    };
    let on_full = [("refuse", OnFull::Refuse), ("share", OnFull::Share), ("evict", OnFull::Evict)];
    let table = Table {
        max_users: section.value("max_users", table.max_users, |field| field.number(1..=USERS_MAX)),
        on_full: section.value("on_full", table.on_full, |field| field.word(&on_full)),
    };
    section.finish();
    (identity, table)
}

fn list<T>(
    field: &Field<'_>,
    most: usize,
    parse: fn(&Field<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    field.items(1..=most).map(|items| each(&items, parse))
}

/// The items that can be read; the others are reported.
fn each<T>(items: &[Field<'_>], parse: fn(&Field<'_>) -> Result<T, Malformed>) -> Vec<T> {
    let parsed = |item: &Field<'_>| parse(item).map_err(|malformed| item.reject(malformed)).ok();
    items.iter().filter_map(parsed).collect()
}

fn network(field: &Field<'_>) -> Result<IpNet, Malformed> {
    field.parsed("a network such as `10.0.0.0/8`", address::network)
}

fn source(field: &Field<'_>) -> Result<UserSource, Malformed> {
    field.parsed("`header:NAME` or `client-ip`", |text| {
        if text == "client-ip" {
            return Ok(UserSource::ClientIp);
        }
        let malformed = || Malformed::new(format!("{} is not `header:NAME` or `client-ip`", quoted(text)));
        let Some(name) = text.strip_prefix("header:") else {
            return Err(match header(text) {
                Ok(name) if name.as_str().starts_with("x-") || name == "authorization" => {
                    malformed().help(format!("write `header:{name}`"))
                }
                _ => malformed(),
            });
        };
        header(name).map(UserSource::Header)
    })
}

/// The name of a header, in any case.
pub(super) fn header(text: &str) -> Result<HeaderName, Malformed> {
    let name = HeaderName::from_bytes(text.as_bytes());
    name.map_err(|_| Malformed::new(format!("{} is not the name of a header", quoted(text))))
}
