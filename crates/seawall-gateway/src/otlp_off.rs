//! What stands for [`otlp`](crate::otlp) in a build without it: nothing is exported.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, Method, StatusCode};
use seawall_config::Otlp;

use crate::proxy::road::Road;
use crate::telemetry::Deliveries;

/// There is none.
#[derive(Clone, Debug)]
pub(crate) enum Exports {}

/// There is none.
#[derive(Clone, Debug)]
pub(crate) enum Tracer {}

/// There is none.
pub(crate) enum Span {}

/// Why there is none.
#[derive(Debug)]
pub(crate) struct NotBuilt;

impl fmt::Display for NotBuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this build has no OTLP: build it with the feature `otlp`")
    }
}

impl std::error::Error for NotBuilt {}

impl Exports {
    pub(crate) fn new(_: &Otlp) -> Result<Exports, NotBuilt> {
        Err(NotBuilt)
    }

    pub(crate) fn deliveries(&self) -> Arc<Deliveries> {
        match *self {}
    }

    pub(crate) fn tracer(&self) -> Tracer {
        match *self {}
    }

    pub(crate) fn discover(&self, _: &Arc<ArcSwap<Road>>) {
        match *self {}
    }

    pub(crate) fn finish(&self) {
        match *self {}
    }
}

impl Tracer {
    pub(crate) fn begin(&self, _: &mut HeaderMap, _: &Method, _: &str, _: &str) -> Span {
        match *self {}
    }
}

impl Span {
    pub(crate) fn end(self, _: StatusCode, _: Option<&str>) {
        match self {}
    }
}
