mod blocking;
mod by_hand;
mod enforcing;
mod probing;
mod shaping;
mod sharing;
mod taking;

use std::vec;
use std::vec::Vec;

use super::*;
use crate::decision::{Policy, Reason};
use crate::event::{Change, EVENTS_MAX};
use crate::limit::{Ceiling, adaptive};
use crate::measure::bucket::{Quota, Rate};
use crate::request::Tier;
use crate::rng::mix;
use crate::shed::guard::{Guards, Mark};
use crate::throttle::{Grant, Look, OnFull};

type Door = Gate<Alone<u64>>;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn of(user: u64) -> Request {
    Request::new(Key(mix(user)))
}

fn limited(limit: u32, queue: u32) -> Settings {
    Settings {
        limit: Some(limit::Config { ceiling: Ceiling::Fixed(limit), queue, ..limit::Config::default() }),
        ..Settings::default()
    }
}

/// Opens after two failures for a second, then asks for two probes.
fn fragile() -> breaker::Config {
    breaker::Config::new(breaker::Settings {
        window: breaker::Extent::Calls(4),
        min_calls: 2,
        open: ms(1_000),
        open_max: ms(1_000),
        probes: 2,
        ..breaker::Settings::default()
    })
    .unwrap()
}

fn broken() -> Settings {
    Settings { breaker: Some(fragile()), ..Settings::default() }
}

fn door(settings: Settings) -> Door {
    Gate::new(settings, Lane::default(), at(0))
}

/// So few tokens an hour that none arrives within a test.
fn hourly(burst: u64) -> throttle::Config {
    let rate = Rate { count: 1, per: Span::from_secs(3_600) };
    throttle::Config::per_user(Quota::new(rate, burst).unwrap())
}

#[expect(clippy::arc_with_non_send_sync, reason = "a gate takes its rules in an `Arc`, also on one thread")]
fn rule(config: throttle::Config) -> Arc<Rule<Alone<u64>>> {
    Arc::new(Rule::new(config, at(0)))
}

fn tokens(rule: &Rule<Alone<u64>>, now: Time, user: u64) -> u64 {
    let request = of(user);
    match rule
        .shards
        .with(request.user, |shard| shard.admit_if(now, &request, |offer| Err::<Grant, _>(offer.grant())))
    {
        Look::Untaken(grant) => grant.standing.remaining + 1,
        Look::Refused(_) => 0,
        other => panic!("{other:?}"),
    }
}

fn ticket(admit: Admit) -> Ticket {
    match admit {
        Admit::Ticket(ticket) => ticket,
        other => panic!("not admitted: {other:?}"),
    }
}

fn place(admit: Admit) -> Place {
    match admit {
        Admit::Wait(place) => place,
        other => panic!("does not wait: {other:?}"),
    }
}

