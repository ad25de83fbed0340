//! Handlers run beside the worker, each in a task of its own, so that one that blocks its thread
//! blocks neither the heartbeat nor the others.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use crate::error::HandlerError;
use crate::observe::names;
use crate::ports::{Clock, Handled, Handler};
use crate::time::Timestamp;

use super::super::Worker;
use super::super::decided::{Admitted, Ended, Ending};

/// What an engine has handled.
pub(super) struct Crew {
    shared: Arc<Shared>,
    /// The number of the handling that was begun last.
    last: u64,
}

/// A handling under way; dropped where it is when this is dropped.
pub(super) struct Handling {
    number: u64,
    task: AbortHandle,
}

/// What all handlings of a crew have.
struct Shared {
    handler: Arc<dyn Handler>,
    limit: Duration,
    clock: Arc<dyn Clock>,
    /// What has ended, with its number, and is not taken yet.
    ended: Mutex<Vec<(u64, Ended)>>,
    news: Notify,
}

impl Crew {
    pub(super) fn of(worker: &Worker) -> Self {
        let shared = Shared {
            handler: worker.consumer.handler(),
            limit: worker.consumer.config().handler_timeout,
            clock: Arc::clone(&worker.clock),
            ended: Mutex::default(),
            news: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
            last: 0,
        }
    }

    pub(super) fn handle(&mut self, admitted: Admitted, started: Timestamp) -> Handling {
        self.last += 1;
        let (number, shared) = (self.last, Arc::clone(&self.shared));
        let message = admitted.delivery.message.id;
        let span = tracing::debug_span!(names::SPAN_HANDLE, %message);
        // It is moved several times on its way into a task, and is kept small for that.
        let handling = async move {
            let ending = shared.carry_out(&admitted).await;
            let ended = Ended {
                admitted,
                ending,
                started,
                ended: shared.clock.now(),
            };
            shared.ended().push((number, ended));
            shared.news.notify_one();
        };
        let task = tokio::spawn(handling.instrument(span)).abort_handle();
        Handling { number, task }
    }

    /// What has ended, once there is any.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn ended(&self) -> Vec<(u64, Ended)> {
        loop {
            let ended = self.take_ended();
            if !ended.is_empty() {
                return ended;
            }
            self.shared.news.notified().await;
        }
    }

    /// What has ended, each with its number.
    pub(super) fn take_ended(&self) -> Vec<(u64, Ended)> {
        let mut ended = self.shared.ended();
        if ended.is_empty() {
            return Vec::new();
        }
        // About as many will end until the next time.
        let room = Vec::with_capacity(ended.len());
        std::mem::replace(&mut *ended, room)
    }
}

impl Handling {
    /// Whether this is the one with that number.
    pub(super) fn is(&self, number: u64) -> bool {
        self.number == number
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn ended(&self) -> MutexGuard<'_, Vec<(u64, Ended)>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(&self, admitted: &Admitted) -> Ending {
        // Around all that is the handler's, so that not even what breaks when it is dropped leaves a
        // delivery behind.
        let answer = AssertUnwindSafe(self.answer(admitted)).catch_unwind();
        match answer.await {
            Ok(Some(answer)) => Ending::Answered(answer),
            Ok(None) => {
                let limit = self.limit;
                Ending::Broken(format!("handler did not answer within {limit:?}"))
            }
            Err(_) => Ending::Broken("handler panicked".to_owned()),
        }
    }

    /// What the handler answers; nothing where that takes it too long. Only for one that waits a timer
    /// is set.
    async fn answer(&self, admitted: &Admitted) -> Option<Result<Handled, HandlerError>> {
        let until = Instant::now().checked_add(self.limit);
        let mut answer = self.handler.handle(&admitted.delivery);
        let mut limit = None;
        std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(Some(answer));
            }
            let Some(until) = until else {
                return Poll::Pending;
            };
            // A handler may not let others have their turn: its time ends all the same.
            let over = || Box::pin(unconstrained(sleep_until(until)));
            let limit = limit.get_or_insert_with(over);
            limit.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}
