//! Carries the route's template out of the router, for the metrics.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    extract::{MatchedPath, Request},
    response::Response,
    routing::Route,
};
use tower::{Layer, Service};

/// Puts a request's [`MatchedPath`] into its answer's extensions.
#[derive(Clone, Copy)]
pub(super) struct RouteLabel;

impl Layer<Route> for RouteLabel {
    type Service = Labelled;

    fn layer(&self, route: Route) -> Labelled {
        Labelled(route)
    }
}

#[derive(Clone)]
pub(super) struct Labelled(Route);

impl Service<Request> for Labelled {
    type Response = Response;
    type Error = Infallible;
    type Future = LabelledFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request) -> LabelledFuture {
        let path = request.extensions().get::<MatchedPath>().cloned();
        LabelledFuture {
            path,
            inner: Box::pin(self.0.call(request)),
        }
    }
}

pub(super) struct LabelledFuture {
    path: Option<MatchedPath>,
    inner: Pin<Box<axum::routing::future::RouteFuture<Infallible>>>,
}

impl Future for LabelledFuture {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(mut response) = ready!(self.inner.as_mut().poll(cx));
        if let Some(path) = self.path.take() {
            response.extensions_mut().insert(path);
        }
        Poll::Ready(Ok(response))
    }
}
