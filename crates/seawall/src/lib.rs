//! Resilience for Rust services: throttle, shed, limit, break and retry as tower layers.
