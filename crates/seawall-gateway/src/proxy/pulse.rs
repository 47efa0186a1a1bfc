//! What a worker knows of each of its connections, and what it orders them to do.
//!
//! **Prevents** slow and silent clients from holding connections, without a timer for each request:
//! one tick a second looks at all connections of a worker.
//!
//! **Mechanics.** A connection is *waiting* for the first byte of a request, reading a *head*, or
//! *busy* with requests whose responses have not ended, or *lingering*: the last answer is written, and the client
//! still sends. The tick finds those that have been in any but the third for too long, or that have not been able to
//! write for too long, and wakes them with an order. A connection that waits for longer than most is told to *rest*:
//! to let go of the buffers and maps that serving needs, which are most of what it holds.
//!
//! Of an HTTP/2 connection, on which others go on when one is not taken, the tick looks at each answer: one of which
//! the client takes nothing for too long is abandoned, with all that it holds, and a connection with no other is
//! closed.
//!
//! **Edges.** Only who is certainly between two requests is told to rest, once until more comes: behind a
//! request with a body it could be that this is not yet read to its end. In a drain, an HTTP/2 connection is told at once to
//! finish, which it can do without a loss. On HTTP/1.1 only an answer can say that it is the last; a connection
//! that waits is closed when no request has come for [`DRAIN_TICKS`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};

use super::head::HeadScan;
use super::listen::Refusal;

/// How long a head may take to arrive, the first or any other.
pub(super) const HEAD_TICKS: u32 = 10;
/// How long a connection may wait for its next request.
pub(super) const IDLE_TICKS: u32 = 75;
/// How long a client may take nothing of what is written to it.
pub(super) const STALL_TICKS: u32 = 60;

/// The most answers that are looked at though they have ended, beside as many as there are twice.
const ENDED_MAX: usize = 16;

/// The most bytes of the answers of a worker that are read before their clients take any.
const AHEAD_MAX: usize = 32 * 1024 * 1024;

/// How long a connection waits for its next request with all at hand.
pub(super) const REST_TICKS: u32 = 2;
/// How long a connection that is drained may wait for its last request.
pub(super) const DRAIN_TICKS: u32 = 2;
/// How long a client may go on sending what is not read, and with how long a silence.
pub(super) const LINGER_TICKS: u32 = 10;
pub(super) const LINGER_SILENT_TICKS: u32 = 2;

/// What a connection is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Go on.
    #[default]
    Run,
    /// Hold no more than waiting needs.
    Rest,
    /// Finish what is in flight and close.
    Finish,
    /// Tell the client that its request took too long to arrive, and close.
    TimeOut,
    /// Close at once.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Head,
    Busy,
    Lingering,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Pulse {
    tick: Rc<Cell<u32>>,
    drained_since: Rc<Cell<Option<u32>>>,
    stage: Cell<Stage>,
    since: Cell<u32>,
    blocked: Cell<Option<u32>>,
    in_flight: Cell<u32>,
    begun: Cell<u32>,
    multiplexed: Cell<bool>,
    /// How many bytes of answers this worker holds that were read before their clients took any.
    ahead: Rc<Cell<usize>>,
    /// The answers of a connection that has several at a time.
    answers: RefCell<Vec<Weak<dyn Untaken>>>,
    /// Whether it was told to rest since something came.
    rests: Cell<bool>,
    /// When something came last while it lingers.
    heard: Cell<u32>,
    scan: RefCell<HeadScan>,
    order: Cell<Order>,
    /// The refusal with which the connection ends, and for which no request was read.
    refused: Cell<Option<Refusal>>,
    waker: RefCell<Option<Waker>>,
}

impl Pulse {
    fn new(pulses: &Pulses) -> Pulse {
        let (tick, drained_since) = (pulses.tick.clone(), pulses.drained_since.clone());
        Pulse {
            since: Cell::new(tick.get()),
            tick,
            drained_since,
            stage: Cell::new(Stage::Head),
            blocked: Cell::default(),
            in_flight: Cell::default(),
            begun: Cell::default(),
            multiplexed: Cell::default(),
            ahead: pulses.ahead.clone(),
            answers: RefCell::default(),
            rests: Cell::default(),
            heard: Cell::default(),
            scan: RefCell::default(),
            order: Cell::default(),
            refused: Cell::default(),
            waker: RefCell::default(),
        }
    }

