use std::time::Duration;

use outbox_core::id::WorkerId;
use outbox_core::ports::{DequeueReport, DequeueRequest};
use outbox_core::time::Timestamp;
use tokio::time::Instant;

use super::dequeue::too_short;
use super::stats::moment_in;
use super::{RedisQueue, millis, owner_bytes, scripts};
use crate::error::Fault;
use crate::link::Arg;
use crate::reader::Reader;

/// The shortest wait of a caller that does not recover what he was told is stuck.
const BREATH: Duration = Duration::from_millis(50);

/// The longest wait for one answer of the server; then it is asked again.
const LONGEST: Duration = Duration::from_secs(60);

/// What one who found nothing waits for, in the time of the queue.
pub(super) struct Look {
    pub(super) moved: bool,
    read: Arg,
    rung: Arg,
    pub(super) next_due: Option<Timestamp>,
    next_expiry: Option<Timestamp>,
    /// Whether entries were read and are not held.
    pub(super) unheld: bool,
    /// Whether anybody holds anything.
    pub(super) held: bool,
    now: Timestamp,
}

/// One call of a dequeue.
pub(super) struct Waiting<'a> {
    pub(super) request: &'a DequeueRequest,
    began: Instant,
    /// How long it waited, without what the server took to answer.
    paused: Duration,
    /// Since when entries were read and not leased.
    unheld: Option<Instant>,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(request: &'a DequeueRequest) -> Self {
        Self {
            request,
            began: Instant::now(),
            paused: Duration::ZERO,
            unheld: None,
        }
    }

    /// Has `wait` count as waiting.
    pub(super) async fn during<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let told = wait.await;
        self.paused += since.elapsed();
        told
    }

    /// The present moment, by the clock of the caller.
    pub(super) fn now(&self) -> Timestamp {
        self.request.now + self.paused
    }

    /// A moment of the queue's time, told when that was `at`, by the clock of the caller.
    pub(super) fn in_callers_time(
        &self,
        moment: Option<Timestamp>,
        at: Timestamp,
    ) -> Option<Timestamp> {
        let now = self.now();
        moment.map(|moment| match moment >= at {
            true => now + moment.since(at),
            false => now - at.since(moment),
        })
    }

    /// Whether the caller wants to wait no longer.
    pub(super) fn is_over(&self) -> bool {
        self.request.wait <= self.began.elapsed()
    }

    /// What is told where nothing came.
    pub(super) fn nothing(&self, look: &Look) -> DequeueReport {
        DequeueReport {
            next_expiry: self.in_callers_time(look.next_expiry, look.now),
            none_held: !look.held && !look.unheld,
            ..DequeueReport::default()
        }
    }

    /// How long to wait before looking again; `None` where the call is over.
    pub(super) fn pause(&mut self, look: &Look, grace: Duration) -> Option<Duration> {
        let waited = self.began.elapsed();
        let rest = self.request.wait.checked_sub(waited)?;
        let unheld_for = match look.unheld {
            true => self.unheld.get_or_insert_with(Instant::now).elapsed(),
            false => {
                self.unheld = None;
                Duration::ZERO
            }
        };
        let ended = look.next_expiry.is_some_and(|end| end <= look.now);
        let stuck = ended || (look.unheld && unheld_for >= grace);
        if rest.is_zero() || (stuck && waited >= BREATH) {
            return None;
        }
        let due = look.next_due.map(|due| due.since(look.now));
        let ends = look.next_expiry.map(|end| end.since(look.now).max(BREATH));
        let unheld = look
            .unheld
            .then(|| grace.saturating_sub(unheld_for).max(BREATH));
        let pauses = [due, ends, unheld, Some(rest), Some(LONGEST)];
        pauses.into_iter().flatten().min()
    }
}

impl RedisQueue {
    pub(super) async fn look(&self, owner: WorkerId, now: Timestamp) -> Result<Look, Fault> {
        let args = vec![owner_bytes(owner)];
        let reply = self.run_repairing(&scripts::LOOK, Some(now), args).await?;
        let mut parts = reply.list()?;
        let mut next = || parts.next().ok_or_else(too_short);
        Ok(Look {
            moved: next()?.number()? > 0,
            read: Arg::Bytes(next()?.bytes()?),
            rung: Arg::Bytes(next()?.bytes()?),
            next_due: moment_in(next()?)?,
            next_expiry: moment_in(next()?)?,
            unheld: next()?.number()? == 1,
            held: next()?.number()? > 0,
            now: moment_in(next()?)?.unwrap_or(now),
        })
    }

    /// Waits until the stream has grown since `look`, the bell has rung, or `pause` is over; whether
    /// something woke it.
    pub(super) async fn wait(
        &self,
        reader: &mut Reader,
        look: &Look,
        pause: Duration,
    ) -> Result<bool, Fault> {
        let (stream, bell) = (self.0.parts.stream(), self.0.parts.bell());
        let args = vec![
            Arg::from_static_str("COUNT"),
            Arg::Integer(1),
            Arg::from_static_str("BLOCK"),
            millis(pause),
            Arg::from_static_str("STREAMS"),
            Arg::from(stream),
            Arg::from(bell),
            look.read.clone(),
            look.rung.clone(),
        ];
        let wait =
            async |link: &crate::link::Link| link.blocking("XREAD", stream, args, pause).await;
        match reader.with(wait).await {
            // What has come, or gone, is found out by reading.
            Ok(told) => Ok(!told.is_null()),
            Err(fault) if fault.lost_group() => Ok(true),
            Err(fault) => Err(fault),
        }
    }
}
