use super::*;
use crate::time::Time;

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn latencies() -> Histogram {
    let mut latencies = Histogram::new(1_000, Span::from_secs(60), Time::ZERO);
    (1..=100).for_each(|millis| latencies.add(Time::ZERO, ms(millis)));
    latencies
}

#[test]
fn a_fixed_delay_needs_no_knowledge() {
    let mut hedge = Hedge::new(Config::new(After::Delay(ms(7))).unwrap().up_to(2).unwrap());
    let nothing = Histogram::new(10, ms(1), Time::ZERO);
    assert_eq!([0, 1, 2].map(|sent| hedge.after(&nothing, sent)), [Some(ms(7)), Some(ms(7)), None]);
}

#[test]
fn a_quantile_is_awaited_until_it_is_known() {
    let mut hedge = Hedge::new(Config::default());
    assert_eq!(hedge.after(&Histogram::new(10, ms(1), Time::ZERO), 0), None);
    let mut hedge = Hedge::new(Config::default());
    let after = hedge.after(&latencies(), 0).unwrap();
    assert!((ms(95)..ms(98)).contains(&after), "{after}");
    assert_eq!(hedge.snapshot().after, Some(after));
    assert_eq!(hedge.after(&latencies(), 1), None, "one hedge for a call is the default");
}

#[test]
fn another_quantile_is_worked_out_at_once() {
    let mut hedge = Hedge::new(Config::default());
    hedge.after(&latencies(), 0);
    hedge.configure(Config::new(After::Quantile(Quantile::new(0.5).unwrap())).unwrap());
    assert!(hedge.after(&latencies(), 0).unwrap() < ms(52));
}

#[test]
fn a_busy_upstream_gets_none() {
    let load = |in_flight, stands| Load { in_flight, limit: 100, stands };
    for (in_flight, expect) in [(85, Ok(())), (86, Err(Off::Overload)), (100, Err(Off::Overload))] {
        assert_eq!(Hedge::new(Config::default()).admit(load(in_flight, false)), expect);
    }
    assert_eq!(Hedge::new(Config::default()).admit(load(1, true)), Err(Off::Overload), "a standing queue");
    let unlimited = Load { in_flight: 1_000_000, ..Load::default() };
    assert_eq!(Hedge::new(Config::default()).admit(unlimited), Ok(()), "no limit that could tell");
}

#[test]
fn one_glance_at_a_busy_moment_is_not_yet_overload() {
    let mut hedge = Hedge::new(Config::default());
    (0..40).for_each(|_| hedge.admit(Load { in_flight: 50, limit: 100, stands: false }).unwrap());
    let full = Load { in_flight: 100, limit: 100, stands: false };
    assert_eq!(hedge.admit(full), Ok(()));
    let refused = (0..20).position(|_| hedge.admit(full).is_err());
    assert!(refused.is_some_and(|after| after < 15), "{refused:?}");
    let after = (0..20).position(|_| hedge.admit(Load { in_flight: 60, ..full }).is_ok());
    assert!(after.is_some_and(|after| after < 15), "{after:?}");
}

#[test]
fn a_lull_of_a_moment_is_not_yet_room() {
    let mut hedge = Hedge::new(Config::default());
    let load = |in_flight| Load { in_flight, limit: 100, stands: in_flight == 100 };
    (0..1_000).for_each(|_| _ = hedge.admit(load(100)));
    let sent = (0..1_000).filter(|due| hedge.admit(load(if due % 60 < 50 { 100 } else { 40 })).is_ok());
    assert_eq!(sent.count(), 0, "most of the time it is full");
    let after = (0..500).position(|_| hedge.admit(load(40)).is_ok());
    assert!(after.is_some_and(|after| (20..100).contains(&after)), "{after:?}");
}

/// Of so many hedges that are due, those that are sent.
fn sent(hedge: &mut Hedge, due: u32) -> u32 {
    let mut admitted = || hedge.admit(Load::default()).map(|()| hedge.sent()).is_ok();
    (0..due).map(|_| u32::from(admitted())).sum()
}

#[test]
fn hedges_that_never_win_are_seldom_tried() {
    let mut hedge = Hedge::new(Config::default());
    assert_eq!(sent(&mut hedge, FUTILE_AFTER), FUTILE_AFTER);
    assert_eq!(sent(&mut hedge, 100), 100 / FUTILE_TRIES);
    hedge.won();
    assert_eq!(sent(&mut hedge, FUTILE_AFTER), FUTILE_AFTER, "one that wins brings the others back");
    assert_eq!(sent(&mut hedge, 1), 0);
    hedge.configure(Config::new(After::Delay(ms(7))).unwrap());
    assert_eq!(sent(&mut hedge, 100), 100, "another delay may do better");
}

#[test]
fn hedges_that_seldom_win_go_on() {
    let mut hedge = Hedge::new(Config::default());
    for _ in 0..100 {
        assert_eq!(sent(&mut hedge, FUTILE_AFTER - 1), FUTILE_AFTER - 1);
        hedge.won();
    }
}

#[test]
fn a_try_that_could_not_be_sent_is_made_up_for() {
    let mut hedge = Hedge::new(Config::default());
    sent(&mut hedge, FUTILE_AFTER);
    let tried = (0..FUTILE_TRIES).position(|_| hedge.admit(Load::default()).is_ok());
    assert_eq!(tried, Some(FUTILE_TRIES as usize - 1));
    hedge.withheld(Off::Budget);
    assert_eq!(hedge.admit(Load::default()), Ok(()));
}

#[test]
fn everything_is_counted() {
    let mut hedge = Hedge::new(Config::default());
    hedge.sent();
    hedge.won();
    let all = [Off::Overload, Off::Budget, Off::Futile, Off::Refused, Off::Shadow];
    all.into_iter().for_each(|why| hedge.withheld(why));
    let Snapshot { sent, won, overload, unpaid, futile, refused, shadowed, .. } = hedge.snapshot();
    assert_eq!([sent, won, overload, unpaid, futile, refused, shadowed], [1; 7]);
}

#[test]
fn configs_have_ranges() {
    assert_eq!(Config::new(After::Delay(Span::ZERO)), Err(ConfigError::NoDelay));
    for most in [0, HEDGES_MAX + 1] {
        assert_eq!(Config::default().up_to(most), Err(ConfigError::Most(most)));
    }
    for share in [0.0, 1.1, f64::NAN] {
        assert_eq!(Config::default().busy_at_most(share), Err(ConfigError::BusyMost));
    }
}
