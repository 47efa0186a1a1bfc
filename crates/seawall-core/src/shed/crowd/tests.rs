use std::vec;
use std::vec::Vec;

use super::*;

/// Two seconds of arrivals, as many of each user as given; then the share of each user's that pass when this
/// many of all may.
fn passing(users: &[(u16, u32)], passes: f64) -> Vec<f64> {
    let mut crowd = Crowd::new();
    let arrive = |crowd: &mut Crowd, count: &mut dyn FnMut(usize, f64)| {
        let all: u32 = users.iter().map(|(_, times)| times).sum();
        for (place, (user, times)) in users.iter().enumerate() {
            for _ in 0..*times {
                crowd.add(Tier::Critical, Cohort(*user));
                let rank = crowd.rank(Tier::Critical, Cohort(*user));
                count(place, rank.map_or(0.0, |rank| rank.place * f64::from(all)));
            }
        }
    };
    arrive(&mut crowd, &mut |_, _| {});
    crowd.sum(Time::ZERO);
    let mut passed = vec![0.0; users.len()];
    arrive(&mut crowd, &mut |place, position| passed[place] += f64::from(u8::from(position < passes)));
    passed.iter().zip(users).map(|(passed, (_, times))| passed / f64::from(*times)).collect()
}

/// One user in each bin but the last, which is the abuser's.
fn ordinary(times: u32) -> Vec<(u16, u32)> {
    (0..BINS as u16 - 1).map(|bin| (bin << 10 | 512, times)).collect()
}

const ABUSER: u16 = (BINS as u16 - 1) << 10;

#[test]
fn the_crowded_get_what_the_ordinary_leave() {
    let users: Vec<(u16, u32)> = ordinary(10).into_iter().chain([(ABUSER, 630)]).collect();
    let shares = passing(&users, 840.0);
    assert!(shares[..BINS - 1].iter().all(|share| *share == 1.0), "{shares:?}");
    let left = 210.0 / 630.0;
    assert!((shares[BINS - 1] - left).abs() < 0.02, "{} of {left}", shares[BINS - 1]);
}

#[test]
fn when_all_want_more_the_crowded_get_as_much_as_anybody() {
    let users: Vec<(u16, u32)> = ordinary(20).into_iter().chain([(ABUSER, 1_280)]).collect();
    let shares = passing(&users, 640.0);
    let (others, abuser) = (shares[..BINS - 1].iter().sum::<f64>() * 20.0, shares[BINS - 1] * 1_280.0);
    assert!((others - 630.0).abs() < 25.0, "{others}");
    assert!((5.0..=15.0).contains(&abuser), "{abuser}");
}

#[test]
fn among_few_the_lowest_level_goes_first() {
    let shares = passing(&[(0, 100), (20_000, 300), (40_000, 600)], 500.0);
    // 100, 200, 200.
    for (got, fair) in shares.iter().zip([1.0, 2.0 / 3.0, 1.0 / 3.0]) {
        assert!((got - fair).abs() < 0.03, "{shares:?}");
    }
}

#[test]
fn who_shares_a_bin_with_the_crowded_is_ordinary() {
    let others = ordinary(10).into_iter().chain([(ABUSER, 630), (ABUSER + 1, 10)]);
    let shares = passing(&others.collect::<Vec<_>>(), 840.0);
    assert_eq!(shares[BINS], 1.0);
}
