//! Margins, as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::formats::share;
use super::interval;
use crate::margin::{Margin, SCALE_LEAST, SCALE_MAX, scaled};
use crate::scenario::Scenario;
use crate::telling;

/// The trigger at a size, in words.
fn trigger(scenario: &Scenario, scale: f64) -> String {
    let Some(scenario) = scaled(scenario, scale) else { return String::new() };
    let told: Vec<String> =
        scenario.events.iter().take(3).map(|event| telling::event(&scenario, event)).collect();
    let more = if scenario.events.len() > 3 { ", …" } else { "" };
    format!("{}{more}", told.join("; "))
}

/// The margin in a sentence.
fn sentence(scenario: &Scenario, margin: &Margin) -> String {
    let at = |scale: f64| trigger(scenario, scale);
    match (margin.holds, margin.breaks) {
        _ if margin.overloaded => "fails without any trigger".to_owned(),
        (Some(holds), Some(breaks)) => {
            format!("comes back from {holds:.2}× ({}), not from {breaks:.2}× ({})", at(holds), at(breaks))
        }
        (Some(_), None) => format!("comes back even from {SCALE_MAX}× ({})", at(SCALE_MAX)),
        (None, Some(_)) => format!("does not come back even from {SCALE_LEAST}× ({})", at(SCALE_LEAST)),
        (None, None) => "was not tried".to_owned(),
    }
}

/// As text; `replay` is the command that plays it again.
pub fn text(scenario: &Scenario, margins: &[Margin], replay: &str) -> String {
    let mut text = format!("1× is {}\n\n", trigger(scenario, 1.0));
    let width = margins.iter().map(|margin| margin.name.len()).max().unwrap_or(0);
    for margin in margins {
        _ = writeln!(text, "{:width$}  {}", margin.name, sentence(scenario, margin));
    }
    for margin in margins.iter().filter(|margin| !margin.tried.is_empty()) {
        _ = writeln!(text, "\n{:width$}  trigger  stays down (95 %)", margin.name);
        for (scale, down) in &margin.tried {
            _ = writeln!(text, "{:width$}  {:>6.2}×  {}", "", scale, share(down));
        }
    }
    _ = writeln!(text, "\n{replay}");
    text
}

/// As JSON.
pub fn json(scenario: &Scenario, margins: &[Margin], seeds: u32, first: u64, replay: &str) -> Value {
    let one = |margin: &Margin| {
        let tried = |(scale, down): &(f64, crate::verdict::Interval)| json!({ "scale": scale, "trigger": trigger(scenario, *scale), "collapse": interval(down) });
        json!({
            "name": margin.name,
            "holds": margin.holds,
            "breaks": margin.breaks,
            "overloaded": margin.overloaded,
            "tried": margin.tried.iter().map(tried).collect::<Vec<Value>>(),
        })
    };
    json!({
        "schema": 1,
        "scenario": scenario.name,
        "trigger": trigger(scenario, 1.0),
        "seeds": seeds,
        "first_seed": first,
        "configs": margins.iter().map(one).collect::<Vec<Value>>(),
        "replay": replay,
    })
}
