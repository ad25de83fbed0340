use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::trouble::Trouble;
use crate::time::{Clock, Timestamp, TokioClock};

/// The longest that a process is stopped before it runs on.
const LONGEST_PAUSE: Duration = Duration::from_secs(9);

/// How far a clock jumps.
const FURTHEST_JUMP: Duration = Duration::from_secs(10);

/// A process of a world: it dies at any of its awaits, is stopped and runs on later, and has a
/// clock of its own that jumps.
pub(super) struct Process {
    pub(super) name: String,
    trouble: Arc<Trouble>,
    pub(super) clock: Arc<JumpingClock>,
    stopped_until: Mutex<Option<Instant>>,
}

/// The clock of one process.
pub(super) struct JumpingClock {
    true_clock: TokioClock,
    micros_off: AtomicI64,
}

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        let off = self.micros_off.load(Relaxed);
        Timestamp::from_micros(self.true_clock.now().as_micros() + off)
    }
}

impl fmt::Debug for JumpingClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JumpingClock")
    }
}

impl JumpingClock {
    fn set_right(&self) {
        self.micros_off.store(0, Relaxed);
    }

    fn jump(&self, trouble: &Trouble) {
        let span = i64::try_from(FURTHEST_JUMP.as_micros()).unwrap_or(0);
        let off = i64::try_from(trouble.up_to(2 * FURTHEST_JUMP).as_micros()).unwrap_or(0);
        self.micros_off.store(off - span, Relaxed);
    }
}

impl Process {
    pub(super) fn new(name: String, trouble: Arc<Trouble>, true_clock: TokioClock) -> Arc<Self> {
        Arc::new(Self {
            name,
            trouble,
            clock: Arc::new(JumpingClock {
                true_clock,
                micros_off: AtomicI64::new(0),
            }),
            stopped_until: Mutex::default(),
        })
    }

    /// Runs one life of the process; `None` where it died at an await.
    pub(super) async fn live<F: Future>(&self, run: F) -> Option<F::Output> {
        let mut run = pin!(run);
        let mut stopped: Option<std::pin::Pin<Box<Sleep>>> = None;
        poll_fn(|context| {
            if !self.trouble.is_on() {
                self.clock.set_right();
            }
            if let Some(sleep) = &mut stopped {
                if sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                stopped = None;
                self.stop_until(None);
            }
            let rates = self.trouble.rates();
            if self.trouble.strikes(rates.crashes) {
                return Poll::Ready(None);
            }
            if self.trouble.strikes(rates.jumps) {
                self.clock.jump(&self.trouble);
            }
            if self.trouble.strikes(rates.pauses) {
                let until = Instant::now() + self.trouble.up_to(LONGEST_PAUSE);
                self.stop_until(Some(until));
                let mut sleep = Box::pin(sleep_until(until));
                // Polled once, so that it wakes this process when it is over.
                if sleep.as_mut().poll(context).is_pending() {
                    stopped = Some(sleep);
                    return Poll::Pending;
                }
            }
            run.as_mut().poll(context).map(Some)
        })
        .await
    }

    /// Runs a part of the process that is a task of its own: it stands still while the process
    /// does.
    pub(super) async fn share<F: Future>(&self, part: F) -> F::Output {
        let mut part = pin!(part);
        let mut stopped: Option<std::pin::Pin<Box<Sleep>>> = None;
        poll_fn(|context| {
            while let Some(until) = self.stopped_until() {
                let sleep = stopped.get_or_insert_with(|| Box::pin(sleep_until(until)));
                if sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                stopped = None;
                self.stop_until(None);
            }
            part.as_mut().poll(context)
        })
        .await
    }

    fn stop_until(&self, until: Option<Instant>) {
        *self
            .stopped_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn stopped_until(&self) -> Option<Instant> {
        let until = *self
            .stopped_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| *until > Instant::now())
    }
}
