use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;

use crate::delivery::Delivery;
use crate::error::HandlerError;
use crate::message::{Kind, MessageBody};
use crate::ports::{Handled, Handler};

/// Gives each delivery to the handler of its kind.
///
/// A kind is a name and a version: a new version needs a handler of its own. A delivery of a kind
/// that nobody handles is rejected, with [`UnknownKind`] as the cause, and so is one whose payload
/// is not the JSON of its kind: both rest in quarantine until the program knows better.
///
/// ```
/// use outbox_core::consume::KindRouter;
/// use outbox_core::delivery::Delivery;
/// use outbox_core::message::MessageBody;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct OrderPlaced { order: u64 }
/// impl MessageBody for OrderPlaced { const KIND: &'static str = "order.placed"; }
///
/// let handler = KindRouter::new().on(async |placed: OrderPlaced, delivery: Delivery| {
///     tracing::info!(order = placed.order, attempt = delivery.attempt, "placed");
///     Ok(())
/// });
/// ```
#[derive(Default)]
pub struct KindRouter {
    handlers: HashMap<Kind, Arc<dyn Handler>>,
    default: Option<Arc<dyn Handler>>,
}

impl KindRouter {
    /// A router that rejects every delivery.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Handles deliveries of `T`'s kind, their payload read as `T`; replaces an earlier handler of
    /// that kind.
    #[must_use]
    pub fn on<T, F, Fut, A>(self, handle: F) -> Self
    where
        T: MessageBody + Send + 'static,
        F: Fn(T, Delivery) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A, HandlerError>> + Send + 'static,
        A: Into<Handled>,
    {
        let typed = Typed {
            handle,
            body: PhantomData,
        };
        self.handler(Kind::of::<T>(), typed)
    }

    /// Gives deliveries of `kind` to `handler` as they are; replaces an earlier handler of that
    /// kind.
    #[must_use]
    pub fn handler(mut self, kind: Kind, handler: impl Handler + 'static) -> Self {
        self.handlers.insert(kind, Arc::new(handler));
        self
    }

    /// Gives deliveries of all other kinds to `handler` as they are.
    #[must_use]
    pub fn otherwise(mut self, handler: impl Handler + 'static) -> Self {
        self.default = Some(Arc::new(handler));
        self
    }
}

#[async_trait]
impl Handler for KindRouter {
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        let kind = &delivery.message.kind;
        match self.handlers.get(kind).or(self.default.as_ref()) {
            Some(handler) => handler.handle(delivery).await,
            None => Err(HandlerError::reject(UnknownKind(kind.clone()))),
        }
    }
}

/// A kind that a [`KindRouter`] has no handler for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no handler for kind {0}")]
pub struct UnknownKind(pub Kind);

/// A handler of one type of body.
struct Typed<T, F> {
    handle: F,
    body: PhantomData<fn() -> T>,
}

#[async_trait]
impl<T, F, Fut, A> Handler for Typed<T, F>
where
    T: MessageBody + Send + 'static,
    F: Fn(T, Delivery) -> Fut + Send + Sync,
    Fut: Future<Output = Result<A, HandlerError>> + Send,
    A: Into<Handled>,
{
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        let body = delivery.json::<T>().map_err(HandlerError::reject)?;
        let answer = (self.handle)(body, delivery.clone()).await?;
        Ok(answer.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::consume::fakes::delivery;
    use crate::error::OutboxError;
    use crate::message::NewMessage;

    #[derive(Serialize, Deserialize)]
    struct Placed {
        order: u64,
    }

    impl MessageBody for Placed {
        const KIND: &'static str = "order.placed";
    }

    fn placed(order: u64) -> NewMessage {
        NewMessage::json("orders", &Placed { order }).unwrap()
    }

    /// The cause of a rejection.
    fn cause(answer: Result<Handled, HandlerError>) -> crate::error::BoxError {
        match answer {
            Err(HandlerError::Reject(cause)) => cause,
            other => panic!("not rejected: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_delivery_reaches_the_handler_of_its_kind_as_its_type() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let orders = Arc::clone(&seen);
        let router = KindRouter::new().on(move |placed: Placed, delivery: Delivery| {
            orders
                .lock()
                .unwrap()
                .push((placed.order, delivery.attempt));
            async { Ok(()) }
        });
        router.handle(&delivery(&placed(7))).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [(7, 1)]);
    }

    #[tokio::test]
    async fn an_unknown_kind_is_rejected_by_name_unless_there_is_a_default() {
        let stranger = delivery(&NewMessage::new("orders", "x").kind(Kind::new("order.lost")));
        let router = KindRouter::new().on(async |_: Placed, _| Ok(()));
        let unknown = cause(router.handle(&stranger).await);
        let unknown = unknown.downcast::<UnknownKind>().unwrap();
        assert_eq!(unknown.to_string(), "no handler for kind order.lost@1");
        let router = router.otherwise(async |_: Delivery| Ok(()));
        assert!(router.handle(&stranger).await.is_ok());
    }

    #[tokio::test]
    async fn another_version_is_another_kind() {
        let mut newer = placed(7);
        newer.kind.version = 2;
        let router = KindRouter::new().on(async |_: Placed, _| Ok(()));
        let unknown = cause(router.handle(&delivery(&newer)).await);
        assert!(unknown.to_string().contains("order.placed@2"), "{unknown}");
    }

    #[tokio::test]
    async fn a_payload_that_is_not_its_kinds_json_is_rejected_with_the_codecs_error() {
        let mut broken = placed(7);
        broken.payload = "{\"order\":".into();
        let router = KindRouter::new().on(async |_: Placed, _| Ok(()));
        let codec = cause(router.handle(&delivery(&broken)).await);
        let codec = codec.downcast::<OutboxError>().unwrap();
        assert!(matches!(*codec, OutboxError::Codec { .. }), "{codec}");
    }
}
