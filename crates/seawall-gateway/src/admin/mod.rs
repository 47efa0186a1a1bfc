//! The admin plane: a listener of its own, so that no load on the road can reach it.
//!
//! `/livez` says that the process answers, whatever the load, the upstreams or the config. `/readyz`
//! says whether new traffic is welcome: it turns to 503 first when the process is to end, while connections are
//! still accepted and served. `/metrics` is for Prometheus, `/api/…` for people and tools; `/openapi.json` describes
//! it all. Who may do what is said in [`auth`].

pub(crate) mod auth;
pub(crate) mod events;
mod plane;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use seawall::core::gate::BlockMode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::blocks::{ALL, Blocks, OVER, Said, Word};
use crate::handover::Successor;
use crate::proxy::listen::Phase;
use crate::proxy::road::Road;
use crate::telemetry;
use auth::Auth;
use events::Readers;
use seawall_config::{FILE_MAX, units};

/// What is described by [`/openapi.json`](self).
const OPENAPI: &str = include_str!("openapi.json");

/// What only the one in control can do.
pub(crate) enum Order {
    /// Put this config in force; what was kept, or why not.
    Configure {
        /// The text of the config.
        text: String,
        /// Who waits for the answer.
        answer: oneshot::Sender<Result<Value, String>>,
    },
    /// Finish what is under way, and end.
    Drain,
    /// The same, because another process serves from now on.
    HandOver(Successor),
}

/// Which parts of the config in force wait for a restart.
pub(crate) type Waits = Arc<ArcSwap<Vec<&'static str>>>;

/// What the admin plane looks at, and whom it tells.
#[derive(Clone)]
pub(crate) struct View {
    /// The road in force.
    pub(crate) road: Arc<ArcSwap<Road>>,
    /// How far a shutdown has gone.
    pub(crate) phase: watch::Receiver<Phase>,
    /// The config in force.
    pub(crate) config: Arc<ArcSwap<String>>,
    /// What of it waits for a restart.
    pub(crate) waits: Waits,
    /// Routes blocked by hand.
    pub(crate) blocks: Blocks,
    /// Those who read events.
    pub(crate) readers: Readers,
    /// The one in control.
    pub(crate) control: mpsc::Sender<Order>,
}

/// Serves the admin plane, with at most so many connections, until it is dropped.
pub(crate) async fn serve(listener: TcpListener, view: View, auth: Auth, most: usize) -> std::io::Result<()> {
    let guard = axum::middleware::from_fn(move |request: Request, next: Next| {
        let allowed = auth.check(request.method(), request.uri().path(), request.headers());
        async move {
            match allowed {
                Ok(()) => next.run(request).await,
                Err(status) => denied(status),
            }
        }
    });
    let router = probes()
        .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }))
        .route("/api/state", get(state))
        .route("/api/events", get(events))
        .route("/api/config", get(config).put(configure).layer(DefaultBodyLimit::max(FILE_MAX)))
        .route("/api/block/{route}", put(block).delete(admit))
        .route("/api/drain", put(drain))
        .layer(guard)
        .with_state(view);
    plane::serve(listener, router, most).await
}

/// Serves only what probes ask for, and asks nobody for a token.
pub(crate) async fn serve_probes(listener: TcpListener, view: View, most: usize) -> std::io::Result<()> {
    plane::serve(listener, probes().with_state(view), most).await
}