    fn enter(&self, stage: Stage) {
        self.stage.set(stage);
        self.since.set(self.tick.get());
    }

    /// The connection speaks HTTP/2: frames come at any time, and heads are not lines.
    pub(super) fn multiplex(&self) {
        self.multiplexed.set(true);
        self.enter(Stage::Waiting);
    }

    /// Bytes came from the client.
    pub(super) fn read(&self, bytes: &[u8]) {
        if self.multiplexed.get() || bytes.is_empty() {
            return;
        }
        if self.stage.get() == Stage::Waiting {
            self.enter(Stage::Head);
            self.rests.set(false);
        }
        self.scan.borrow_mut().feed(bytes);
    }

    /// Whether the connection has several answers at a time.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed.get()
    }

    /// Watches an answer of a connection that has several at a time.
    pub(super) fn watch(&self, answer: Weak<dyn Untaken>) {
        let mut answers = self.answers.borrow_mut();
        if answers.len() >= 2 * self.in_flight.get() as usize + ENDED_MAX {
            answers.retain(|answer| answer.strong_count() > 0);
        }
        answers.push(answer);
    }

    /// Whether more of an answer may be read before its client takes it.
    pub(super) fn has_room_ahead(&self) -> bool {
        self.ahead.get() < AHEAD_MAX
    }

    /// So many bytes of an answer were.
    pub(super) fn read_ahead(&self, bytes: usize) {
        self.ahead.set(self.ahead.get() + bytes);
    }

    /// So many of these were taken, or let go of.
    pub(super) fn took_ahead(&self, bytes: usize) {
        self.ahead.set(self.ahead.get() - bytes);
    }

    /// How many answers are watched, those included that have ended since.
    #[cfg(test)]
    pub(super) fn watched(&self) -> usize {
        self.answers.borrow().len()
    }

    /// The seconds that this worker has counted.
    pub(super) fn now(&self) -> u32 {
        self.tick.get()
    }

    /// Has the answers abandoned of which the client takes nothing; says whether no other is left.
    fn abandons_all(&self) -> bool {
        let (now, mut abandoned) = (self.tick.get(), 0);
        self.answers.borrow_mut().retain(|answer| {
            let answer = answer.upgrade();
            let is_abandoned = answer.as_ref().is_some_and(|answer| answer.is_abandoned(now));
            abandoned += u32::from(is_abandoned);
            answer.is_some()
        });
        abandoned > 0 && abandoned >= self.in_flight.get()
    }

    /// Whether its client may still be sending a request.
    pub(super) fn is_cut_off(&self) -> bool {
        !self.scan.borrow().is_between_requests()
    }

    /// Whether all of a request has come and its answer has not ended, where a connection has one at a time.
    pub(super) fn is_answering(&self) -> bool {
        self.stage.get() == Stage::Busy && !self.multiplexed.get() && !self.is_cut_off()
    }

    /// The last answer is written, and what still comes is not looked at.
    pub(super) fn linger(&self) {
        self.enter(Stage::Lingering);
        self.heard();
    }

    /// Some of that came.
    pub(super) fn heard(&self) {
        self.heard.set(self.tick.get());
    }

    /// What came is refused before it was a request.
    pub(super) fn refuse(&self, refusal: Refusal) {
        self.refused.set(Some(refusal));
    }

    /// That refusal, once.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refused.take()
    }

    /// A write was taken, or has to wait.
    pub(super) fn wrote(&self, taken: Option<usize>) {
        match taken {
            Some(_) => self.blocked.set(None),
            None if self.blocked.get().is_none() => self.blocked.set(Some(self.tick.get())),
            None => {}
        }
    }

    /// A request begins, and is busy until what is returned is dropped; `None` when it was ambiguous.
    pub(super) fn begin(self: &Rc<Self>) -> Option<Busy> {
        let number = self.begun.replace(self.begun.get().wrapping_add(1));
        if self.scan.borrow().is_ambiguous(number) {
            return None;
        }
        self.in_flight.set(self.in_flight.get() + 1);
        self.stage.set(Stage::Busy);
        Some(Busy(self.clone()))
    }

    /// Whether the next answer is the last of its connection.
    pub(super) fn is_drained(&self) -> bool {
        self.drained_since.get().is_some() && !self.multiplexed.get()
    }

    /// What to do now; the task that asks is woken when that changes.
    pub(super) fn heed(&self, cx: &Context<'_>) -> Order {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.order.take()
    }

    /// What is in flight is the last.
    pub(super) fn finish(&self) {
        self.command(Order::Finish);
    }

    fn command(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Whether nothing is under way that would be lost.
    fn can_rest(&self) -> bool {
        let is_written = self.blocked.get().is_none();
        !self.rests.get() && !self.multiplexed.get() && is_written && self.scan.borrow().is_between_heads()
    }

    fn overdue(&self) -> Order {
        let now = self.tick.get();
        let since = now.wrapping_sub(self.since.get());
        if self.blocked.get().is_some_and(|blocked| now.wrapping_sub(blocked) >= STALL_TICKS) {
            return Order::End;
        }
        if self.abandons_all() {
            return Order::End;
        }
        let drained = self.drained_since.get().map(|began| now.wrapping_sub(began));
        match self.stage.get() {
            Stage::Waiting if drained.is_some_and(|drained| drained.min(since) >= DRAIN_TICKS) => {
                Order::Finish
            }
            Stage::Head if since >= HEAD_TICKS => Order::TimeOut,
            // A connection that does not finish in a head's time has an end that the client does not take.
            Stage::Waiting if since >= IDLE_TICKS + HEAD_TICKS => Order::End,
            Stage::Waiting if since >= IDLE_TICKS => Order::Finish,
            Stage::Waiting if since >= REST_TICKS && self.can_rest() => {
                self.rests.set(true);
                Order::Rest
            }
            Stage::Lingering
                if since >= LINGER_TICKS
                    || now.wrapping_sub(self.heard.get()) >= LINGER_SILENT_TICKS
                    || drained.is_some_and(|drained| drained.min(since) >= DRAIN_TICKS) =>
            {
                Order::End
            }
            Stage::Waiting | Stage::Head | Stage::Busy | Stage::Lingering => Order::Run,
        }
    }
}