fn refused(admit: Admit) -> Rejection {
    match admit {
        Admit::Reject(rejection) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}

fn due(door: &Door) -> Vec<u64> {
    core::iter::from_fn(|| door.turn()).collect()
}

fn changes(door: &Door) -> Vec<Change> {
    core::iter::from_fn(|| door.event()).map(|event| event.change).collect()
}

/// Fails until the breaker opens.
fn break_open(door: &Door, now: Time) {
    for _ in 0..2 {
        door.settle(now, ticket(door.admit(now, &of(1))), Outcome::Failure);
    }
    assert_eq!(mode(door, now), breaker::Mode::Open);
}

fn mode(door: &Door, now: Time) -> breaker::Mode {
    door.snapshot(now).breaker.unwrap().mode
}

#[test]
fn without_parts_everything_passes() {
    let door = door(Settings::default());
    let ticket = ticket(door.admit(at(0), &of(1)));
    door.settle(at(1), ticket, Outcome::Failure);
    let snapshot = door.snapshot(at(1));
    assert_eq!((snapshot.limit, snapshot.breaker, snapshot.share), (None, None, 1.0));
    assert_eq!(door.wake_at(), None);
}

#[test]
fn who_is_refused_further_on_has_taken_nothing() {
    let rules = vec![rule(hourly(5)), rule(hourly(2))];
    let door = door(limited(1, 0)).throttled(rules.clone());
    let left = |user| [tokens(&rules[0], at(0), user), tokens(&rules[1], at(0), user)];
    let held = ticket(door.admit(at(0), &of(1)));
    assert_eq!(refused(door.admit(at(0), &of(1))).reason, Reason::Full);
    assert_eq!(left(1), [4, 1]);
    door.release(at(0), held);
    let held = ticket(door.admit(at(0), &of(1)));
    door.release(at(0), held);
    let refusal = refused(door.admit(at(0), &of(1)));
    assert_eq!((refusal.policy, refusal.standing.unwrap().quota), (Policy::Throttle, 1));
    assert_eq!(left(1), [3, 0]);
}

#[test]
fn the_standing_is_that_of_the_tightest_quota() {
    let rules = vec![rule(hourly(9)), rule(hourly(3)), rule(hourly(5))];
    let door = door(Settings::default()).throttled(rules);
    let standing = ticket(door.admit(at(0), &of(1))).standing.unwrap();
    assert_eq!((standing.quota, standing.remaining), (1, 2));
}

#[test]
fn of_quotas_that_are_equally_tight_the_first_is_told() {
    let rules = [9, 4, 4].map(|burst| rule(hourly(burst))).to_vec();
    let door = door(Settings::default()).throttled(rules);
    let standing = ticket(door.admit(at(0), &of(1))).standing.unwrap();
    assert_eq!((standing.quota, standing.remaining), (1, 3));
}

#[test]
fn a_user_is_denied_whatever_the_others_do_and_a_route_is_shared() {
    let per_route = throttle::Config { per: throttle::Per::Route, ..hourly(3) };
    let door = door(Settings::default()).throttled(vec![rule(hourly(2)), rule(per_route)]);
    let admitted: Vec<bool> =
        [1, 1, 1, 2, 3].map(|user| matches!(door.admit(at(0), &of(user)), Admit::Ticket(_))).to_vec();
    assert_eq!(admitted, [true, true, false, true, false]);
    assert_eq!(refused(door.admit(at(0), &of(1))).standing.unwrap().quota, 0);
    assert_eq!(refused(door.admit(at(0), &of(3))).standing.unwrap().quota, 1);
}

#[test]
fn tokens_come_back_from_the_queue() {
    let rule = rule(hourly(5));
    let door = door(limited(1, 1)).throttled(vec![rule.clone()]);
    let held = ticket(door.admit(at(0), &of(9)));
    let waits = |now, tier, deadline| place(door.admit(now, &Request { tier, deadline, ..of(1) }));

    let left = waits(at(0), Tier::Critical, Time::MAX);
    assert_eq!(tokens(&rule, at(0), 1), 4);
    door.leave(at(0), left);
    assert_eq!(tokens(&rule, at(0), 1), 5, "left");

    let expires = waits(at(0), Tier::Critical, at(10));
    assert_eq!(expires.wake_at(), at(10));
    assert_eq!(refused(door.claim(at(10), expires, 0)).reason, Reason::Expired);
    assert_eq!(tokens(&rule, at(10), 1), 5, "expired");

    let displaced = place(door.claim(at(10), waits(at(10), Tier::Sheddable, Time::MAX), 1));
    let stays = waits(at(10), Tier::Critical, Time::MAX);
    assert_eq!(due(&door), [1]);
    assert_eq!(refused(door.claim(at(10), displaced, 1)).reason, Reason::Full);
    assert_eq!(tokens(&rule, at(10), 1), 4, "displaced");

    door.release(at(11), held);
    let ticket = ticket(door.claim(at(11), stays, 0));
    assert_eq!(ticket.standing.unwrap().remaining, 3, "as it stood when it came");
    door.release(at(12), ticket);
    assert_eq!(tokens(&rule, at(12), 1), 4, "served");
}

/// A rule of two shards whose tables are full of users that spent a token.
fn crowded(burst: u64) -> Arc<Rule<Alone<u64>>> {
    let config = throttle::Config { max_users: 8_192, on_full: OnFull::Share, ..hourly(burst) };
    assert_eq!(config.shards(), 2);
    let rule = rule(config);
    let door = door(Settings::default()).throttled(vec![rule.clone()]);
    let is_full = || rule.snapshot().users == 8_192;
    (0..100_000).take_while(|_| !is_full()).for_each(|user| _ = door.admit(at(0), &of(user)));
    assert!(is_full());
    rule
}

#[test]
fn the_overflow_bucket_is_one_for_all_shards() {
    let rule = crowded(50_000);
    // While the shards filled, the overflow bucket served those whose shard was full first.
    let spent = rule.snapshot().shared;
    let door = door(Settings::default()).throttled(vec![rule.clone()]);
    let newcomers = (200_000..300_000).map(|user| (shard_of(of(user).user, 2), door.admit(at(0), &of(user))));
    let mut passed = [0, 0];
    for (shard, admit) in newcomers {
        passed[shard] += u64::from(matches!(admit, Admit::Ticket(_)));
    }
    assert_eq!(passed[0] + passed[1] + spent, 50_000);
    assert!(passed.iter().all(|passed| *passed > 20_000), "{passed:?}");
}

#[test]
fn a_token_of_the_overflow_bucket_never_becomes_one_of_the_users_own() {
    let rule = crowded(50_000);
    let door = door(limited(1, 8)).throttled(vec![rule.clone()]);
    let shared = rule.snapshot().shared;
    let _held = ticket(door.admit(at(0), &of(200_000)));
    let waits = place(door.admit(at(0), &of(200_001)));
    assert_eq!(rule.snapshot().shared, shared + 2);
    let later = at(0) + Span::from_secs(7_200);
    let _own = place(door.admit(later, &Request { cost: 5, ..of(200_001) }));
    assert_eq!(tokens(&rule, later, 200_001), 49_995);
    door.leave(later, waits);
    assert_eq!(tokens(&rule, later, 200_001), 49_995);
}

#[test]
fn throttle_before_shed_before_limit() {
    let none = shed::Config { target: Span::ZERO, ..shed::Config::default() };
    let lane = Lane { shed: Some(none), ..Lane::default() };
    let rule = rule(hourly(1));
    let door: Door = Gate::new(limited(1, 1), lane, at(0));
    let door = door.throttled(vec![rule.clone()]);
    // So many arrivals at a slow drain that the queue stands.
    for user in 0..20 {
        let held = ticket(door.admit(at(100 * user), &of(100 + user)));
        door.release(at(100 * user + 100), held);
    }
    let now = at(2_000);
    let _held = ticket(door.admit(now, &of(1)));
    (1_000..1_020).for_each(|user| _ = door.admit(now, &of(user)));
    let reasons = || [1, 2].map(|user| refused(door.admit(now, &of(user))).reason);
    assert_eq!(reasons(), [Reason::Throttled, Reason::Shed]);
    assert!(door.snapshot(now).shed.unwrap().dropped[Tier::Critical as usize] > 0);
    door.configure_lane(Lane::default(), now);
    assert_eq!(reasons(), [Reason::Throttled, Reason::Full]);
    assert_eq!(tokens(&rule, now, 2), 1);
}

#[test]
fn a_request_that_is_throttled_presses_on_nothing_behind() {
    let door = door(limited(1, 1)).throttled(vec![rule(hourly(20))]);
    for call in 0..20 {
        door.settle(at(call * 10 + 10), ticket(door.admit(at(call * 10), &of(1))), Outcome::Success);
    }
    (0..10_000).for_each(|_| _ = refused(door.admit(at(200), &of(1))));
    assert!(!door.snapshot(at(200)).limit.unwrap().stands);
}

#[test]
fn breaker_before_limit() {
    let door = door(Settings { breaker: Some(fragile()), ..limited(1, 0) });
    break_open(&door, at(0));
    let refusal = refused(door.admit(at(400), &of(1)));
    assert_eq!((refusal.policy, refusal.retry_after), (Policy::Breaker, ms(600)));
    assert_eq!(door.wake_at(), Some(at(1_000)));
}

#[test]
fn a_refusal_behind_the_breaker_gives_the_probe_back() {
    let door = door(Settings { breaker: Some(fragile()), ..limited(2, 0) });
    let held = [ticket(door.admit(at(0), &of(1))), ticket(door.admit(at(0), &of(1)))];
    door.configure(Settings { breaker: Some(fragile()), ..limited(4, 0) }, at(0));
    break_open(&door, at(0));
    door.configure(Settings { breaker: Some(fragile()), ..limited(2, 0) }, at(0));
    (0..10).for_each(|_| assert_eq!(refused(door.admit(at(1_000), &of(1))).reason, Reason::Full));
    assert_eq!(mode(&door, at(1_000)), breaker::Mode::HalfOpen);
    held.into_iter().for_each(|ticket| door.release(at(1_001), ticket));
    let probes = [ticket(door.admit(at(1_002), &of(1))), ticket(door.admit(at(1_002), &of(1)))];
    probes.into_iter().for_each(|probe| door.settle(at(1_003), probe, Outcome::Success));
    assert_eq!(mode(&door, at(1_003)), breaker::Mode::Closed);
}

#[test]
fn a_gate_with_a_breaker_never_waits() {
    let door = door(Settings { breaker: Some(fragile()), ..limited(1, 8) });
    let held = ticket(door.admit(at(0), &of(1)));
    assert_eq!(refused(door.admit(at(0), &of(1))).reason, Reason::Full);
    assert_eq!(door.snapshot(at(0)).limit.unwrap().waiting, 0);
    door.release(at(1), held);
    door.release(at(1), ticket(door.admit(at(1), &of(1))));
}

#[test]
fn a_late_outcome_is_ignored() {
    let door = door(broken());
    let late = [ticket(door.admit(at(0), &of(1))), ticket(door.admit(at(0), &of(1)))];
    break_open(&door, at(0));
    let probes = [ticket(door.admit(at(1_000), &of(1))), ticket(door.admit(at(1_000), &of(1)))];
    probes.into_iter().for_each(|probe| door.settle(at(1_001), probe, Outcome::Success));
    late.into_iter().for_each(|ticket| door.settle(at(1_002), ticket, Outcome::Failure));
    let breaker = door.snapshot(at(1_002)).breaker.unwrap();
    assert_eq!((breaker.mode, breaker.failure_rate), (breaker::Mode::Closed, 0.0));
}

#[test]
fn only_the_first_report_counts() {
    let door = door(broken());
    let mut ticket = ticket(door.admit(at(0), &of(1)));
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::Failure] {
        door.report(at(0), &mut ticket, outcome);
    }
    door.settle(at(0), ticket, Outcome::Failure);
    let breaker = door.snapshot(at(0)).breaker.unwrap();
    assert_eq!((breaker.mode, breaker.failure_rate), (breaker::Mode::Closed, 0.0));
}

