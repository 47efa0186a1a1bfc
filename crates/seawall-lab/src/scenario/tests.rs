use super::*;

const GOOD: &str = include_str!("../../../../scenarios/retry-storm.toml");

fn refused(change: impl Fn(&str) -> String) -> String {
    Scenario::from_toml(&change(GOOD), "storm.toml").expect_err("it must be refused").to_string()
}

#[test]
fn the_gallery_parses() {
    let scenario = Scenario::from_toml(GOOD, "retry-storm.toml").unwrap();
    assert_eq!((scenario.name.as_str(), scenario.seconds()), ("retry-storm", 160));
}

#[test]
fn errors_say_where_and_what() {
    let unknown = refused(|good| good.replace("rate =", "rat ="));
    assert!(unknown.contains("unknown field `rat`") && unknown.contains("`rate`"), "{unknown}");
    assert!(unknown.starts_with("storm.toml: TOML parse error at line "), "{unknown}");
    let unit = refused(|good| good.replace("\"40/s\"", "\"40\""));
    assert!(unit.contains("write `40/s`"), "{unit}");
    let bound = refused(|good| good.replace("attempts = 3", "attempts = 30"));
    assert_eq!(bound, "storm.toml: `clients.retry.attempts` must be 1 to 10");
    let order = refused(|good| good.replace("at = \"60s\"", "at = \"5s\""));
    assert_eq!(order, "storm.toml: `scenario.warmup` must end before `event.at`");
}