fn probes() -> Router<View> {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

fn denied(status: StatusCode) -> Response {
    let text = match status {
        StatusCode::MISDIRECTED_REQUEST => "the Host is no name of this machine\n",
        StatusCode::UNAUTHORIZED => "the token is missing or wrong\n",
        _ => "there is no token, so that nothing can be changed\n",
    };
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    match status {
        StatusCode::UNAUTHORIZED => (status, challenge, text).into_response(),
        _ => (status, text).into_response(),
    }
}

async fn ready(State(view): State<View>) -> impl IntoResponse {
    match *view.phase.borrow() {
        Phase::Serve => (StatusCode::OK, "ready\n"),
        Phase::LameDuck | Phase::Drain(_) | Phase::Stop => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn metrics(State(view): State<View>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], telemetry::metrics(&view.road.load()))
}

async fn state(State(view): State<View>) -> impl IntoResponse {
    let mut state = telemetry::state(&view.road.load());
    state["waits_for_restart"] = view.waits.load().to_vec().into();
    axum::Json(state)
}

async fn events(State(view): State<View>) -> Response {
    match view.readers.join() {
        Some(events) => (
            [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")],
            Body::new(events),
        )
            .into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "too many read events\n").into_response(),
    }
}

async fn config(State(view): State<View>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/toml")], view.config.load().as_str().to_owned())
}

/// Validates a config and puts it in force. The file is left as it is.
async fn configure(State(view): State<View>, Query(asked): Query<Asked>, text: String) -> Response {
    if let Some(refused) = unknown(&asked, &[]) {
        return refused;
    }
    let (answer, answered) = oneshot::channel();
    if view.control.send(Order::Configure { text, answer }).await.is_err() {
        return draining();
    }
    match answered.await {
        Ok(Ok(kept)) => axum::Json(kept).into_response(),
        Ok(Err(problem)) => (StatusCode::UNPROCESSABLE_ENTITY, problem).into_response(),
        Err(_) => draining(),
    }
}

async fn drain(State(view): State<View>, Query(asked): Query<Asked>) -> Response {
    if let Some(refused) = unknown(&asked, &[]) {
        return refused;
    }
    if *view.phase.borrow() != Phase::Serve {
        return draining();
    }
    match view.control.send(Order::Drain).await {
        Ok(()) => (StatusCode::ACCEPTED, "draining\n").into_response(),
        Err(_) => draining(),
    }
}

fn draining() -> Response {
    (StatusCode::CONFLICT, "draining\n").into_response()
}

type Asked = std::collections::BTreeMap<String, String>;

/// The refusal of a key that nobody reads: what was meant by it would not be done.
fn unknown(asked: &Asked, keys: &[&str]) -> Option<Response> {
    let unknown = asked.keys().find(|key| !keys.contains(&key.as_str()))?;
    let unknown: String = unknown.chars().take(40).collect();
    let known = if keys.is_empty() { "none".to_owned() } else { format!("`{}`", keys.join("`, `")) };
    let text = format!("unknown key {unknown:?} in the query; known here: {known}\n");
    Some((StatusCode::BAD_REQUEST, text).into_response())
}

/// `PUT /api/block/{route}?why=…`
async fn block(State(view): State<View>, Path(route): Path<String>, Query(asked): Query<Asked>) -> Response {
    if let Some(refused) = unknown(&asked, &["why"]) {
        return refused;
    }
    let why = asked.get("why").map_or("by hand", String::as_str);
    let why = why.chars().take(200).collect();
    say(&view, &route, Word::Block { why })
}

/// `DELETE /api/block/{route}?percent=50&over=5m`
async fn admit(State(view): State<View>, Path(route): Path<String>, Query(asked): Query<Asked>) -> Response {
    if let Some(refused) = unknown(&asked, &["percent", "over"]) {
        return refused;
    }
    let percent = asked.get("percent").map_or(Ok(ALL), |text| units::percentage_or_number(text));
    let over = asked.get("over").map_or(Ok(OVER), |text| units::duration(text));
    match (percent, over) {
        (Ok(0), Ok(_)) => (StatusCode::BAD_REQUEST, "0% is a block: use PUT\n").into_response(),
        (Ok(top_ppm), Ok(over)) => say(&view, &route, Word::Admit { top_ppm, over }),
        (Err(problem), _) | (_, Err(problem)) => {
            (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response()
        }
    }
}

fn say(view: &View, name: &str, word: Word) -> Response {
    // Who serves next has read already what is blocked.
    if !view.phase.borrow().accepts() {
        return draining();
    }
    let road = view.road.load();
    let Some(Said { was, remembered }) = view.blocks.say(&road, name, word) else {
        return (StatusCode::NOT_FOUND, "there is no such route\n").into_response();
    };
    if let Err(error) = &remembered {
        tracing::error!(route = name, %error, "cannot remember this over a restart");
    }
    let route = road.routes.iter().find(|route| route.matching.name == name);
    let block = route.map(|route| telemetry::block(&route.gate.snapshot(seawall::now()).block));
    let was = was.map_or("gone", BlockMode::name);
    axum::Json(json!({ "route": name, "was": was, "block": block, "remembered": remembered.is_ok() }))
        .into_response()
}