#[test]
fn a_call_that_was_hedged_teaches_the_limit_nothing() {
    let baseline = |hedged| {
        let limit = Some(limit::Config::default());
        let door = door(Settings { limit, ..Settings::default() });
        for call in 0..100 {
            let mut ticket = ticket(door.admit(at(call * 10), &of(1)));
            ticket.hedged = hedged;
            door.settle(at(call * 10 + 5), ticket, Outcome::Success);
        }
        let snapshot = door.snapshot(at(1_000)).limit.unwrap();
        assert_eq!(snapshot.in_flight, 0);
        snapshot.baseline
    };
    assert_eq!(baseline(false), Some(ms(5)));
    assert_eq!(baseline(true), None);
}

#[test]
fn a_release_without_a_report_counts_as_cancelled() {
    let door = door(Settings { breaker: Some(fragile()), ..limited(8, 0) });
    break_open(&door, at(0));
    for _ in 0..10 {
        door.release(at(1_000), ticket(door.admit(at(1_000), &of(1))));
    }
    assert_eq!(mode(&door, at(1_000)), breaker::Mode::HalfOpen, "each probe came back unused");
    assert_eq!(door.snapshot(at(1_000)).limit.unwrap().in_flight, 0);
}

/// Breaks a gate with a ramp of 140 ms and closes it again at 1 s.
fn returning(limit: u32) -> Door {
    let door = door(Settings { breaker: Some(fragile()), ramp: ms(140), ..limited(limit, 0) });
    break_open(&door, at(0));
    let probes = [ticket(door.admit(at(1_000), &of(1))), ticket(door.admit(at(1_000), &of(1)))];
    assert_eq!(door.snapshot(at(1_000)).share, 1.0, "no ramp before it closes");
    probes.into_iter().for_each(|probe| door.settle(at(1_000), probe, Outcome::Success));
    assert_eq!(mode(&door, at(1_000)), breaker::Mode::Closed);
    door
}

