//! The data plane: listen → stack → upstream, on a road that a config describes.

#[cfg(test)]
mod bare;
mod connection;
mod dialling;
pub(crate) mod fallback;
mod head;
pub(crate) mod headers;
mod health;
pub(crate) mod listen;
mod pulse;
pub(crate) mod road;
pub(crate) mod stack;
pub(crate) mod upstream;
mod wire;

#[cfg(test)]
mod tests;
