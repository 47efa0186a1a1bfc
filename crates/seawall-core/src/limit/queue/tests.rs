use std::vec::Vec;

use super::*;
use crate::request::Key;

fn join(queue: &mut Queue<u64>) -> Turn {
    queue.join(0, None, Request::new(Key(1)), Time::ZERO)
}

fn queue() -> Queue<u64> {
    let mut queue = Queue::new();
    queue.add_lane();
    queue
}

#[test]
fn those_who_come_and_go_leave_nothing_behind() {
    let mut queue = queue();
    let _stays = join(&mut queue);
    for _ in 0..10_000 {
        let turn = join(&mut queue);
        queue.forget(turn);
        let turn = join(&mut queue);
        queue.settle(turn, State::Granted { at: Time::ZERO, in_flight: 1 });
        queue.forget(turn);
    }
    assert_eq!((queue.waiting(), queue.slots.len(), queue.free.len()), (1, 2, 1));
}

#[test]
fn an_empty_queue_gives_its_memory_back() {
    let mut queue = queue();
    let turns: Vec<Turn> = (0..10_000).map(|_| join(&mut queue)).collect();
    turns.into_iter().for_each(|turn| _ = queue.forget(turn));
    assert_eq!((queue.slots.len(), queue.free.len()), (0, 0));
    assert!(queue.slots.capacity() <= KEPT && queue.free.capacity() <= KEPT);
}

#[test]
fn a_settled_place_is_out_of_line_but_found_by_its_name() {
    let mut queue = queue();
    let turns: Vec<Turn> = (0..3).map(|_| join(&mut queue)).collect();
    queue.get(turns[1]).unwrap().waiter = Some(7);
    let granted = State::Granted { at: Time::ZERO, in_flight: 1 };
    assert_eq!(queue.settle(turns[1], granted), Some(7));
    assert_eq!(queue.waiting(), 2);
    assert_eq!(queue.get(turns[1]).unwrap().state, granted);
    queue.forget(turns[0]);
    assert_eq!(
        queue.ends_in(0..1, End::First).next().unwrap().0,
        turns[2],
        "the lines close over whoever left"
    );
    queue.forget(turns[1]);
    assert!(queue.get(turns[1]).is_none());
    assert_eq!(queue.last_below(0..1, Tier::CriticalPlus), Some(turns[2]));
    assert_eq!(queue.last_below(0..1, Tier::Critical), None);
}

#[test]
fn the_oldest_and_the_least_important_are_found_whoever_has_left() {
    let mut queue = queue();
    let join = |queue: &mut Queue<u64>, tier| {
        queue.join(0, None, Request { tier, ..Request::new(Key(1)) }, Time::ZERO)
    };
    let [first, last] = [Tier::Sheddable, Tier::CriticalPlus].map(|tier| join(&mut queue, tier));
    let between = join(&mut queue, Tier::SheddablePlus);
    let oldest = |queue: &Queue<u64>| queue.oldest_in(0).map(|(turn, _)| turn);
    let least = |queue: &Queue<u64>| queue.last_below(0..1, Tier::CriticalPlus);
    assert_eq!((oldest(&queue), least(&queue)), (Some(first), Some(first)));
    queue.forget(first);
    assert_eq!((oldest(&queue), least(&queue)), (Some(last), Some(between)));
    queue.settle(between, State::Granted { at: Time::ZERO, in_flight: 1 });
    assert_eq!((oldest(&queue), least(&queue), queue.waiting_in(0)), (Some(last), None, 1));
    queue.forget(last);
    assert_eq!((oldest(&queue), queue.waiting_in(0)), (None, 0));
}