#[test]
fn a_ramp_begins_when_the_breaker_closes_and_ends() {
    let door = returning(8);
    assert_eq!(door.snapshot(at(1_000)).share, 0.05);
    let mut passed = 0;
    for step in 0..2_000 {
        let now = at(1_001) + Span::from_micros(step * 100);
        match door.admit(now, &of(1)) {
            Admit::Ticket(ticket) => {
                door.settle(now, ticket, Outcome::Success);
                passed += 1;
            }
            other => assert_eq!(refused(other).policy, Policy::Ramp),
        }
    }
    assert!((1_200..1_500).contains(&passed), "{passed}");
    assert_eq!(door.snapshot(at(1_201)).share, 1.0);
    (0..100).for_each(|_| door.settle(at(1_201), ticket(door.admit(at(1_201), &of(1))), Outcome::Success));
}

#[test]
fn a_refusal_behind_the_ramp_spends_none_of_its_share() {
    let door = returning(2);
    door.configure(Settings { breaker: Some(fragile()), ramp: ms(140), ..limited(1, 0) }, at(1_001));
    let held = ticket(door.admit(at(1_001), &of(1)));
    let refusals: Vec<Policy> = (0..40)
        .map(|_| refused(door.admit(at(1_001), &of(1))).policy)
        .skip_while(|p| *p == Policy::Ramp)
        .collect();
    assert!(!refusals.is_empty() && refusals.iter().all(|policy| *policy == Policy::Limit), "{refusals:?}");
    door.settle(at(1_002), held, Outcome::Success);
    door.release(at(1_002), ticket(door.admit(at(1_002), &of(1))));
}

