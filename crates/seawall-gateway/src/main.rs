//! The Seawall gateway.
fn main() {}
