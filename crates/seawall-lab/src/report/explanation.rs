//! An explanation, as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::csv::word;
use crate::explain::{Alternative, Explanation};

/// As text; `replay` is the command that plays it again.
pub fn text(why: &Explanation, replay: &str) -> String {
    let mut text = format!(
        "seed {} under {}: {}, {:.0} % of the goodput without the trigger\n\nWhat happened\n",
        why.seed,
        why.config,
        word(why.fate),
        why.after * 1e2
    );
    for moment in &why.chain {
        _ = writeln!(text, "  {:>5} s  {}", moment.second, moment.what);
    }
    let (matters, idle): (Vec<&Alternative>, Vec<&Alternative>) =
        why.without.iter().partition(|other| other.matters(why.fate));
    text +=
        "\nWithout one of these it would have gone otherwise: the same seed again, each time without it\n";
    if matters.is_empty() {
        text += "  none: no single condition makes a difference\n";
    }
    for other in matters {
        _ = writeln!(text, "  {:>5.0} %  {:13}  {}", other.after * 1e2, word(other.fate), other.what);
    }
    if !idle.is_empty() {
        text += "\nThese made no difference alone\n";
    }
    for other in idle {
        _ = writeln!(text, "  {:>5.0} %  {:13}  {}", other.after * 1e2, word(other.fate), other.what);
    }
    text += "\nWhat could have been done\n";
    for other in &why.prevented {
        _ = writeln!(text, "  {:>5.0} %  {:13}  {}", other.after * 1e2, word(other.fate), other.what);
    }
    _ = writeln!(text, "\n{replay}");
    text
}

/// As JSON.
pub fn json(why: &Explanation, scenario: &str, replay: &str) -> Value {
    let alternatives = |all: &[Alternative]| -> Vec<Value> {
        let one = |other: &Alternative| {
            json!({
                "what": other.what,
                "fate": word(other.fate),
                "after": other.after,
                "gain": other.gain,
                "matters": other.matters(why.fate),
            })
        };
        all.iter().map(one).collect()
    };
    let chain: Vec<Value> =
        (why.chain.iter()).map(|moment| json!({ "second": moment.second, "what": moment.what })).collect();
    json!({
        "schema": 1,
        "scenario": scenario,
        "config": why.config,
        "seed": why.seed,
        "fate": word(why.fate),
        "after": why.after,
        "chain": chain,
        "without": alternatives(&why.without),
        "prevented": alternatives(&why.prevented),
        "replay": replay,
    })
}