#[test]
fn without_its_breaker_a_ramp_is_over() {
    let door = returning(8);
    door.configure(limited(8, 0), at(1_001));
    assert_eq!(door.snapshot(at(1_001)).share, 1.0);
    (0..8).for_each(|_| _ = ticket(door.admit(at(1_001), &of(1))));
}

#[test]
fn a_relapse_ends_the_ramp_with_the_open_breaker() {
    let door = returning(8);
    for step in 0..1_000 {
        let now = at(1_001) + ms(step);
        if let Admit::Ticket(ticket) = door.admit(now, &of(1)) {
            door.settle(now, ticket, Outcome::Failure);
        }
        if mode(&door, now) == breaker::Mode::Open {
            assert_eq!(door.snapshot(now).share, 1.0);
            return;
        }
    }
    panic!("must open again");
}

#[test]
fn answers_of_the_probes_that_break_off_leave_the_ramp_alone_or_end_it() {
    let door = door(Settings { breaker: Some(fragile()), ramp: ms(140), ..limited(8, 0) });
    break_open(&door, at(0));
    let probes = [ticket(door.admit(at(1_000), &of(1))), ticket(door.admit(at(1_000), &of(1)))];
    probes.into_iter().for_each(|probe| door.settle(at(1_010), probe, Outcome::Success));
    let share = door.snapshot(at(1_010)).share;
    assert!(share < 1.0);
    door.broke(at(1_011), at(999));
    assert_eq!((mode(&door, at(1_011)), door.snapshot(at(1_011)).share), (breaker::Mode::Closed, share));
    door.broke(at(1_011), at(1_000));
    assert_eq!((mode(&door, at(1_011)), door.snapshot(at(1_011)).share), (breaker::Mode::Open, 1.0));
}

