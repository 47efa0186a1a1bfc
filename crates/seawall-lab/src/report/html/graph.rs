//! The call graph and the map of verdicts, as SVG.

use maud::{Markup, html};

use super::chart::round;
use crate::experiment::ConfigResult;
use crate::map::{Cell, Map};
use crate::report::Report;
use crate::scenario::Phase;
use crate::telling::short;

/// The most callers and services of a graph; more are only in the table.
const NODES_MAX: usize = 24;
/// A node and the room around it.
const NODE: (f64, f64) = (122.0, 40.0);
const STEP: (f64, f64) = (166.0, 104.0);

struct Node<'a> {
    name: &'a str,
    about: String,
    x: f64,
    y: f64,
}

/// Who calls whom while the trigger lasts; `None` when there is too much of it.
pub(super) fn calls(report: &Report, config: &ConfigResult) -> Option<Markup> {
    let links = &report.results.links;
    let services = &report.scenario.services;
    if report.scenario.clients.len() + services.len() > NODES_MAX {
        return None;
    }
    let nodes = laid_out(report);
    let at = |name: &str, caller: bool| {
        let clients = report.scenario.clients.len();
        let some = if caller { &nodes[..] } else { &nodes[clients..] };
        some.iter().find(|node| node.name == name)
    };
    let right = nodes.iter().map(|node| node.x).fold(0.0, f64::max) + STEP.0 / 2.0;
    let bottom = nodes.iter().map(|node| node.y).fold(0.0, f64::max) + NODE.1 / 2.0 + 6.0;
    let width = right.max(2.0 * STEP.0);
    let shift = (width - right) / 2.0;
    let told: Vec<String> =
        links.iter().map(|(from, to)| format!("{from} calls {}", services[*to].name)).collect();
    Some(html! {
        svg viewBox={ "0 0 " (round(width)) " " (round(bottom)) } role="img"
            style={ "max-width:" (round(width * 1.25)) "px;margin:0 auto" }
            aria-label={ "Call graph: " (told.join(", ")) ". The table below has its figures." } {
            g transform={ "translate(" (round(shift)) " 0)" } {
                @for (place, (from, to)) in links.iter().enumerate() {
                    @let ends = at(from, true).zip(at(&services[*to].name, false));
                    @let flow = config.run.flow(place, Phase::During).unwrap_or_default();
                    @if let Some((above, below)) = ends {
                        @let share = if flow.made > 0.0 { flow.answered / flow.made } else { 1.0 };
                        @let colour = if share >= 0.95 { "--good" } else if share >= 0.5 { "--open" } else { "--bad" };
                        @let (x1, y1) = (above.x, above.y + NODE.1 / 2.0);
                        @let (x2, y2) = (below.x, below.y - NODE.1 / 2.0);
                        @let middle = (y1 + y2) / 2.0;
                        path d={ "M" (round(x1)) " " (round(y1)) " C" (round(x1)) " " (round(middle)) " " (round(x2)) " " (round(middle)) " " (round(x2)) " " (round(y2)) }
                            fill="none" stroke={ "var(" (colour) ")" } stroke-width="2.2"
                            stroke-dasharray=[(share < 0.5).then_some("5 3")] {}
                        path d={ "M" (round(x2 - 4.0)) " " (round(y2 - 7.0)) " L" (round(x2)) " " (round(y2)) " L" (round(x2 + 4.0)) " " (round(y2 - 7.0)) }
                            fill="none" stroke={ "var(" (colour) ")" } stroke-width="2" {}
                        // Beside the arrow's end, where those of two callees do not meet.
                        text x=(round(x2 + 8.0)) y=(round(y2 - 11.0)) font-size="10.5"
                            stroke="var(--card)" stroke-width="4" paint-order="stroke" {
                            (short(round(flow.made))) "/s, " (format!("{:.0} %", share.min(1.0) * 1e2))
                        }
                    }
                }
                @for node in &nodes {
                    g {
                        title { (node.name) ": " (node.about) }
                        rect.node x=(round(node.x - NODE.0 / 2.0)) y=(round(node.y - NODE.1 / 2.0)) width=(NODE.0)
                            height=(NODE.1) rx="7" {}
                        text x=(round(node.x)) y=(round(node.y - 2.0)) text-anchor="middle" font-weight="600"
                            font-size=(if node.name.len() > 13 { "10.5" } else { "12.5" }) { (cut(node.name, 17)) }
                        text.soft x=(round(node.x)) y=(round(node.y + 13.0)) text-anchor="middle" font-size="10" {
                            (node.about)
                        }
                    }
                }
            }
        }
    })
}

