//! `cargo xtask compare`: what a request costs in the gateway, beside nginx, HAProxy and Envoy.
//!
//! **Mechanics.** All proxies run at once in front of one origin; who is not asked costs nothing. The
//! load and the origin are pinned to one core, every proxy to another. Rounds are interleaved, each proxy
//! once in each, and medians are shown. The cost is the processor time of a proxy's processes per
//! request: requests a second also tell how fast the generator is.
//!
//! **Edges.** A peer that is not installed is left out, with a word on how to get it. Figures of another
//! machine are no good: only ratios within one run are.

mod figures;
mod paced;
mod peers;
pub(crate) mod process;
mod sections;

use std::path::PathBuf;

use clap::ValueEnum;

pub(crate) use self::paced::Args as PacedArgs;
pub(crate) use self::paced::run as paced;
use self::peers::Stage;
use crate::Result;
use crate::overload::processes;

#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask compare cost rejections --rounds 3")]
pub(crate) struct Args {
    /// What to measure; everything when nothing is named
    sections: Vec<Section>,
    /// How often each proxy is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Keep-alive connections of the load
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Connections that do nothing, for `memory`
    #[arg(long, default_value_t = 9_900, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    idle: u32,
    /// Only proxies whose names begin like this; may be repeated
    #[arg(long)]
    only: Vec<String>,
    /// A gateway that is built already, instead of building this one
    #[arg(long)]
    gateway: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Processor time per 100 000 served requests
    Cost,
    /// Processor time per 100 000 refused requests
    Rejections,
    /// The 99th percentile that a proxy adds, at half of what it can do
    Latency,
    /// Resident memory, idle and with many idle connections
    Memory,
    /// The delay of probes while 20 000 requests a second are refused
    Flood,
}

/// Runs the sections that are asked for.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        processes::build("xtask").await?;
        if args.gateway.is_empty() {
            processes::build("seawall-gateway").await?;
        }
        Ok::<_, crate::Error>(())
    })?;
    processes::raise_descriptor_limit();
    let asked = |section: &Section| args.sections.is_empty() || args.sections.contains(section);
    let stage = Stage::set(&args.gateway)?;
    for section in Section::value_variants().iter().copied().filter(asked) {
        match section {
            Section::Cost => sections::cost(&stage, args)?,
            Section::Rejections => sections::rejections(&stage, args)?,
            Section::Latency => sections::latency(&stage, args)?,
            Section::Memory => sections::memory(&stage, args)?,
            Section::Flood => sections::flood(&stage, args)?,
        }
    }
    Ok(())
}
