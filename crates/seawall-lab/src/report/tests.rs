use super::*;

fn storm(seeds: u32) -> Report {
    let source = include_str!("../../../../scenarios/retry-storm.toml");
    let scenario = Scenario::from_toml(source, "retry-storm.toml").unwrap();
    run(&scenario, Options { seeds, first_seed: 1 }, &|_| ())
}

#[test]
fn the_storm_breaks_the_naive_and_not_the_protected() {
    let report = storm(20);
    let [naive, protected] = report.configs.as_slice() else { panic!("two configs") };
    assert!(matches!(naive.verdict, Verdict::Metastable | Verdict::Vulnerable), "{:?}", naive.verdict);
    assert_eq!(protected.verdict, Verdict::Stable, "{}", report.text("storm.toml"));
    assert!(protected.goodput[2] > 0.95 * protected.goodput[0]);
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn the_same_seeds_give_the_same_bytes() {
    let (one, two) = (storm(3), storm(3));
    assert_eq!(one.json(), two.json());
    let text = one.text("storm.toml");
    assert!(
        text.ends_with(&format!("seawall lab run storm.toml --seeds {} --seed 1\n", one.seeds)),
        "{text}"
    );
    let object: Value = serde_json::from_str(&one.json()).unwrap();
    assert_eq!(object["schema"], 1);
    assert_eq!(object["configs"][1]["name"], "protected");
}
