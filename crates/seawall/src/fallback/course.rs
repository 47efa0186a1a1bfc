//! The course of one request along the chain.

use std::future::poll_fn;
use std::hash::Hash;
use std::sync::Arc;

use seawall_core::fallback::store::Kept;
use seawall_core::fallback::{Course, Decision, State, Trouble, Use};
use seawall_core::request::Request;
use seawall_core::time::Time;
use tower_service::Service;

use super::begun::{Begun, Resumed};
use super::cache::{Flight, Found, Seat, Waited};
use super::{Adapter, Seek, Sending, Shared, Source, Taken, TakenBy, Terms};
use crate::clock::now;

/// How often a request waits for what others ask for: for the answer that says what answers vary by, then for its own.
const WAITS_MAX: u32 = 2;

/// A service that a task of its own may ask.
pub(super) trait Inner<Req>:
    Service<Req, Response: Send, Error: Send, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S, Req> Inner<Req> for S where
    S: Service<Req, Response: Send, Error: Send, Future: Send> + Clone + Send + Sync + 'static
{
}

/// An adapter that a task of its own may use.
pub(super) trait Sees<Req, Res, Err>:
    Adapter<Req, Res, Err, Key: Send + Sync, Kept: Send + Sync, Response: Send> + Send + Sync + 'static
{
}

impl<A, Req, Res, Err> Sees<Req, Res, Err> for A where
    A: Adapter<Req, Res, Err, Key: Send + Sync, Kept: Send + Sync, Response: Send> + Send + Sync + 'static
{
}

/// Asks a clone of the service, once it is ready.
async fn send<S: Service<Req>, Req>(mut service: S, request: Req) -> Result<S::Response, S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

/// What the course of a request knows.
struct Way<S, A: Adapter<Req, S::Response, S::Error>, Req>
where
    S: Service<Req>,
{
    inner: S,
    shared: Arc<Shared<A, A::Key, A::Kept>>,
    request: Req,
    seen: Request,
    /// Under which key its answer is kept, if it is.
    key: Option<A::Key>,
    /// What the upstream answered before it was to be asked; then the last real error: an answer that is one, or
    /// none.
    answered: Option<Result<S::Response, S::Error>>,
}

/// What asking the upstream came to.
enum Asked<R> {
    Answer(R),
    Trouble(Trouble),
}

/// The same where it goes on. In a box, because few do.
type Resuming<S, A, Req> = Option<
    Box<
        Resumed<
            <A as Adapter<Req, <S as Service<Req>>::Response, <S as Service<Req>>::Error>>::Key,
            <A as Adapter<Req, <S as Service<Req>>::Response, <S as Service<Req>>::Error>>::Kept,
            Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>,
        >,
    >,
>;

pub(super) async fn run<S, A, Req>(
    inner: S,
    shared: Arc<Shared<A, A::Key, A::Kept>>,
    request: Req,
    resumed: Resuming<S, A, Req>,
) -> Result<A::Response, S::Error>
where
    S: Inner<Req>,
    A: Sees<Req, S::Response, S::Error>,
    Req: Send + Sync + 'static,
{
    // It stays in its box until it is needed: the future would carry it on.
    let resumed = resumed.unwrap_or_else(|| Box::new(Resumed::at(Begun::new(&shared, &request))));
    let (began, dimmed) = (resumed.begun.began, resumed.begun.dimmed);
    let seen = shared.adapter.request(began, &request);
    let (key, terms) = match resumed.begun.seek {
        Seek::Around { outdates } => {
            let result = send(inner, request).await;
            return around(&shared, outdates, result);
        }
        Seek::Chain => (None, Terms::default()),
        Seek::Cached { key, terms } => (Some(key), terms),
    };
    let mut way = Way { inner, shared, request, seen, key, answered: resumed.answered };
    let mut course = Course::default();
    let mut flight = None;
    let mut state = if dimmed { State::Dimmed } else { State::New };
    if !dimmed {
        let mut looked = way.look(began, &terms, resumed.begun.found);
        for _ in 0..WAITS_MAX {
            let Looked::Wait(seat) = looked else { break };
            looked = way.joined(Box::pin(seat.wait()).await);
        }
        match looked {
            Looked::Served(response) => return Ok(response),
            Looked::Ask(lead) => flight = Some(lead),
            Looked::Alone | Looked::Wait(_) => {}
            Looked::Trouble(trouble) => {
                // What this request would have asked, another one has asked for it.
                course.decide(&way.shared.chain, None, State::New);
                state = State::Troubled(trouble);
            }
        }
    }
    loop {
        // Whoever asks anew has looked already, and found nothing that it could use.
        let sought = way.key.as_ref().filter(|_| state != State::New);
        let kept = sought.and_then(|key| way.shared.cache.kept(now(), key));
        // Whoever wants a newer one than is kept gets that only in trouble.
        let new = matches!(state, State::New | State::Dimmed);
        let usable = kept.as_ref().filter(|kept| !new || !terms.refuse(kept));
        let good_for = usable.map(|kept| kept.good_for(way.shared.cache.window()));
        let asked = match course.decide(&way.shared.chain, good_for, state) {
            Decision::Stand => return way.stand(state).await,
            Decision::Ask => way.ask(&mut flight).await,
            Decision::Upstream(place) => way.ask_cheaper(place).await,
            Decision::Static(place) => way.fixed(place),
            Decision::Fresh => way.kept(kept, Source::Fresh),
            Decision::Revalidate => way.renewed(kept),
            Decision::Stale => way.kept(kept, Source::Stale),
        };
        match asked {
            Asked::Answer(response) => return Ok(response),
            Asked::Trouble(trouble) => state = State::Troubled(trouble),
        }
    }
}

