//! The data plane: listen → stack → upstream, on a road that a config describes.

mod access;
#[cfg(test)]
mod bare;
mod belled;
pub(crate) mod connection;
mod dialling;
mod envoy;
mod failures;
pub(crate) mod fallback;
mod fitness;
pub(crate) mod greeting;
mod grpc;
mod head;
pub(crate) mod headers;
mod health;
pub(crate) mod inbound;
pub(crate) mod listen;
pub(crate) mod mirror;
mod outbound;
mod outgoing;
mod pools;
mod pulse;
mod quiet;
mod quotas;
mod reason;
mod replay;
pub(crate) mod road;
pub(crate) mod room;
mod route;
mod sending;
mod shared;
pub(crate) mod stack;
mod told;
mod tracked;
mod tunnel;
pub(crate) mod upstream;
mod wire;

#[cfg(test)]
mod tests;