/// An answer that a client takes at its own pace.
pub(super) trait Untaken: Debug {
    /// Whether it has been let go of, with all that it holds; it is when by now the client has taken nothing of it for
    /// [`STALL_TICKS`].
    fn is_abandoned(&self, now: u32) -> bool;
}

/// A request whose response has not ended.
#[derive(Debug)]
pub(super) struct Busy(Rc<Pulse>);

impl Drop for Busy {
    fn drop(&mut self) {
        let left = self.0.in_flight.get() - 1;
        self.0.in_flight.set(left);
        if left == 0 {
            self.0.enter(Stage::Waiting);
        }
    }
}

/// All connections of a worker.
#[derive(Debug, Default)]
pub(super) struct Pulses {
    tick: Rc<Cell<u32>>,
    drained_since: Rc<Cell<Option<u32>>>,
    ahead: Rc<Cell<usize>>,
    next: Cell<u64>,
    all: RefCell<BTreeMap<u64, Rc<Pulse>>>,
    emptied: tokio::sync::Notify,
}

impl Pulses {
    /// A new connection, known until what is returned is dropped.
    pub(super) fn join(self: &Rc<Self>) -> Member {
        let id = self.next.replace(self.next.get() + 1);
        let pulse = Rc::new(Pulse::new(self));
        self.all.borrow_mut().insert(id, pulse.clone());
        Member { pulses: self.clone(), id, pulse }
    }

