use proptest::prelude::*;

use super::*;

fn bulkhead(share_percent: u32, tenants: u32) -> Bulkhead {
    Bulkhead::new(Config::new(Settings { share_percent, tenants }).unwrap(), 0)
}

fn take(bulkhead: &mut Bulkhead, user: u64) -> Tenant {
    let tenant = bulkhead.tenant(Key(user));
    bulkhead.change(tenant, |held| held.in_flight += 1);
    tenant
}

#[test]
fn a_tenant_holds_its_share_and_at_least_one_place() {
    let mut bulkhead = bulkhead(30, 10);
    let tenant = take(&mut bulkhead, 1);
    assert!(bulkhead.has_room(tenant, 4), "30 % of 4 is rounded up");
    take(&mut bulkhead, 1);
    assert!(!bulkhead.has_room(tenant, 4));
    assert!(bulkhead.has_room(bulkhead.tenant(Key(2)), 1));
}

#[test]
fn who_comes_when_the_table_is_full_shares_one_bulkhead() {
    let mut bulkhead = bulkhead(50, 2);
    let tenants = [1, 2, 3, 4].map(|user| take(&mut bulkhead, user));
    assert_eq!(bulkhead.tenants(), 3);
    assert_eq!(bulkhead.held(tenants[2]), Held { in_flight: 2, waiting: 0 });
    // A place in the table is free again: the fourth keeps what it holds in the shared one.
    bulkhead.change(tenants[0], |held| held.in_flight -= 1);
    let own = take(&mut bulkhead, 4);
    assert_eq!(bulkhead.held(own).in_flight, 1);
    bulkhead.change(tenants[3], |held| held.in_flight -= 1);
    assert_eq!(bulkhead.held(own).in_flight, 1);
    assert_eq!(bulkhead.held(tenants[2]).in_flight, 1);
}

#[test]
fn a_place_from_before_a_new_table_does_not_count_in_it() {
    let old = take(&mut bulkhead(50, 2), 1);
    let mut new = Bulkhead::new(Config::default(), 1);
    let tenant = take(&mut new, 1);
    new.change(old, |held| held.in_flight -= 1);
    assert_eq!(new.held(tenant).in_flight, 1);
}

#[test]
fn shares_are_max_min_fair() {
    assert_eq!(max_min(9.0, &[1.0, 4.0, 10.0]), [1.0, 4.0, 4.0]);
    assert_eq!(max_min(9.0, &[10.0, 1.0, 4.0]), [4.0, 1.0, 4.0]);
    assert_eq!(max_min(10.0, &[2.0, 2.6, 4.0, 5.0]), [2.0, 2.6, 2.7, 2.7]);
    assert_eq!(max_min(100.0, &[1.0, 2.0]), [1.0, 2.0]);
    assert_eq!(max_min(0.0, &[1.0]), [0.0]);
    assert!(max_min(5.0, &[]).is_empty());
}

#[test]
fn the_constructor_names_key_value_and_bound() {
    let said = |settings| Config::new(settings).unwrap_err();
    let error = said(Settings { share_percent: 101, ..Settings::default() });
    assert_eq!(error, SettingError { key: "share_percent", range: "1 to 100" });
    let error = said(Settings { tenants: 0, ..Settings::default() });
    assert_eq!(error, SettingError { key: "tenants", range: "1 to 1 000 000" });
}

proptest! {
    #[test]
    fn nobody_gains_without_one_who_has_less_losing(demands in prop::collection::vec(0.0..20.0_f64, 1..12), capacity in 0.0..60.0_f64) {
        let shares = max_min(capacity, &demands);
        let (asked, got): (f64, f64) = (demands.iter().sum(), shares.iter().sum());
        prop_assert!((got - asked.min(capacity)).abs() < 1e-9);
        let most = shares.iter().copied().fold(0.0, f64::max);
        for (share, demand) in shares.iter().zip(&demands) {
            prop_assert!(share <= demand && (share == demand || (most - share).abs() < 1e-9));
        }
    }
}
