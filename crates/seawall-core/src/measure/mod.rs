//! Instruments: they measure, they decide nothing.

pub mod bucket;
pub mod ewma;
pub mod flow;
pub mod quantile;
pub mod row;
pub mod slices;
pub mod window;