#[test]
fn events_come_in_order_and_are_bounded() {
    let door = returning(8);
    let opened = Change::BreakerOpened { failure_rate: 1.0 };
    assert_eq!(changes(&door), [opened, Change::BreakerHalfOpen, Change::BreakerClosed]);
    for round in 1..100 {
        let now = at(round * 2_000);
        let fail = || match door.admit(now, &of(1)) {
            Admit::Ticket(ticket) => door.settle(now, ticket, Outcome::Failure),
            other => assert_eq!(refused(other).policy, Policy::Ramp),
        };
        fail();
        while mode(&door, now) != breaker::Mode::Open {
            fail();
        }
    }
    let last = core::iter::from_fn(|| door.event()).collect::<Vec<_>>();
    assert_eq!(last.len(), EVENTS_MAX);
    assert!(last.is_sorted_by_key(|event| event.at));
    assert_eq!(last.last().unwrap().at, at(198_000), "the oldest are forgotten");
}

#[test]
fn two_routes_share_one_limit_in_lanes_of_their_own() {
    let narrow = Lane { limit: limit::Lane { max: 1, queue: 1 }, shed: None };
    let first: Door = Gate::new(limited(3, 8), narrow, at(0));
    let second = Gate::joining(first.shared().clone(), Lane::default());
    let held = ticket(first.admit(at(0), &of(1)));
    let waits = place(first.claim(at(0), place(first.admit(at(0), &of(1))), 7));
    assert_eq!(refused(first.admit(at(0), &of(1))).reason, Reason::Full);
    let other = [ticket(second.admit(at(0), &of(1))), ticket(second.admit(at(0), &of(1)))];
    let behind = place(second.claim(at(1), place(second.admit(at(1), &of(1))), 8));
    assert_eq!(first.snapshot(at(1)).limit, second.snapshot(at(1)).limit);
    other.into_iter().for_each(|ticket| second.release(at(2), ticket));
    assert_eq!(due(&second), [8]);
    first.release(at(3), held);
    assert_eq!(due(&second), [7], "either gate tells whoever is due");
    first.release(at(4), ticket(first.claim(at(4), waits, 7)));
    second.release(at(4), ticket(second.claim(at(4), behind, 8)));
    let limit = first.snapshot(at(4)).limit.unwrap();
    assert_eq!((limit.in_flight, limit.waiting), (0, 0));
}

#[test]
fn across_routes_whoever_has_waited_longest_goes_first() {
    let first: Door = Gate::new(limited(1, 8), Lane::default(), at(0));
    let second = Gate::joining(first.shared().clone(), Lane::default());
    let mut held = ticket(first.admit(at(0), &of(1)));
    let mut places: Vec<Option<Place>> = Vec::new();
    for waiter in 0..4 {
        let door = [&second, &first][waiter as usize % 2];
        places.push(Some(place(door.claim(at(waiter), place(door.admit(at(waiter), &of(1))), waiter))));
    }
    for expected in 0..4 {
        first.release(at(9), held);
        assert_eq!(due(&first), [expected]);
        held = ticket(first.claim(at(9), places[expected as usize].take().unwrap(), expected));
    }
}

#[test]
fn a_reload_keeps_a_denied_user_denied() {
    let rule = rule(hourly(100));
    let door = door(Settings::default()).throttled(vec![rule.clone()]);
    while matches!(door.admit(at(0), &of(1)), Admit::Ticket(_)) {}
    assert_eq!(rule.configured(hourly(10_000), at(0)), Some(()));
    assert_eq!(refused(door.admit(at(0), &of(1))).reason, Reason::Throttled);
    assert_eq!(refused(door.throttled(vec![rule.clone()]).admit(at(0), &of(1))).reason, Reason::Throttled);
    assert_eq!(tokens(&rule, at(0), 2), 10_000);
    assert_eq!(rule.configured(throttle::Config { max_users: 7, ..hourly(10_000) }, at(0)), None);
    let of_route = throttle::Config { per: throttle::Per::Route, ..hourly(9) };
    assert_eq!(rule.configured(of_route, at(0)), None);
    let larger = throttle::Config { max_users: 7, ..of_route };
    assert!(
        Rule::<Alone<()>>::new(of_route, at(0)).fits(&larger),
        "one bucket, whatever the table of users is"
    );
}

