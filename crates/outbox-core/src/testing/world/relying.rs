use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::Shared;
use tokio::sync::oneshot;

use super::publisher::away;
use crate::error::PublishError;
use crate::message::Message;
use crate::ports::Publisher;
use crate::signal::Wake;
use crate::status::Ordering;

/// A publisher that is called while its last call is under way, and takes nothing behind one that was
/// not taken whole.
pub(super) struct Relying {
    pub(super) inner: Arc<dyn Publisher>,
    under_way: Mutex<HashMap<String, Vec<Taken>>>,
}

/// Comes where all of a call is taken; an error where it is not.
type Taken = Shared<oneshot::Receiver<()>>;

impl Relying {
    pub(super) fn new(inner: Arc<dyn Publisher>) -> Self {
        Self {
            inner,
            under_way: Mutex::default(),
        }
    }

    /// Notes a call, which ends as `taken` tells; the calls that it relies on.
    fn begin(&self, destination: &str, taken: oneshot::Receiver<()>) -> Vec<Taken> {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let calls = under_way.entry(destination.to_owned()).or_default();
        calls.retain(|call| call.clone().now_or_never().is_none());
        let before = calls.clone();
        calls.push(taken.shared());
        before
    }
}

#[async_trait]
impl Publisher for Relying {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn destination<'a>(&'a self, message: &'a Message) -> Cow<'a, str> {
        self.inner.destination(message)
    }

    fn routes(&self) -> bool {
        self.inner.routes()
    }

    fn rooms(&self) -> Vec<(String, Wake)> {
        self.inner.rooms()
    }

    fn ordering(&self) -> Ordering {
        self.inner.ordering()
    }

    fn pipeline_depth(&self) -> usize {
        2
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let Some(first) = messages.first() else {
            return Vec::new();
        };
        let (take, taken) = oneshot::channel();
        for call in self.begin(&self.destination(first), taken) {
            if call.await.is_err() {
                return away(messages);
            }
        }
        let results = self.inner.publish(messages).await;
        if results.len() == messages.len() && results.iter().all(Result::is_ok) {
            // Nobody may listen.
            let _ = take.send(());
        }
        results
    }
}
