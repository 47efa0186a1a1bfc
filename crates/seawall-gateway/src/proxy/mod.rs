//! The data plane: listen → stack → upstream, on a road that a config describes.

pub(crate) mod headers;
pub(crate) mod listen;
pub(crate) mod road;
pub(crate) mod stack;
pub(crate) mod upstream;