/// A name that fits.
fn cut(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

/// Clients first; each service below all that call it.
fn laid_out(report: &Report) -> Vec<Node<'_>> {
    let (clients, services) = (&report.scenario.clients, &report.scenario.services);
    let mut depth = vec![1; services.len()];
    for _ in 0..services.len() {
        for (from, to) in report.results.links.iter().skip(clients.len()) {
            let above = services.iter().position(|service| service.name == *from);
            let above = above.map_or(0, |place| depth[place]);
            depth[*to] = depth[*to].max(above + 1);
        }
    }
    let layers: Vec<Vec<usize>> = (1..=depth.iter().copied().max().unwrap_or(1))
        .map(|layer| (0..services.len()).filter(|place| depth[*place] == layer).collect())
        .collect();
    let widest = layers.iter().map(Vec::len).chain([clients.len()]).max().unwrap_or(1) as f64;
    let x = |place: usize, of: usize| (place as f64 + 0.5 + (widest - of as f64) / 2.0) * STEP.0;
    let top = NODE.1 / 2.0 + 3.0;
    let mut nodes: Vec<Node<'_>> = (clients.iter().enumerate())
        .map(|(place, of)| Node {
            name: &of.name,
            about: "clients".to_owned(),
            x: x(place, clients.len()),
            y: top,
        })
        .collect();
    nodes.extend(services.iter().enumerate().map(|(place, service)| {
        let layer = &layers[depth[place] - 1];
        let within = layer.iter().position(|other| *other == place).unwrap_or(0);
        let workers = match service.model.workers {
            Some(workers) => format!("{} × {workers} workers", service.replicas),
            None => format!("{} × no bound", service.replicas),
        };
        let y = top + depth[place] as f64 * STEP.1;
        Node { name: &service.name, about: workers, x: x(within, layer.len()), y }
    }));
    nodes
}

/// How often a config stays down, by load and trigger.
pub(super) fn verdicts(map: &Map, rows: &[Vec<Cell>], name: &str) -> Markup {
    let (left, top, cell) = (58.0, 8.0, (44.0, 30.0));
    let (columns, count) = (map.loads.len() as f64, rows.len() as f64);
    let (width, height) = (left + columns * cell.0 + 8.0, top + count * cell.1 + 44.0);
    let colour = |cell: &Cell| match cell.down {
        _ if cell.overloaded => "--line",
        down if down >= 0.5 => "--bad-fill",
        down if down > 0.0 => "--open-fill",
        _ => "--good-fill",
    };
    let word =
        |cell: &Cell| if cell.overloaded { "over".to_owned() } else { format!("{:.0} %", cell.down * 1e2) };
    let down = rows.iter().flatten().filter(|cell| cell.down >= 0.5).count();
    html! {
        svg viewBox={ "0 0 " (round(width)) " " (round(height)) } role="img" style={ "max-width:" (round(width * 1.25)) "px" }
            aria-label={ "Map for " (name) ": stays down in half of the cases or more in " (down) " of " (rows.iter().flatten().count()) " cells" } {
            @for (row, (cells, trigger)) in rows.iter().zip(&map.triggers).rev().enumerate() {
                @let y = top + row as f64 * cell.1;
                text.soft x=(left - 7.0) y=(round(y + cell.1 / 2.0 + 3.5)) text-anchor="end" font-size="10.5" { (short(*trigger)) "×" }
                @for (column, (value, load)) in cells.iter().zip(&map.loads).enumerate() {
                    @let x = left + column as f64 * cell.0;
                    @let own = *trigger == 1.0 && *load == 1.0;
                    g {
                        title { "load " (short(*load)) "×, trigger " (short(*trigger)) "×: " (word(value)) }
                        rect x=(round(x + 1.5)) y=(round(y + 1.5)) width=(cell.0 - 3.0) height=(cell.1 - 3.0) rx="4"
                            style={ "fill:var(" (colour(value)) ")" (if own { ";stroke:var(--ink);stroke-width:2" } else { "" }) } {}
                        text x=(round(x + cell.0 / 2.0)) y=(round(y + cell.1 / 2.0 + 3.5)) text-anchor="middle"
                            font-size="10.5" { (word(value)) }
                    }
                }
            }
            @for (column, load) in map.loads.iter().enumerate() {
                text.soft x=(round(left + (column as f64 + 0.5) * cell.0)) y=(round(top + count * cell.1 + 15.0))
                    text-anchor="middle" font-size="10.5" { (short(*load)) "×" }
            }
            text.soft x=(round(left + columns * cell.0 / 2.0)) y=(round(height - 8.0)) text-anchor="middle" font-size="11" {
                "load"
            }
            text.soft x="0" y="0" text-anchor="middle" font-size="11"
                transform={ "translate(12 " (round(top + count * cell.1 / 2.0)) ") rotate(-90)" } { "trigger" }
        }
    }
}
