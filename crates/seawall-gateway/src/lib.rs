//! The Seawall gateway: an HTTP reverse proxy that keeps a service standing.

pub mod proxy;