/// The answer to what changes something.
fn around<A, Req, Res, Err>(
    shared: &Shared<A, A::Key, A::Kept>,
    outdates: Option<A::Key>,
    result: Result<Res, Err>,
) -> Result<A::Response, Err>
where
    A: Adapter<Req, Res, Err>,
{
    let is_done = shared.adapter.trouble(result.as_ref()).is_none();
    if let (Some(key), Ok(response), true) = (outdates, &result, is_done) {
        shared.cache.forget(&key);
        shared.adapter.outdated(&key, response);
    }
    shared.counters.count(Source::Upstream);
    result.map(|response| shared.adapter.answer(response, Source::Upstream))
}

/// What looking into the cache came to.
enum Looked<K: Hash + Eq + Clone, V: Clone, R> {
    Served(R),
    Ask(Flight<K, V>),
    /// Nothing is kept of it: nobody else is to hear of its answer.
    Alone,
    /// Somebody is asking already.
    Wait(Seat<K, V>),
    Trouble(Trouble),
}

impl<S, A, Req> Way<S, A, Req>
where
    S: Inner<Req>,
    A: Sees<Req, S::Response, S::Error>,
    Req: Send + Sync + 'static,
{
    /// What it found, or finds now.
    fn look(
        &self,
        now: Time,
        terms: &Terms,
        found: Option<Found<A::Key, A::Kept>>,
    ) -> Looked<A::Key, A::Kept, A::Response> {
        let Some(key) = &self.key else { return Looked::Alone };
        if *terms != Terms::default()
            && let Some(looked) = self.choose(now, key, terms)
        {
            return looked;
        }
        match found.unwrap_or_else(|| self.shared.cache.ask(now, key, self.seen.deadline)) {
            Found::Hit(kept) => Looked::Served(self.serve(kept, Source::Fresh)),
            Found::Stale(kept, lead) => {
                if let Some(lead) = lead {
                    self.revalidate(lead);
                }
                Looked::Served(self.serve(kept, Source::Revalidating))
            }
            Found::Ask(flight) => Looked::Ask(flight),
            Found::Wait(seat) => Looked::Wait(seat),
        }
    }

    /// What waiting for whoever is asking came to.
    fn joined(&mut self, waited: Waited<A::Key, A::Kept>) -> Looked<A::Key, A::Kept, A::Response> {
        match waited {
            Waited::Hit(kept) => Looked::Served(self.serve(kept, Source::Joined)),
            Waited::Failed => Looked::Trouble(Trouble::Failed),
            Waited::Late => Looked::Trouble(Trouble::NoAnswer),
            Waited::Ask(flight) => self.look_again(flight),
        }
    }

    /// What a request with terms of its own finds; `None` for what all others do.
    fn choose(&self, now: Time, key: &A::Key, terms: &Terms) -> Option<Looked<A::Key, A::Kept, A::Response>> {
        let nothing = || Looked::Served(self.shared.adapter.unkept(&self.request));
        let kept = self.shared.cache.kept(now, key);
        match kept {
            Some(kept) if !terms.refuse(&kept) => match kept.good_for(self.shared.cache.window()) {
                Use::Fresh | Use::Revalidate => None,
                Use::IfError | Use::Dead if terms.take_stale(&kept) => {
                    Some(Looked::Served(self.serve(kept, Source::Stale)))
                }
                Use::IfError | Use::Dead => terms.only_kept.then(nothing),
            },
            _ if terms.only_kept => Some(nothing()),
            Some(_) => Some(Looked::Ask(self.shared.cache.alone(now, key))),
            None => None,
        }
    }

    /// The answer that this request waited for was not for all. If by now it is known what tells
    /// them apart, this one's own may be there, or on its way.
    fn look_again(&mut self, flight: Flight<A::Key, A::Kept>) -> Looked<A::Key, A::Kept, A::Response> {
        let now = now();
        let Seek::Cached { key: known, .. } = self.shared.adapter.seek(now, &self.request) else {
            return Looked::Ask(flight);
        };
        if self.key.as_ref() == Some(&known) || flight.leads() {
            return Looked::Ask(flight);
        }
        let found = self.shared.cache.ask(now, &known, self.seen.deadline);
        let looked = match found {
            Found::Hit(kept) => Looked::Served(self.serve(kept, Source::Joined)),
            Found::Ask(flight) | Found::Stale(_, Some(flight)) => Looked::Ask(flight),
            Found::Stale(kept, None) => Looked::Served(self.serve(kept, Source::Revalidating)),
            Found::Wait(seat) => Looked::Wait(seat),
        };
        self.key = Some(known);
        looked
    }

    fn serve(&self, kept: Kept<A::Kept>, source: Source) -> A::Response {
        self.shared.counters.count(source);
        self.shared.adapter.kept(&self.request, kept, source)
    }

    fn kept(&self, kept: Option<Kept<A::Kept>>, source: Source) -> Asked<A::Response> {
        kept.map_or(Asked::Trouble(Trouble::NoAnswer), |kept| Asked::Answer(self.serve(kept, source)))
    }

    fn fixed(&self, place: u8) -> Asked<A::Response> {
        let Some(response) = self.shared.adapter.fixed(&self.request, place) else {
            return Asked::Trouble(Trouble::NoAnswer);
        };
        self.shared.counters.count(Source::Fixed(place));
        Asked::Answer(response)
    }

    /// Asks the upstream, and keeps what can be kept. The flight stays where it is while it is under way:
    /// a future would carry it twice.
    async fn ask(&mut self, flight: &mut Option<Flight<A::Key, A::Kept>>) -> Asked<A::Response> {
        let sending = match flight {
            Some(flight) if flight.leads() => Sending::Shared,
            _ => Sending::Alone,
        };
        // What is not needed any longer ends with this block: a future would carry it on.
        let reading = {
            let mut held = None;
            if self.answered.is_none() {
                let (request, kept) = asking(&self.shared, &self.request, flight.as_ref(), sending);
                held = kept;
                self.answered = Some(send(self.inner.clone(), request).await);
            }
            let result = self.answered.take().expect("it was asked");
            if let Some(trouble) = self.shared.adapter.trouble(result.as_ref()) {
                if let Some(flight) = flight.take() {
                    flight.fail();
                }
                self.answered = Some(result);
                return Asked::Trouble(trouble);
            }
            // No answer is never an ordinary one, whatever the adapter says of the error.
            let response = match result {
                Ok(response) => response,
                Err(error) => {
                    flight.take();
                    self.answered = Some(Err(error));
                    return Asked::Trouble(Trouble::NoAnswer);
                }
            };
            let (Some(key), true) = (&self.key, flight.is_some()) else {
                self.shared.counters.count(Source::Upstream);
                return Asked::Answer(self.shared.adapter.answer(response, Source::Upstream));
            };
            match self.shared.adapter.take(&self.request, key, held, response, self.seen.deadline) {
                Ok(taken) => return self.took(flight, taken),
                Err(reading) => reading,
            }
        };
        let taken = reading.await;
        self.took(flight, taken)
    }

    /// Ends the flight with what became of its answer.
    fn took(
        &self,
        flight: &mut Option<Flight<A::Key, A::Kept>>,
        taken: TakenBy<A, Req, S::Response, S::Error>,
    ) -> Asked<A::Response> {
        let landed = self.key.as_ref().zip(flight.take());
        match landed.and_then(|(key, flight)| land(&self.shared, key, flight, taken)) {
            Some(response) => {
                self.shared.counters.count(Source::Upstream);
                Asked::Answer(response)
            }
            None => Asked::Trouble(Trouble::NoAnswer),
        }
    }

    async fn ask_cheaper(&mut self, place: u8) -> Asked<A::Response> {
        let request = self.shared.adapter.copy(&self.request, Sending::Alone);
        let Some(asked) = self.shared.adapter.cheaper(place, request) else {
            return Asked::Trouble(Trouble::NoAnswer);
        };
        let result = asked.await;
        match (self.shared.adapter.trouble(result.as_ref()), result) {
            (None, Ok(response)) => {
                self.shared.counters.count(Source::Cheaper(place));
                Asked::Answer(self.shared.adapter.answer(response, Source::Cheaper(place)))
            }
            (trouble, _) => Asked::Trouble(trouble.unwrap_or(Trouble::NoAnswer)),
        }
    }

    /// Nothing is left: the real error is the answer. Whoever has none, asks for itself.
    async fn stand(&mut self, state: State) -> Result<A::Response, S::Error> {
        let trouble = match state {
            State::Troubled(trouble) => trouble,
            State::New | State::Dimmed => Trouble::NoAnswer,
        };
        if self.answered.is_none() && now() < self.seen.deadline && trouble == Trouble::Failed {
            let request = self.shared.adapter.copy(&self.request, Sending::Alone);
            self.answered = Some(send(self.inner.clone(), request).await);
        }
        match self.answered.take() {
            Some(result) => {
                self.shared.counters.count(Source::Upstream);
                result.map(|response| self.shared.adapter.answer(response, Source::Upstream))
            }
            None => Ok(self.shared.adapter.lost(&self.request, trouble)),
        }
    }

    /// A kept answer, behind which is asked anew unless somebody does already.
    fn renewed(&self, kept: Option<Kept<A::Kept>>) -> Asked<A::Response> {
        if let Some(key) = &self.key
            && let Found::Stale(_, Some(lead)) = self.shared.cache.ask(now(), key, self.seen.deadline)
        {
            self.revalidate(lead);
        }
        self.kept(kept, Source::Revalidating)
    }

    /// Asks anew in a task of its own, which outlives this request.
    fn revalidate(&self, flight: Flight<A::Key, A::Kept>) {
        let request = self.shared.adapter.copy(&self.request, Sending::Shared);
        let (shared, inner, seen) = (self.shared.clone(), self.inner.clone(), self.seen);
        let Some(key) = self.key.clone() else { return };
        tokio::spawn(async move {
            let (asked, held) = asking(&shared, &request, Some(&flight), Sending::Shared);
            let result = send(inner, asked).await;
            match (shared.adapter.trouble(result.as_ref()), result) {
                (None, Ok(response)) => {
                    let taken = match shared.adapter.take(&request, &key, held, response, seen.deadline) {
                        Ok(taken) => taken,
                        Err(reading) => reading.await,
                    };
                    drop(land(&shared, &key, flight, taken));
                }
                _ => flight.fail(),
            }
        });
    }
}

