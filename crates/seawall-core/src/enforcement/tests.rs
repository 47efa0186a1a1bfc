use super::*;

#[test]
fn each_policy_has_its_own_enforcement() {
    for policy in Policy::ALL {
        for enforcement in [Enforcement::Enforced, Enforcement::Shadow, Enforcement::Off] {
            let stance = Stance::default().with(policy, Enforcement::Shadow).with(policy, enforcement);
            for other in Policy::ALL {
                let expected = if other == policy { enforcement } else { Enforcement::Enforced };
                assert_eq!(stance.of(other), expected, "{other:?}");
            }
        }
    }
}

#[test]
fn a_switch_changes_one_policy_and_keeps_the_others() {
    let switch = Switch::new(Stance::default().with(Policy::Shed, Enforcement::Off));
    switch.set(Policy::Limit, Enforcement::Shadow);
    let stance = switch.stance();
    assert_eq!(
        [Policy::Shed, Policy::Limit, Policy::Throttle].map(|policy| stance.of(policy).name()),
        ["off", "shadow", "enforced"]
    );
}

#[test]
fn a_set_holds_what_was_added() {
    let mut set = Policies::default();
    assert_eq!(set.iter().count(), 0);
    set.add(Policy::Breaker);
    set.add(Policy::Throttle);
    set.add(Policy::Breaker);
    assert!(set.iter().eq([Policy::Throttle, Policy::Breaker]));
}
