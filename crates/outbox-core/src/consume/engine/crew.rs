//! Handlers run beside the worker, so that one that blocks its thread does not block the heartbeat.
//!
//! A handling that never waits needs no task of its own: a few tasks, each a *runner*, begin what is
//! to be handled, one after the other. What waits at its first step becomes a task then.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use crate::error::HandlerError;
use crate::observe::names;
use crate::ports::{Clock, Handled, Handler};
use crate::time::Timestamp;

use super::super::Worker;
use super::super::decided::{Admitted, Ended, Ending};

/// After so many handlings, or so long, a runner lets others have their turn on its thread: the
/// engine among them, which this thread alone may have to run once a handling has ended.
const TURN: usize = 16;
const LONG_TURN: Duration = Duration::from_micros(100);

/// What an engine has handled. When it is dropped, handlers are dropped where they are.
pub(super) struct Crew(Arc<Shared>);

/// Which handling: each has a number of its own.
pub(super) type HandlingId = u64;

/// What is to be handled.
pub(super) struct Handling {
    pub(super) id: HandlingId,
    pub(super) admitted: Admitted,
    pub(super) started: Timestamp,
}

struct Shared {
    handler: Arc<dyn Handler>,
    limit: Duration,
    clock: Arc<dyn Clock>,
    board: Mutex<Board>,
    news: Notify,
}

/// Where each handling stands.
#[derive(Default)]
struct Board {
    /// What is to be begun, in this order.
    waiting: VecDeque<Handling>,
    /// What runners are at the first step of.
    beginning: Vec<HandlingId>,
    /// What waited at its first step.
    tasks: HashMap<HandlingId, AbortHandle>,
    ended: Vec<(HandlingId, Ended)>,
}

impl Crew {
    pub(super) fn of(worker: &Worker) -> Self {
        Self(Arc::new(Shared {
            handler: worker.consumer.handler(),
            limit: worker.consumer.config().handler_timeout,
            clock: Arc::clone(&worker.clock),
            board: Mutex::default(),
            news: Notify::new(),
        }))
    }

    /// Has these handled, in their order.
    pub(super) fn handle(&self, all: Vec<Handling>) {
        // However many of them block their threads, each free thread has a runner, as if each
        // handling were a task.
        let runners = all.len().min(Handle::current().metrics().num_workers());
        self.0.board().waiting.extend(all);
        for _ in 0..runners {
            tokio::spawn(Arc::clone(&self.0).run());
        }
    }

    /// What has ended, once there is any.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn ended(&self) -> Vec<(HandlingId, Ended)> {
        loop {
            let ended = self.take_ended();
            if !ended.is_empty() {
                return ended;
            }
            self.0.news.notified().await;
        }
    }

    /// What has ended.
    pub(super) fn take_ended(&self) -> Vec<(HandlingId, Ended)> {
        std::mem::take(&mut self.0.board().ended)
    }

    /// Drops a handling where it is; one that is at a step finishes that.
    pub(super) fn abort(&self, id: HandlingId) {
        let mut board = self.0.board();
        board.leave(id);
        let waiting = board.waiting.iter().position(|waiting| waiting.id == id);
        let dropped = waiting.and_then(|place| board.waiting.remove(place));
        let task = board.tasks.remove(&id);
        board.ended.retain(|(ended, _)| *ended != id);
        drop(board);
        drop(dropped);
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.0.board());
        for task in left.tasks.into_values() {
            task.abort();
        }
    }
}

impl Board {
    /// A handling has made its first step; whether it is still wanted.
    fn leave(&mut self, id: HandlingId) -> bool {
        let place = self.beginning.iter().position(|beginning| *beginning == id);
        place
            .map(|place| self.beginning.swap_remove(place))
            .is_some()
    }

    /// Notes what has ended at its first step; whether that is wanted.
    fn note(&mut self, done: Option<(HandlingId, Ended)>) -> bool {
        let done = done.filter(|(id, _)| self.leave(*id));
        let wanted = done.is_some();
        self.ended.extend(done);
        wanted
    }
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A runner.
    async fn run(self: Arc<Self>) {
        let (mut done, mut room) = (None, None);
        let mut begins = Instant::now();
        let (mut since, mut handlings) = (begins, 0);
        while let Some(handling) = self.next(done.take()) {
            let id = handling.id;
            let answer = Arc::clone(&self).carry_out(handling, begins);
            // What held the last one holds the next, unless that one needs it for longer.
            let mut answer = match room.take() {
                None => Box::pin(answer),
                Some(mut room) => {
                    Pin::set(&mut room, answer);
                    room
                }
            };
            match answer.as_mut().now_or_never() {
                Some(ended) => {
                    done = Some((id, ended));
                    room = Some(answer);
                }
                None => self.hand_over(id, answer),
            }
            begins = Instant::now();
            handlings += 1;
            if handlings == TURN || begins - since >= LONG_TURN {
                self.tell(done.take());
                yield_now().await;
                begins = Instant::now();
                (since, handlings) = (begins, 0);
            }
        }
    }

    /// Notes what has ended at its first step.
    fn tell(&self, done: Option<(HandlingId, Ended)>) {
        if self.board().note(done) {
            self.news.notify_one();
        }
    }

    /// Notes what has ended at its first step, and answers what is to be begun next.
    fn next(&self, done: Option<(HandlingId, Ended)>) -> Option<Handling> {
        let mut board = self.board();
        let told = board.note(done);
        let next = board.waiting.pop_front();
        board.beginning.extend(next.as_ref().map(|next| next.id));
        drop(board);
        if told {
            self.news.notify_one();
        }
        next
    }

