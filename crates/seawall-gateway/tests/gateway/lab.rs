//! `seawall lab` and `seawall check`, as a user calls them.

use std::process::{Command, Output};

use crate::harness::config;

fn seawall(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seawall"))
        .args(arguments)
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const STORM: &str = r#"
[scenario]
name = "small"
duration = "30s"
warmup = "5s"
[[clients]]
name = "web"
rate = "20/s"
calls = "api"
deadline = "1s"
retry = 2
[[service]]
name = "api"
workers = 2
time = { exponential = "20ms" }
[[event]]
at = "10s"
for = "2s"
surge = { clients = "web", factor = 4.0 }
[[assert]]
that = "goodput.after >= 0.5 * goodput.before"
"#;

const CONFIG: &str = r#"
[upstream.api]
hosts = ["http://127.0.0.1:1"]
[upstream.api.model]
workers = 2
time = { exponential = "10ms" }
[route.api]
upstream = "api"
deadline = "1s"
[route.api.model]
rate = "50/s"
"#;

#[test]
fn the_same_seeds_give_the_same_bytes_and_the_last_line_plays_them_again() {
    let storm = config("small.toml", STORM);
    let play = |name: &str| {
        let (json, html) = (format!("{name}.json"), format!("{name}.html"));
        let output =
            seawall(&["lab", "run", &storm, "--seeds", "3", "--json", &json, "--html", &html, "--csv", name]);
        let read =
            |file: &str| std::fs::read_to_string(format!("{}/{file}", env!("CARGO_TARGET_TMPDIR"))).unwrap();
        assert!(output.stderr.is_empty(), "there is no progress in a pipe: {}", said(&output));
        let files = [json, html, format!("{name}/verdicts.csv"), format!("{name}/goodput.csv")];
        (said(&output), files.map(|file| read(&file)))
    };
    let (text, files) = play("first");
    assert!(!text.contains('\x1b'), "nor colours");
    assert_eq!((&text, &files), (&play("second").0, &play("second").1));
    let last = text.lines().last().unwrap();
    let arguments: Vec<&str> = last.strip_prefix("seawall ").unwrap().split(' ').collect();
    assert_eq!(said(&seawall(&arguments)), text);
    let result: serde_json::Value = serde_json::from_str(&files[0]).unwrap();
    assert_eq!((&result["schema"], &result["scenario"]), (&1.into(), &"small".into()));
    let config = &result["configs"][1];
    for key in ["name", "verdict", "collapse", "goodput", "amplification", "recovery_s", "assertions"] {
        assert!(!config[key].is_null(), "{key}: {config}");
    }
    for (table, keys) in
        [("collapse", &["estimate", "low", "high", "seeds"][..]), ("goodput", &["before", "during", "after"])]
    {
        keys.iter().for_each(|key| assert!(config[table][key].is_number(), "{table}.{key}: {config}"));
    }
}

#[test]
fn exit_codes_say_how_it_went() {
    let storm = config("codes.toml", STORM);
    let code = |arguments: &[&str]| {
        let output = seawall(arguments);
        (output.status.code(), said(&output))
    };
    // Three seeds prove nothing.
    let (inconclusive, text) = code(&["lab", "run", &storm, "--seeds", "3", "--seed", "7"]);
    assert!(matches!(inconclusive, Some(0 | 3)), "{text}");
    assert_eq!(code(&["lab", "run", &storm, "--seeds", "1"]).0, Some(3));
    let wrong = config("codes-wrong.toml", &STORM.replace("calls = \"api\"", "calls = \"apo\""));
    assert_eq!(code(&["lab", "run", &wrong]).0, Some(2));
    let (missing, text) = code(&["lab", "run", "retri-storm"]);
    assert!(missing == Some(2) && text.contains("did you mean `retry-storm`?"), "{text}");
    let failing = config("codes-failing.toml", &STORM.replace(">= 0.5", ">= 9.5"));
    assert_eq!(code(&["lab", "run", &failing, "--seeds", "1"]).0, Some(1));
}

#[test]
fn the_gallery_plays_outside_of_a_checkout() {
    let listed = said(&seawall(&["lab", "list"]));
    assert!(listed.lines().any(|line| line.starts_with("retry-storm ")), "{listed}");
    let played = seawall(&["lab", "run", "coarse-breaker", "--seeds", "1"]);
    assert!(said(&played).contains("coarse-breaker"), "{}", said(&played));
    assert_ne!(played.status.code(), Some(2));
}

#[test]
fn a_margin_a_sweep_and_an_explanation() {
    let storm = config("verbs.toml", STORM);
    let text =
        said(&seawall(&["lab", "sweep", &storm, "--seeds", "1", "--vary", "clients.web.rate=10..30:3"]));
    assert!(text.contains("\n 20/s ") || text.contains("   20 "), "{text}");
    let unknown = seawall(&["lab", "sweep", &storm, "--vary", "clients.web.ratio=1..2:2"]);
    assert!(
        unknown.status.code() == Some(2) && said(&unknown).contains("unknown key `ratio`"),
        "{}",
        said(&unknown)
    );
    let text = said(&seawall(&["lab", "margin", &storm, "--seeds", "1", "--config", "naive"]));
    assert!(text.contains("comes back even from 8×"), "{text}");
    let text = said(&seawall(&["lab", "explain", &storm, "--seed", "1"]));
    assert!(text.contains("10 s  surge of web ×4, for 2 s begins"), "{text}");
}

#[test]
fn a_check_plays_the_standard_scenarios_on_the_users_config() {
    let file = config("checked.toml", CONFIG);
    let base = format!("{}/base.json", env!("CARGO_TARGET_TMPDIR"));
    let output = seawall(&["check", &file, "--seeds", "1", "--json", &base]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "one seed proves nothing: {text}");
    assert!(text.contains("\nsurge ") && text.contains("\nrestart ") && !text.contains("ASSUMED"), "{text}");
    assert!(text.ends_with(&format!("seawall check {file} --seeds 1 --seed 1\n")), "{text}");
    // The same config is neither better nor worse; one that refuses nearly all is.
    let same = seawall(&["check", &file, "--seeds", "1", "--compare", &base]);
    assert!(!said(&same).contains("worse:"), "{}", said(&same));
    let bad = CONFIG.replace("deadline = \"1s\"", "deadline = \"1s\"\nlimit = { max = 1, queue = 0 }");
    let worse = seawall(&["check", &config("checked-bad.toml", &bad), "--seeds", "1", "--compare", &base]);
    assert!(worse.status.code() == Some(1) && said(&worse).contains("worse: "), "{}", said(&worse));
    let no_base = seawall(&["check", &file, "--seeds", "1", "--compare", &file]);
    assert_eq!(no_base.status.code(), Some(2));
}

#[test]
fn what_a_check_assumes_is_said() {
    let bare = CONFIG.split("[upstream.api.model]").next().unwrap().to_owned()
        + "[route.api]\nupstream = \"api\"\ndeadline = \"1s\"\n";
    let file = config("assumed.toml", &bare);
    let text = said(&seawall(&["check", &file, "--seeds", "1"]));
    for said in ["ASSUMED even", "ASSUMED uneven", "ASSUMED contended", "[route.api] has no model"] {
        assert!(text.contains(said), "{text}");
    }
    let json = said(&seawall(&["check", &file, "--seeds", "1", "--format", "json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(!json["scenarios"][0]["assumptions"][0].is_null());
    for (format, sign) in
        [("md", "| surge | **"), ("junit", "<testsuite name=\"surge (even)\""), ("github", "::")]
    {
        let text = said(&seawall(&["check", &file, "--seeds", "1", "--format", format]));
        assert!(text.contains(sign), "{format}: {text}");
    }
}