/// What is sent for a request: where something is kept that can be confirmed, the question for that, and
/// what it is about.
fn asking<A, Req, Res, Err>(
    shared: &Shared<A, A::Key, A::Kept>,
    request: &Req,
    flight: Option<&Flight<A::Key, A::Kept>>,
    sending: Sending,
) -> (Req, Option<Kept<A::Kept>>)
where
    A: Adapter<Req, Res, Err>,
{
    let held = flight.and_then(Flight::confirmable);
    let confirming = held.and_then(|held| Some((shared.adapter.confirming(request, &held.value)?, held)));
    match confirming {
        Some((asked, held)) => (asked, Some(held)),
        None => (shared.adapter.copy(request, sending), None),
    }
}

/// Ends the flight with what became of its answer. `None` when that broke off.
fn land<A, K, V, R>(
    shared: &Shared<A, K, V>,
    key: &K,
    flight: Flight<K, V>,
    taken: Taken<K, V, R>,
) -> Option<R>
where
    K: Hash + Eq + Clone,
    V: Clone,
{
    match taken {
        Taken::Keep { key: known, fill, response } if known == *key => {
            flight.fill(fill);
            Some(response)
        }
        Taken::Keep { key: known, fill, response } => {
            shared.cache.alone(now(), &known).fill(fill);
            flight.pass();
            Some(response)
        }
        Taken::Apart(response) => {
            flight.pass();
            Some(response)
        }
        Taken::Unrelated(response) => {
            flight.single();
            Some(response)
        }
        Taken::Broken => {
            flight.fail();
            None
        }
    }
}
