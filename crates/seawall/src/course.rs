//! What an admission lets pass: something that has a request and is not begun until polled.
//!
//! A course tells its end with its result, and takes the time of its beginning if somebody has just
//! read the clock: what is nested reads it once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use seawall_core::time::Time;
use tower_service::Service;

use crate::clock::now;

/// The result of a course, and when it was there.
pub(crate) type Over<C> = (Result<<C as Course>::Response, <C as Course>::Error>, Time);

/// A future that is told the time and tells it.
pub trait Course {
    /// What it is begun with.
    type Request;
    /// What comes of it.
    type Response;
    /// Why nothing comes of it.
    type Error;

    /// Its request, until it is begun.
    fn request(&self) -> Option<&Self::Request>;

    /// Polls it; `known` is the time if it was read for this very poll.
    fn poll_course(self: Pin<&mut Self>, known: Option<Time>, cx: &mut Context<'_>) -> Poll<Over<Self>>
    where
        Self: Sized;
}

pin_project! {
    /// A service that is readied, then called.
    #[project = ReadiedProjection]
    pub enum Readied<S, R>
    where
        S: Service<R>,
    {
        /// Not ready yet.
        Readying { pending: Option<(S, R)> },
        /// Called.
        Calling { #[pin] call: S::Future },
    }
}

impl<S: Service<R>, R> Readied<S, R> {
    /// Calls `service` with `request` as soon as it is ready.
    pub fn new(service: S, request: R) -> Readied<S, R> {
        Readied::Readying { pending: Some((service, request)) }
    }
}

impl<S: Service<R>, R> Future for Readied<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                ReadiedProjection::Readying { pending } => {
                    let (service, _) = pending.as_mut().expect("kept until it is called");
                    ready!(service.poll_ready(cx))?;
                    let (mut service, request) = pending.take().expect("kept until now");
                    self.set(Readied::Calling { call: service.call(request) });
                }
                ReadiedProjection::Calling { call } => return call.poll(cx),
            }
        }
    }
}

impl<S: Service<R>, R> Course for Readied<S, R> {
    type Request = R;
    type Response = S::Response;
    type Error = S::Error;

    fn request(&self) -> Option<&R> {
        match self {
            Readied::Readying { pending } => pending.as_ref().map(|(_, request)| request),
            Readied::Calling { .. } => None,
        }
    }

    fn poll_course(self: Pin<&mut Self>, _: Option<Time>, cx: &mut Context<'_>) -> Poll<Over<Self>> {
        let result = ready!(self.poll(cx));
        Poll::Ready((result, now()))
    }
}
