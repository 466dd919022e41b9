//! Which handler serves which operation.
//!
//! Handlers are generic, a server is not: here each operation becomes a [`Route`] over trees
//! (`serde_json::Value`), whatever protocol its bytes come in.

use std::{collections::HashMap, marker::PhantomData, sync::Arc};

use aws_wire::{
    Fault, Http, Operation,
    codec::{Answer, Form},
    service::Service,
    tree::{self, ShapeError},
};
use futures::future::BoxFuture;
use serde_json::Value;

use crate::{
    Caller, Handle, Target,
    kept::{Kept, Key},
};

/// The table of all operations, by service and action.
#[derive(Default)]
pub struct Routes {
    services: HashMap<&'static str, HashMap<&'static str, Arc<dyn Route>>>,
}

impl Routes {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `handler` serve `O`.
    pub fn operation<O, H>(mut self, handler: Arc<H>) -> Self
    where
        O: Operation,
        H: Handle<O>,
    {
        let kept = Arc::new(Kept::default());
        let parameters = tree::fields::<O::Request>();
        let route = TypedRoute::<O, H> { handler, parameters, kept, operation: PhantomData };
        self.services.entry(O::SERVICE).or_default().insert(O::ACTION, Arc::new(route));
        self
    }

    /// The routes of both.
    pub fn merge(mut self, other: Self) -> Self {
        for (service, routes) in other.services {
            self.services.entry(service).or_default().extend(routes);
        }
        self
    }

    /// Every (service, action) that is served.
    pub fn actions(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.services.iter().flat_map(|(service, it)| it.keys().map(|action| (*service, *action)))
    }

    pub(crate) fn operations(&self) -> impl Iterator<Item = (&'static str, &'static str, Http)> {
        self.services.iter().flat_map(|(service, it)| {
            it.iter().map(|(action, route)| (*service, *action, route.http()))
        })
    }

    pub(crate) fn find(&self, service: &str, action: &str) -> Option<&Arc<dyn Route>> {
        self.services.get(service)?.get(action)
    }

    pub(crate) fn of(&self, service: &str) -> impl Iterator<Item = &Arc<dyn Route>> {
        self.services.get(service).into_iter().flat_map(HashMap::values)
    }
}

/// How a tree's leaves are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// All leaves are strings, and become what the shape wants.
    Text,
    /// JSON: a number is a number.
    Typed,
}

/// In whose protocol and in which form an answer is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) service: &'static Service,
    pub(crate) form: Form,
}

/// An operation whose types are forgotten.
pub(crate) trait Route: Send + Sync {
    fn action(&self) -> &'static str;
    fn http(&self) -> Http;
    /// The parameters that the operation's shape has, by their names on the wire.
    fn parameters(&self) -> &'static [&'static str];
    fn decode(&self, tree: Value, leaves: Leaves) -> Result<Box<dyn Call>, ShapeError>;
}

/// A decoded request, ready to be decided on and run.
pub(crate) trait Call: Send {
    fn targets(&self, caller: &Caller) -> Vec<Target>;
    /// See [`Handle::waits`].
    fn waits(&self) -> bool;
    /// The answer, in the form that its protocol wants.
    fn run(
        self: Box<Self>,
        caller: Arc<Caller>,
        wanted: Wanted,
    ) -> BoxFuture<'static, Result<Answer, Fault>>;
}

struct TypedRoute<O, H> {
    handler: Arc<H>,
    parameters: &'static [&'static str],
    kept: Arc<Kept>,
    operation: PhantomData<fn() -> O>,
}

impl<O: Operation, H: Handle<O>> Route for TypedRoute<O, H> {
    fn action(&self) -> &'static str {
        O::ACTION
    }

    fn http(&self) -> Http {
        O::HTTP
    }

    fn parameters(&self) -> &'static [&'static str] {
        self.parameters
    }

    fn decode(&self, tree: Value, leaves: Leaves) -> Result<Box<dyn Call>, ShapeError> {
        let version = Handle::<O>::version(&*self.handler);
        let key = version.map(|version| Key { version, request: tree.to_string() });
        let request = match leaves {
            Leaves::Text => tree::from_text(tree)?,
            Leaves::Typed => tree::from_json(tree)?,
        };
        let (handler, kept) = (self.handler.clone(), self.kept.clone());
        Ok(Box::new(TypedCall::<O, H> { handler, kept, key, request }))
    }
}

struct TypedCall<O: Operation, H> {
    handler: Arc<H>,
    kept: Arc<Kept>,
    /// Where the answer may be kept.
    key: Option<Key>,
    request: O::Request,
}

impl<O: Operation, H: Handle<O>> Call for TypedCall<O, H> {
    fn targets(&self, caller: &Caller) -> Vec<Target> {
        self.handler.targets(caller, &self.request)
    }

    fn waits(&self) -> bool {
        Handle::<O>::waits(&*self.handler)
    }

    fn run(
        self: Box<Self>,
        caller: Arc<Caller>,
        wanted: Wanted,
    ) -> BoxFuture<'static, Result<Answer, Fault>> {
        let Self { handler, kept, key, request } = *self;
        Box::pin(async move {
            if let Some(answer) = key.as_ref().and_then(|it| kept.find(it, wanted)) {
                return Ok(answer);
            }
            let response = Handle::<O>::handle(&*handler, &caller, request).await?;
            let answer = Answer::of(&response, wanted.service, wanted.form);
            let answer = answer.map_err(|error| Fault::internal(error.to_string()))?;
            if let Some(key) = &key {
                kept.keep(key, wanted, &answer);
            }
            Ok(answer)
        })
    }
}
