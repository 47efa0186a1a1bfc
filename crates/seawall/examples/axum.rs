//! An axum service that throttles each user and sheds load.
//!
//! `cargo run -p seawall --example axum`, then what it prints.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request as HttpRequest};
use axum::routing::get;
use seawall::admission::AdmissionLayer;
use seawall::core::gate::{Gate, Lane, Rule, Settings};
use seawall::core::measure::bucket::{Quota, Rate};
use seawall::core::request::{Key, Request};
use seawall::core::time::{Span, Time};
use seawall::core::{limit, shed, throttle};
use seawall::http::{Families, HttpAdapter, NamedQuota, Refusals};
use seawall::{Threads, UserKeys, now, seed};

/// The service, behind a throttle of `burst` requests for each user and a limit that finds the
/// capacity by itself.
pub(crate) fn app(burst: u64) -> Router {
    let quota =
        Quota::new(Rate { count: 1, per: Span::from_secs(60) }, burst).expect("a quota of at least 1");
    let rule = Rule::<Threads>::new(throttle::Config::per_user(quota), now());
    let settings = Settings { limit: Some(limit::Config::default()), ..Settings::default() };
    let lane = Lane { shed: Some(shed::Config::default()), ..Lane::default() };
    let gate = Gate::new(settings, lane, now()).throttled(vec![Arc::new(rule)]);

    let keys = UserKeys::new();
    let named = NamedQuota::new("user", quota).expect("a plain name");
    let refusals = Arc::new(Refusals::new(vec![named], Families::default(), seed()));
    let seen = move |now: Time, request: &HttpRequest| Request {
        deadline: now + Span::from_secs(5),
        ..Request::new(user(&keys, request))
    };
    let admission = AdmissionLayer::new(Arc::new(gate), HttpAdapter::new(seen, refusals));
    Router::new().route("/", get(|| async { "hello\n" })).layer(admission)
}

/// The key that a client shows, or else its address.
fn user(keys: &UserKeys, request: &HttpRequest) -> Key {
    if let Some(key) = request.headers().get("x-api-key") {
        return keys.key(key.as_bytes());
    }
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    address.map_or(keys.key(b""), |address| keys.address(address))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("try, more than five times:  curl -i -H 'x-api-key: me' http://127.0.0.1:3000/");
    axum::serve(listener, app(5).into_make_service_with_connect_info::<SocketAddr>()).await
}