    /// A second has passed.
    pub(super) fn tick(&self) {
        self.tick.set(self.tick.get().wrapping_add(1));
        for pulse in self.all.borrow().values() {
            let order = pulse.overdue();
            if order != Order::Run {
                pulse.command(order);
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.borrow().len()
    }

    /// Ends the connection that has waited for a request, or for the rest of its head, for longest; says whether
    /// there is one.
    pub(super) fn give_way(&self) -> bool {
        let (all, now) = (self.all.borrow(), self.tick.get());
        let waits = |pulse: &&Rc<Pulse>| pulse.stage.get() != Stage::Busy && pulse.order.get() != Order::End;
        // Of those that came in the same second, the first.
        let longest = all.values().filter(waits).min_by_key(|pulse| {
            let waited = now.wrapping_sub(pulse.since.get());
            std::cmp::Reverse(waited)
        });
        longest.iter().for_each(|pulse| pulse.command(Order::End));
        longest.is_some()
    }

    /// All connections shall finish.
    pub(super) fn finish(&self) {
        self.drained_since.set(Some(self.tick.get()));
        let all = self.all.borrow();
        all.values().filter(|pulse| pulse.multiplexed.get()).for_each(|pulse| pulse.command(Order::Finish));
    }

    /// Waits until there is no connection.
    pub(super) async fn empty(&self) {
        while !self.all.borrow().is_empty() {
            self.emptied.notified().await;
        }
    }
}

/// A connection's place among all.
#[derive(Debug)]
pub(super) struct Member {
    pulses: Rc<Pulses>,
    id: u64,
    pub(super) pulse: Rc<Pulse>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut all = self.pulses.all.borrow_mut();
        all.remove(&self.id);
        if all.is_empty() {
            self.pulses.emptied.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ticks: u32, pulses: &Pulses, pulse: &Pulse) -> Order {
        (0..ticks).for_each(|_| pulses.tick());
        pulse.heed(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_head_has_its_time_from_its_first_byte() {
        let pulses = Rc::new(Pulses::default());
        let member = pulses.join();
        let pulse = &member.pulse;
        assert_eq!(after(HEAD_TICKS - 1, &pulses, pulse), Order::Run);
        drop(pulse.begin().unwrap());
        assert_eq!(after(IDLE_TICKS - 1, &pulses, pulse), Order::Rest);
        pulse.read(b"GET / HT");
        assert_eq!(after(HEAD_TICKS - 1, &pulses, pulse), Order::Run);
        pulse.read(b"TP/1.1\r\n");
        assert_eq!(after(1, &pulses, pulse), Order::TimeOut);
    }

    #[test]
    fn an_idle_connection_is_finished_and_then_ended() {
        let pulses = Rc::new(Pulses::default());
        let member = pulses.join();
        drop(member.pulse.begin().unwrap());
        assert_eq!(after(IDLE_TICKS, &pulses, &member.pulse), Order::Finish);
        assert_eq!(after(HEAD_TICKS, &pulses, &member.pulse), Order::End);
    }

    #[test]
    fn a_busy_connection_may_take_its_time_unless_its_client_takes_nothing() {
        let pulses = Rc::new(Pulses::default());
        let member = pulses.join();
        let (_first, second) = (member.pulse.begin().unwrap(), member.pulse.begin().unwrap());
        drop(second);
        member.pulse.read(b"the body");
        assert_eq!(after(10 * IDLE_TICKS, &pulses, &member.pulse), Order::Run);
        member.pulse.wrote(None);
        assert_eq!(after(STALL_TICKS - 1, &pulses, &member.pulse), Order::Run);
        member.pulse.wrote(Some(1));
        assert_eq!(after(STALL_TICKS, &pulses, &member.pulse), Order::Run);
        member.pulse.wrote(None);
        assert_eq!(after(STALL_TICKS, &pulses, &member.pulse), Order::End);
    }

    #[test]
    fn a_drained_connection_has_time_for_a_request_that_is_on_its_way() {
        let pulses = Rc::new(Pulses::default());
        let (idle, busy, young, many) = (pulses.join(), pulses.join(), pulses.join(), pulses.join());
        drop(idle.pulse.begin().unwrap());
        let under_way = busy.pulse.begin().unwrap();
        many.pulse.multiplex();
        assert_eq!(after(REST_TICKS, &pulses, &idle.pulse), Order::Rest);
        pulses.finish();
        assert!(idle.pulse.is_drained() && !many.pulse.is_drained());
        assert_eq!(after(0, &pulses, &many.pulse), Order::Finish);
        assert_eq!(after(DRAIN_TICKS - 1, &pulses, &idle.pulse), Order::Run);
        drop(under_way);
        assert_eq!(after(1, &pulses, &idle.pulse), Order::Finish);
        assert_eq!(after(DRAIN_TICKS - 2, &pulses, &busy.pulse), Order::Run);
        assert_eq!(after(1, &pulses, &busy.pulse), Order::Finish);
        assert_eq!(after(0, &pulses, &young.pulse), Order::Run);
    }

    #[test]
    fn who_waits_rests_once_until_something_comes() {
        let pulses = Rc::new(Pulses::default());
        let member = pulses.join();
        let pulse = &member.pulse;
        let get = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        pulse.read(get);
        drop(pulse.begin().unwrap());
        assert_eq!(after(REST_TICKS - 1, &pulses, pulse), Order::Run);
        assert_eq!(after(1, &pulses, pulse), Order::Rest);
        assert_eq!(after(2 * REST_TICKS, &pulses, pulse), Order::Run);
        pulse.read(get);
        drop(pulse.begin().unwrap());
        assert_eq!(after(REST_TICKS, &pulses, pulse), Order::Rest);
        assert_eq!(after(IDLE_TICKS, &pulses, pulse), Order::Finish);
    }

    #[test]
    fn who_may_be_in_the_middle_of_something_does_not_rest() {
        let heads = [
            "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\nGET / HT",
            "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n",
        ];
        for head in heads {
            let pulses = Rc::new(Pulses::default());
            let member = pulses.join();
            member.pulse.read(head.as_bytes());
            drop(member.pulse.begin().unwrap());
            assert_eq!(after(REST_TICKS, &pulses, &member.pulse), Order::Run, "{head}");
        }
        let pulses = Rc::new(Pulses::default());
        let (blocked, many) = (pulses.join(), pulses.join());
        drop(blocked.pulse.begin().unwrap());
        blocked.pulse.wrote(None);
        many.pulse.multiplex();
        assert_eq!(after(REST_TICKS, &pulses, &blocked.pulse), Order::Run);
        assert_eq!(after(REST_TICKS, &pulses, &many.pulse), Order::Run);
    }

    #[test]
    fn who_has_waited_for_longest_gives_way_and_nobody_who_is_busy() {
        let pulses = Rc::new(Pulses::default());
        let (busy, idle) = (pulses.join(), pulses.join());
        let _under_way = busy.pulse.begin().unwrap();
        pulses.tick();
        let (silent, next) = (pulses.join(), pulses.join());
        let ended = |member: &Member| member.pulse.heed(&Context::from_waker(Waker::noop())) == Order::End;
        for longest in [&idle, &silent, &next] {
            assert!(pulses.give_way());
            assert_eq!(longest.pulse.order.get(), Order::End);
        }
        assert!(!pulses.give_way() && !ended(&busy));
        drop(idle);
        assert_eq!(pulses.count(), 3);
    }

    #[test]
    fn who_lingers_is_ended_by_silence_by_time_by_a_drain_and_for_another() {
        let begin = || {
            let pulses = Rc::new(Pulses::default());
            let member = pulses.join();
            drop(member.pulse.begin().unwrap());
            member.pulse.linger();
            (pulses, member)
        };
        let (pulses, silent) = begin();
        assert_eq!(after(LINGER_SILENT_TICKS - 1, &pulses, &silent.pulse), Order::Run);
        assert_eq!(after(1, &pulses, &silent.pulse), Order::End);
        let (pulses, sending) = begin();
        for _ in 1..LINGER_TICKS {
            sending.pulse.heard();
            assert_eq!(after(1, &pulses, &sending.pulse), Order::Run);
        }
        sending.pulse.heard();
        assert_eq!(after(1, &pulses, &sending.pulse), Order::End);
        let (pulses, drained) = begin();
        pulses.finish();
        for last in [Order::Run, Order::End] {
            drained.pulse.heard();
            assert_eq!(after(DRAIN_TICKS / 2, &pulses, &drained.pulse), last);
        }
        let (pulses, in_the_way) = begin();
        assert!(pulses.give_way());
        assert_eq!(after(0, &pulses, &in_the_way.pulse), Order::End);
    }

    #[test]
    fn a_gone_connection_is_forgotten() {
        let pulses = Rc::new(Pulses::default());
        drop(pulses.join());
        assert!(pulses.all.borrow().is_empty());
    }
}