    /// Makes a task of what waits.
    fn hand_over(
        self: &Arc<Self>,
        id: HandlingId,
        answer: Pin<Box<impl Future<Output = Ended> + Send + 'static>>,
    ) {
        let mut board = self.board();
        if !board.leave(id) {
            drop(board);
            // What is the handler's is not to end the runner.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(answer)));
            return;
        }
        let crew = Arc::clone(self);
        let task = tokio::spawn(async move {
            let ended = answer.await;
            let mut board = crew.board();
            if board.tasks.remove(&id).is_some() {
                board.ended.push((id, ended));
                drop(board);
                crew.news.notify_one();
            }
        });
        board.tasks.insert(id, task.abort_handle());
    }

    fn carry_out(
        self: Arc<Self>,
        handling: Handling,
        began: Instant,
    ) -> impl Future<Output = Ended> + Send + 'static {
        let Handling {
            admitted, started, ..
        } = handling;
        let message = admitted.delivery.message.id;
        let span = tracing::debug_span!(names::SPAN_HANDLE, %message);
        let ended = async move {
            let answer = self.answer(&admitted, began);
            // Around all that is the handler's, so that not even what ends it leaves a delivery behind.
            let ending = match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(Some(answer)) => Ending::Answered(answer),
                Ok(None) => {
                    let limit = self.limit;
                    Ending::Broken(format!("handler did not answer within {limit:?}"))
                }
                Err(_) => Ending::Broken("handler panicked".to_owned()),
            };
            Ended {
                admitted,
                ending,
                started,
                ended: self.clock.now(),
            }
        };
        ended.instrument(span)
    }

    /// What the handler answers; nothing where that takes it too long. A timer is only set where it
    /// waits.
    async fn answer(
        &self,
        admitted: &Admitted,
        began: Instant,
    ) -> Option<Result<Handled, HandlerError>> {
        let mut answer = self.handler.handle(&admitted.delivery);
        let mut limit = pin!(None);
        std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(Some(answer));
            }
            if limit.is_none() {
                limit.set(Some(sleep_until(began + self.limit)));
            }
            let limit = limit.as_mut().as_pin_mut();
            limit.map_or(Poll::Pending, |limit| limit.poll(context).map(|()| None))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::super::fakes::delivery;
    use super::super::super::{Consumer, ConsumerConfig, WorkerConfig};
    use super::*;
    use crate::delivery::Delivery;
    use crate::memory::{MemoryQueue, MemoryQueueConfig};
    use crate::message::NewMessage;
    use crate::time::TokioClock;

    /// A crew whose handlers wait for so long, and how many of them have begun.
    fn crew(wait: Duration) -> (Crew, Arc<AtomicU32>) {
        let begun = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&begun);
        let handler = move |_: Delivery| {
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                Ok::<(), HandlerError>(())
            }
        };
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Timestamp::EPOCH));
        let queue = MemoryQueue::new(MemoryQueueConfig::default(), clock);
        let consumer = Consumer::new(handler, ConsumerConfig::default());
        let worker = Worker::new(Arc::new(queue), consumer, WorkerConfig::default()).unwrap();
        (Crew::of(&worker), begun)
    }

    fn handlings(ids: std::ops::RangeInclusive<HandlingId>) -> Vec<Handling> {
        let handling = |id| Handling {
            id,
            admitted: Admitted::unclaimed(delivery(&NewMessage::new("topic", "payload"))),
            started: Timestamp::EPOCH,
        };
        ids.map(handling).collect()
    }

    fn ids(ended: &[(HandlingId, Ended)]) -> Vec<HandlingId> {
        ended.iter().map(|(id, _)| *id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_before_it_begins_does_not_begin() {
        let (crew, begun) = crew(Duration::ZERO);
        crew.handle(handlings(1..=3));
        crew.abort(2);
        assert_eq!(ids(&crew.ended().await), [1, 3]);
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_while_it_waits_does_not_end() {
        let (crew, begun) = crew(Duration::from_secs(1));
        crew.handle(handlings(1..=3));
        tokio::time::sleep(Duration::from_millis(500)).await;
        crew.abort(2);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(ids(&crew.take_ended()), [1, 3]);
        assert_eq!(begun.load(Ordering::SeqCst), 3);
        assert!(crew.0.board().tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_after_it_ended_is_not_told() {
        let (crew, _) = crew(Duration::ZERO);
        crew.handle(handlings(1..=2));
        tokio::task::yield_now().await;
        crew.abort(1);
        assert_eq!(ids(&crew.take_ended()), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_at_its_first_step_neither_ends_nor_goes_on() {
        let (crew, _) = crew(Duration::ZERO);
        crew.0.board().waiting.extend(handlings(1..=2));
        for ends in [true, false] {
            let handling = crew.0.next(None).unwrap();
            let id = handling.id;
            let answer = Box::pin(Arc::clone(&crew.0).carry_out(handling, Instant::now()));
            crew.abort(id);
            match ends {
                true => crew.0.tell(Some((id, answer.await))),
                false => crew.0.hand_over(id, answer),
            }
        }
        tokio::task::yield_now().await;
        assert!(crew.take_ended().is_empty());
        assert!(crew.0.board().tasks.is_empty() && crew.0.board().beginning.is_empty());
    }
}
