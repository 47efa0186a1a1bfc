//! The data plane: listen → stack → upstream.

pub mod headers;
pub mod listen;
pub mod upstream;