#[test]
fn a_reload_keeps_an_open_breaker_open() {
    let door = door(broken());
    break_open(&door, at(0));
    let settings =
        breaker::Settings { min_calls: 3, window: breaker::Extent::Calls(9), ..breaker::Settings::default() };
    let settings = Settings { breaker: Some(breaker::Config::new(settings).unwrap()), ..broken() };
    door.configure(settings, at(1));
    assert_eq!(refused(door.admit(at(2), &of(1))).retry_after, ms(998));
}

#[test]
fn a_reload_keeps_what_a_limit_learned() {
    let learning = |max| {
        let ceiling = Ceiling::Adaptive(
            adaptive::Config::new(adaptive::Settings { initial: 16.min(max), max }).unwrap(),
        );
        Settings {
            limit: Some(limit::Config { ceiling, queue: 8, ..limit::Config::default() }),
            ..Settings::default()
        }
    };
    let door = door(learning(64));
    let mut now = at(0);
    for _ in 0..100 {
        let ticket = ticket(door.admit(now, &of(1)));
        now += ms(10);
        door.settle(now, ticket, Outcome::Success);
    }
    let baseline = door.snapshot(now).limit.unwrap().baseline;
    assert_eq!(baseline, Some(ms(10)));
    door.configure(learning(8), now);
    let limit = door.snapshot(now).limit.unwrap();
    assert_eq!((limit.limit, limit.baseline), (8, baseline));
}

#[test]
fn a_reload_keeps_those_in_flight_and_in_line() {
    let door = door(limited(1, 8));
    let held = ticket(door.admit(at(0), &of(1)));
    let waits = place(door.claim(at(0), place(door.admit(at(0), &of(1))), 7));
    door.configure(limited(2, 0), at(1));
    assert_eq!(due(&door), [7]);
    let second = ticket(door.claim(at(1), waits, 7));
    door.configure(Settings::default(), at(2));
    (0..100).for_each(|_| _ = ticket(door.admit(at(2), &of(1))));
    [held, second].into_iter().for_each(|ticket| door.release(at(3), ticket));
    door.configure(limited(2, 0), at(4));
    assert_eq!(door.snapshot(at(4)).limit.unwrap().in_flight, 100);
    assert_eq!(refused(door.admit(at(4), &of(1))).reason, Reason::Full);
}

#[test]
fn a_reload_adds_a_limit_to_the_lanes_that_are_there() {
    let door: Door =
        Gate::new(Settings::default(), Lane { limit: limit::Lane { max: 1, queue: 0 }, shed: None }, at(0));
    let before = ticket(door.admit(at(0), &of(1)));
    door.configure(limited(8, 8), at(0));
    let _held = ticket(door.admit(at(1), &of(1)));
    assert_eq!(refused(door.admit(at(1), &of(1))).reason, Reason::Full);
    door.release(at(2), before);
    assert_eq!(door.snapshot(at(2)).limit.unwrap().in_flight, 1, "who came before holds no place in it");
}

#[test]
fn guards_need_no_limit() {
    let guards = Guards { memory: Mark::percent(50).ok(), ..Guards::default() };
    let lane = Lane { shed: Some(shed::Config { guards, ..shed::Config::default() }), ..Lane::default() };
    let later: Door = door(Settings::default());
    later.configure_lane(lane, at(0));
    for door in [Gate::new(Settings::default(), lane, at(0)), later] {
        let pressed = Reading { memory: Some(1.0), ..Reading::default() };
        let passes = |tenth: u64| {
            door.observe(at(100 * tenth), &pressed);
            match door.admit(at(100 * tenth), &of(tenth)) {
                Admit::Ticket(ticket) => door.settle(at(100 * tenth), ticket, Outcome::Success),
                other => assert_eq!(refused(other).policy, Policy::Shed),
            }
            door.dimmer(at(100 * tenth)) > 0.0
        };
        assert!((0..100).filter(|tenth| passes(*tenth)).count() > 90);
        let dropped: u64 = door.snapshot(at(10_000)).shed.unwrap().dropped.iter().sum();
        assert!(dropped > 50, "{dropped} of 100");
    }
}
