//! The course of one request along the chain.

use std::future::poll_fn;
use std::hash::Hash;
use std::sync::Arc;

use seawall_core::fallback::store::Kept;
use seawall_core::fallback::{Course, Decision, State, Trouble, Use, dims};
use seawall_core::request::Request;
use tower_service::Service;

use super::cache::{Flight, Found, Waited};
use super::{Adapter, Seek, Sending, Shared, Source, Taken, Terms};
use crate::clock::now;

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
    /// The last real error: an answer that is one, or none.
    failed: Option<Result<S::Response, S::Error>>,
}

/// What asking the upstream came to.
enum Asked<R> {
    Answer(R),
    Trouble(Trouble),
}

pub(super) async fn run<S, A, Req>(
    inner: S,
    shared: Arc<Shared<A, A::Key, A::Kept>>,
    request: Req,
) -> Result<A::Response, S::Error>
where
    S: Inner<Req>,
    A: Sees<Req, S::Response, S::Error>,
    Req: Send + Sync + 'static,
{
    let began = now();
    let seen = shared.adapter.request(began, &request);
    let (key, terms) = match shared.adapter.seek(&request) {
        Seek::Around { outdates } => {
            let result = send(inner, request).await;
            let is_done = shared.adapter.trouble(result.as_ref()).is_none();
            if let (Some(key), Ok(response), true) = (outdates, &result, is_done) {
                shared.cache.forget(&key);
                shared.adapter.outdated(&key, response);
            }
            shared.counters.count(Source::Upstream);
            return result.map(|response| shared.adapter.answer(response, Source::Upstream));
        }
        Seek::Chain => (None, Terms::default()),
        Seek::Cached { key, terms } => (Some(key), terms),
    };
    let dimmed = !terms.only_kept && dims(shared.dimmer.level(began), seen.cohort(began));
    let mut way = Way { inner, shared, request, seen, key, failed: None };
    let mut course = Course::default();
    let mut flight = None;
    let mut state = if dimmed { State::Dimmed } else { State::New };
    if !dimmed {
        match way.look(&terms).await {
            Looked::Served(response) => return Ok(response),
            Looked::Ask(lead) => flight = lead,
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
        let kept = sought.and_then(|key| way.shared.cache.kept(key));
        // Whoever wants a newer one than is kept gets that only in trouble.
        let new = matches!(state, State::New | State::Dimmed);
        let usable = kept.as_ref().filter(|kept| !new || !terms.refuse(kept));
        let good_for = usable.map(|kept| kept.good_for(way.shared.cache.window()));
        let decision = course.decide(&way.shared.chain, good_for, state);
        if decision == Decision::Stand {
            return way.stand(state).await;
        }
        match way.answer(decision, kept, &mut flight).await {
            Asked::Answer(response) => return Ok(response),
            Asked::Trouble(trouble) => state = State::Troubled(trouble),
        }
    }
}

/// What looking into the cache came to.
enum Looked<K: Hash + Eq + Clone, V: Clone, R> {
    Served(R),
    Ask(Option<Flight<K, V>>),
    Trouble(Trouble),
}

impl<S, A, Req> Way<S, A, Req>
where
    S: Inner<Req>,
    A: Sees<Req, S::Response, S::Error>,
    Req: Send + Sync + 'static,
{
    /// Answers as decided, or finds that this cannot be done either.
    async fn answer(
        &mut self,
        decision: Decision,
        kept: Option<Kept<A::Kept>>,
        flight: &mut Option<Flight<A::Key, A::Kept>>,
    ) -> Asked<A::Response> {
        let source = match decision {
            Decision::Ask => return self.ask(flight.take()).await,
            Decision::Upstream(place) => return self.ask_cheaper(place).await,
            Decision::Static(place) => {
                return self.fixed(place).map_or(Asked::Trouble(Trouble::NoAnswer), Asked::Answer);
            }
            Decision::Stand => return Asked::Trouble(Trouble::NoAnswer),
            Decision::Fresh => Source::Fresh,
            Decision::Revalidate => Source::Revalidating,
            Decision::Stale => Source::Stale,
        };
        kept.map_or(Asked::Trouble(Trouble::NoAnswer), |kept| Asked::Answer(self.serve(kept, source)))
    }

    /// Looks into the cache, waiting for whoever is asking already.
    async fn look(&mut self, terms: &Terms) -> Looked<A::Key, A::Kept, A::Response> {
        let Some(key) = self.key.clone() else { return Looked::Ask(None) };
        if *terms != Terms::default()
            && let Some(looked) = self.choose(&key, terms)
        {
            return looked;
        }
        match self.shared.cache.ask(&key, self.seen.deadline) {
            Found::Hit(kept) => Looked::Served(self.serve(kept, Source::Fresh)),
            Found::Stale(kept, lead) => {
                if let Some(lead) = lead {
                    self.revalidate(lead);
                }
                Looked::Served(self.serve(kept, Source::Revalidating))
            }
            Found::Ask(flight) => Looked::Ask(Some(flight)),
            Found::Wait(seat) => match Box::pin(seat.wait()).await {
                Waited::Hit(kept) => Looked::Served(self.serve(kept, Source::Joined)),
                Waited::Failed => Looked::Trouble(Trouble::Failed),
                Waited::Late => Looked::Trouble(Trouble::NoAnswer),
                Waited::Ask(flight) => self.look_again(key, flight),
            },
        }
    }

    /// What a request with terms of its own finds; `None` for what all others do.
    fn choose(&self, key: &A::Key, terms: &Terms) -> Option<Looked<A::Key, A::Kept, A::Response>> {
        let nothing = || Looked::Served(self.shared.adapter.unkept(&self.request));
        let kept = self.shared.cache.kept(key);
        match kept {
            Some(kept) if !terms.refuse(&kept) => match kept.good_for(self.shared.cache.window()) {
                Use::Fresh | Use::Revalidate => None,
                Use::IfError | Use::Dead if terms.take_stale(&kept) => {
                    Some(Looked::Served(self.serve(kept, Source::Stale)))
                }
                Use::IfError | Use::Dead => terms.only_kept.then(nothing),
            },
            _ if terms.only_kept => Some(nothing()),
            Some(_) => Some(Looked::Ask(Some(self.shared.cache.alone(key)))),
            None => None,
        }
    }

    /// The answer that this request waited for was not for all. If by now it is known what tells
    /// them apart, this one's own may be there.
    fn look_again(
        &mut self,
        key: A::Key,
        flight: Flight<A::Key, A::Kept>,
    ) -> Looked<A::Key, A::Kept, A::Response> {
        let Seek::Cached { key: known, .. } = self.shared.adapter.seek(&self.request) else {
            return Looked::Ask(Some(flight));
        };
        if known == key || flight.leads() {
            return Looked::Ask(Some(flight));
        }
        self.key = Some(known.clone());
        match self.shared.cache.ask(&known, self.seen.deadline) {
            Found::Hit(kept) => Looked::Served(self.serve(kept, Source::Joined)),
            Found::Ask(flight) | Found::Stale(_, Some(flight)) => Looked::Ask(Some(flight)),
            Found::Stale(kept, None) => Looked::Served(self.serve(kept, Source::Revalidating)),
            Found::Wait(_) => Looked::Ask(Some(self.shared.cache.alone(&known))),
        }
    }

    fn serve(&self, kept: Kept<A::Kept>, source: Source) -> A::Response {
        self.shared.counters.count(source);
        self.shared.adapter.kept(&self.request, kept, source)
    }

    fn fixed(&self, place: u8) -> Option<A::Response> {
        let response = self.shared.adapter.fixed(&self.request, place)?;
        self.shared.counters.count(Source::Fixed(place));
        Some(response)
    }

    /// Asks the upstream, and keeps what can be kept.
    async fn ask(&mut self, flight: Option<Flight<A::Key, A::Kept>>) -> Asked<A::Response> {
        let sending = match &flight {
            Some(flight) if flight.leads() => Sending::Shared,
            _ => Sending::Alone,
        };
        let (request, held) = asking(&self.shared, &self.request, flight.as_ref(), sending);
        let result = send(self.inner.clone(), request).await;
        if let Some(trouble) = self.shared.adapter.trouble(result.as_ref()) {
            if let Some(flight) = flight {
                flight.fail();
            }
            self.failed = Some(result);
            return Asked::Trouble(trouble);
        }
        // No answer is never an ordinary one, whatever the adapter says of the error.
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                self.failed = Some(Err(error));
                return Asked::Trouble(Trouble::NoAnswer);
            }
        };
        let (Some(key), Some(flight)) = (&self.key, flight) else {
            self.shared.counters.count(Source::Upstream);
            return Asked::Answer(self.shared.adapter.answer(response, Source::Upstream));
        };
        let asked = Brought { request: &self.request, key, held, response };
        match keep(&self.shared, asked, flight, self.seen).await {
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
    async fn stand(mut self, state: State) -> Result<A::Response, S::Error> {
        let trouble = match state {
            State::Troubled(trouble) => trouble,
            State::New | State::Dimmed => Trouble::NoAnswer,
        };
        if self.failed.is_none() && now() < self.seen.deadline && trouble == Trouble::Failed {
            let request = self.shared.adapter.copy(&self.request, Sending::Alone);
            self.failed = Some(send(self.inner.clone(), request).await);
        }
        match self.failed {
            Some(result) => {
                self.shared.counters.count(Source::Upstream);
                result.map(|response| self.shared.adapter.answer(response, Source::Upstream))
            }
            None => Ok(self.shared.adapter.lost(&self.request, trouble)),
        }
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
                    let brought = Brought { request: &request, key: &key, held, response };
                    drop(keep(&shared, brought, flight, seen).await);
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

/// An answer, and what it was asked for.
struct Brought<'a, Req, Res, K, V> {
    request: &'a Req,
    key: &'a K,
    /// What it was asked to confirm.
    held: Option<Kept<V>>,
    response: Res,
}

/// Takes the answer in and ends the flight. `None` when it broke off.
async fn keep<A, Req, Res, Err>(
    shared: &Shared<A, A::Key, A::Kept>,
    brought: Brought<'_, Req, Res, A::Key, A::Kept>,
    flight: Flight<A::Key, A::Kept>,
    seen: Request,
) -> Option<A::Response>
where
    A: Adapter<Req, Res, Err>,
{
    let Brought { request, key, held, response } = brought;
    match shared.adapter.take(request, key, held, response, seen.deadline).await {
        Taken::Keep { key: known, fill, response } if known == *key => {
            flight.fill(fill);
            Some(response)
        }
        Taken::Keep { key: known, fill, response } => {
            shared.cache.alone(&known).fill(fill);
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
