//! The admin plane: a listener of its own, so that no load on the road can reach it.
//!
//! `/livez` says that the process answers, whatever the load, the upstreams or the config. `/readyz`
//! says whether new traffic is welcome: it turns to 503 when a drain begins, while requests are
//! still served. `/metrics` is for Prometheus, `/api/state` for people and tools.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::proxy::listen::Phase;
use crate::proxy::road::Road;
use crate::telemetry;

/// What the admin plane looks at.
#[derive(Clone)]
pub(crate) struct View {
    /// The road in force.
    pub(crate) road: Arc<ArcSwap<Road>>,
    /// How far a shutdown has gone.
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Binds the admin address.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves the admin plane until it is dropped.
pub(crate) async fn serve(listener: TcpListener, view: View) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/state", get(state))
        .with_state(view);
    axum::serve(listener, router).await
}

async fn ready(State(view): State<View>) -> impl IntoResponse {
    match *view.phase.borrow() {
        Phase::Serve => (StatusCode::OK, "ready\n"),
        Phase::Drain | Phase::Stop => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn metrics(State(view): State<View>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], telemetry::metrics(&view.road.load()))
}

async fn state(State(view): State<View>) -> impl IntoResponse {
    axum::Json(telemetry::state(&view.road.load()))
}
