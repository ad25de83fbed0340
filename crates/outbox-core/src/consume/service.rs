use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tower::{Service, ServiceExt};

use crate::delivery::Delivery;
use crate::error::{BoxError, HandlerError};
use crate::ports::{Handled, Handler};

/// A [`tower::Service`] that serves as a handler, so that any tower layer can stand before it.
///
/// Each delivery is given to a clone of the service that was waited for to be ready. A
/// [`HandlerError`] from the service is told as it is, also where layers have boxed it; any other
/// error is retried.
///
/// ```
/// use outbox_core::consume::ServiceHandler;
/// use outbox_core::delivery::Delivery;
/// use outbox_core::error::HandlerError;
///
/// let service = tower::service_fn(async |delivery: Delivery| {
///     tracing::info!(id = %delivery.message.id, "seen");
///     Ok::<_, HandlerError>(())
/// });
/// let handler = ServiceHandler::new(service);
/// ```
pub struct ServiceHandler<S> {
    service: Mutex<S>,
}

impl<S> ServiceHandler<S> {
    /// A handler that gives each delivery to a clone of `service`.
    pub fn new(service: S) -> Self {
        Self {
            service: Mutex::new(service),
        }
    }
}

#[async_trait]
impl<S> Handler for ServiceHandler<S>
where
    S: Service<Delivery> + Clone + Send,
    S::Response: Send,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
{
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        let service = self
            .service
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match service.oneshot(delivery.clone()).await {
            Ok(_) => Ok(Handled::Done),
            Err(error) => Err(told(error.into())),
        }
    }
}

fn told(error: BoxError) -> HandlerError {
    match error.downcast::<HandlerError>() {
        Ok(error) => *error,
        Err(other) => HandlerError::retry(other),
    }
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::consume::fakes::delivery;
    use crate::message::NewMessage;

    async fn answer(error: Option<BoxError>) -> Result<Handled, HandlerError> {
        let error = Mutex::new(error);
        let service = service_fn(|_: Delivery| {
            let answer = error.lock().unwrap().take().map_or(Ok("done"), Err);
            async { answer }
        });
        let handler = ServiceHandler::new(service);
        handler.handle(&delivery(&NewMessage::new("t", "x"))).await
    }

    #[tokio::test]
    async fn a_service_handles_and_its_response_is_dropped() {
        assert!(answer(None).await.is_ok());
    }

    #[tokio::test]
    async fn a_handlers_own_error_is_told_as_it_is_and_any_other_is_retried() {
        let rejected = answer(Some(HandlerError::reject("never").into())).await;
        assert!(matches!(rejected, Err(HandlerError::Reject(_))));
        let retried = answer(Some("overloaded".into())).await;
        assert!(matches!(
            retried,
            Err(HandlerError::Retry { after: None, .. })
        ));
    }
}
