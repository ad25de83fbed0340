use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::delivery::Delivery;
use crate::error::Result;
use crate::id::WorkerId;
use crate::lease::{EntryId, Receipt};
use crate::observe::ReportDesk;
use crate::policy::Pause;
use crate::ports::{ClaimToken, DequeueReport};
use crate::report::{BatchReport, MessageReport, QueueStats, SettleReport, Stage, StopReport};
use crate::signal::Shutdown;
use crate::time::Timestamp;

use super::Worker;
use super::decided::{Admission, Admitted, Decided};
use super::suspect::Suspects;

use self::crew::{Crew, Handling};

mod crew;
mod events;
mod start;

/// When a worker has done its work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// Never: it is told to stop.
    Forever,
    /// When the queue holds nothing.
    Empty,
}

/// One run of a worker.
pub(super) struct Engine<'a> {
    worker: &'a Worker,
    owner: WorkerId,
    goal: Goal,
    work: FuturesUnordered<BoxFuture<'a, Event>>,
    crew: Crew,
    /// Deliveries that wait for a free place, in queue order.
    ready: VecDeque<Delivery>,
    /// What is to be handed to the handler once the queue was asked for more.
    starting: Vec<Admitted>,
    /// Deliveries that are being admitted or handled.
    running: BTreeMap<EntryId, Running>,
    busy_keys: BTreeSet<String>,
    decided: Vec<Decided>,
    /// The receipts that the running settlement is about.
    settling: Vec<Receipt>,
    /// The suspects among them.
    suspects_settling: Suspects,
    timers: Timers,
    busy: Busy,
    desk: ReportDesk,
    report: StopReport,
    stopping: Option<Timestamp>,
    /// Whether the queue had nothing to give when it was asked last.
    dry: bool,
    /// Whether the queue was seen to hold nothing at all.
    empty: bool,
    /// How long the queue is waited for where a run is to end when it is empty: longer each time that
    /// it was found to hold what it does not give.
    lull: Duration,
}

/// A delivery on its way through the consumer.
struct Running {
    receipt: Receipt,
    claim: Option<(crate::id::MessageId, ClaimToken)>,
    key: Option<String>,
    takeovers: u32,
    /// Its handling, once it is begun.
    handling: Option<Handling>,
}

/// Calls that happen one at a time.
#[derive(Default)]
struct Busy {
    taking: bool,
    admitting: bool,
    settling: bool,
    extending: bool,
    counting: bool,
}

struct Timers {
    /// When they were looked at last.
    read: Timestamp,
    /// When deliveries of dead workers are looked for next.
    recover: Timestamp,
    /// When everything held is extended next.
    heartbeat: Timestamp,
    /// Until when nothing is admitted: limited, or the breaker is open.
    closed: Option<Timestamp>,
    /// The rest that a queue gets when it failed.
    rest: Pause,
}

/// Something that the worker waited for.
enum Event {
    Taken(Taken, Result<DequeueReport>),
    Admitted(Admission),
    Settled(Vec<Decided>, Result<SettleReport>),
    Extended(Result<Vec<Receipt>>),
    Counted(Result<QueueStats>),
    Told,
}

/// How deliveries were taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Dequeued,
    Recovered,
}

impl<'a> Engine<'a> {
    pub(super) fn new(worker: &'a Worker, owner: WorkerId, goal: Goal) -> Self {
        let now = worker.clock.now();
        Self {
            worker,
            owner,
            goal,
            work: FuturesUnordered::new(),
            crew: Crew::of(worker),
            ready: VecDeque::new(),
            starting: Vec::new(),
            running: BTreeMap::new(),
            busy_keys: BTreeSet::new(),
            decided: Vec::new(),
            settling: Vec::new(),
            suspects_settling: Suspects::NONE,
            timers: Timers {
                read: now,
                recover: now,
                heartbeat: now + worker.config.lease / 3,
                closed: None,
                rest: Pause::default(),
            },
            busy: Busy::default(),
            desk: ReportDesk::default(),
            report: StopReport::default(),
            stopping: None,
            dry: false,
            empty: false,
            lull: Duration::ZERO,
        }
    }

    pub(super) async fn run(mut self, shutdown: &Shutdown) -> Result<StopReport> {
        loop {
            let now = self.worker.clock.now();
            if self.is_finished() {
                break;
            }
            if self
                .stopping
                .is_some_and(|since| now >= since + self.worker.config.grace)
            {
                self.abandon(now);
                break;
            }
            self.start_work(now);
            self.start_handlers(now)?;
            self.wait(now, shutdown).await?;
        }
        Ok(self.report)
    }

    /// Starts handlers, whose first steps may take this thread for a while: what was just asked of the
    /// queue goes on its way before.
    fn start_handlers(&mut self, now: Timestamp) -> Result<()> {
        if self.starting.is_empty() {
            return Ok(());
        }
        if let Some(Some(event)) = self.work.next().now_or_never() {
            self.on_event(event)?;
        }
        for admitted in std::mem::take(&mut self.starting) {
            self.start_handler(admitted, now);
        }
        Ok(())
    }

    async fn wait(&mut self, now: Timestamp, shutdown: &Shutdown) -> Result<()> {
        let pause = self.next_timer(now).since(now);
        tokio::select! {
            biased;
            () = shutdown.triggered(), if self.stopping.is_none() => self.begin_stop(now),
            Some(event) = self.work.next() => self.on_event(event)?,
            ended = self.crew.ended() => self.on_ended(ended),
            () = tokio::time::sleep(pause) => {}
        }
        // All that ended meanwhile, so that claims, permits and settlements are asked for together.
        let ended = self.crew.take_ended();
        self.on_ended(ended);
        Ok(())
    }

    fn next_timer(&self, now: Timestamp) -> Timestamp {
        let holds = self.held() > 0;
        [
            self.stopping.map(|since| since + self.worker.config.grace),
            self.can_take(now).then_some(self.timers.recover),
            (holds && !self.busy.extending).then_some(self.timers.heartbeat),
            self.timers.closed,
            self.timers.rest.until(now),
        ]
        .into_iter()
        .flatten()
        .fold(Timestamp::MAX, Timestamp::min)
    }

    fn is_finished(&self) -> bool {
        let quiet = self.held() == 0 && !self.busy.settling && self.desk.is_idle();
        quiet && (self.stopping.is_some() || (self.goal == Goal::Empty && self.empty))
    }

    /// Deliveries that this worker holds a lease on.
    fn held(&self) -> usize {
        self.ready.len() + self.running.len() + self.decided.len() + self.settling.len()
    }

    /// Suspects that wait for their handler or are in it.
    fn suspects_in_hand(&self) -> Suspects {
        let ready = self.ready.iter().map(|delivery| delivery.takeovers);
        let running = self.running.values().map(|running| running.takeovers);
        Suspects::among(ready.chain(running), self.worker.config.max_takeovers)
    }

    /// Suspects whose fate is known, and which have yet to be settled.
    fn suspects_leaving(&self) -> Suspects {
        let decided = self.decided.iter().map(|one| one.delivery.takeovers);
        Suspects::among(decided, self.worker.config.max_takeovers).and(self.suspects_settling)
    }

    fn begin_stop(&mut self, now: Timestamp) {
        self.stopping = Some(now);
        self.report.released = self.ready.len() as u64;
        self.give_back_ready(now);
    }

    /// Gives back what waits for a free place, to be delivered again from `due_at` on.
    fn give_back_ready(&mut self, due_at: Timestamp) {
        let ready = self.ready.drain(..);
        self.decided
            .extend(ready.map(|one| Decided::delayed(Admitted::unclaimed(one), due_at)));
    }

    /// The grace period is over: what is still being handled is dropped where it is, and comes back
    /// when its lease ends.
    fn abandon(&mut self, now: Timestamp) {
        self.report.abandoned = self.held() as u64;
        tracing::warn!(abandoned = self.report.abandoned, at = %now, "grace period is over");
    }

    fn batch_report(&self, decided: &[Decided], now: Timestamp) -> BatchReport {
        let messages = decided
            .iter()
            .map(|one| MessageReport {
                error: one.error.clone(),
                ..MessageReport::of(&one.delivery.message, one.delivery.attempt, one.fate, now)
            })
            .collect();
        BatchReport {
            stage: Stage::Handle,
            worker: self.owner,
            destination: self.worker.queue.name().to_owned(),
            duration: decided
                .iter()
                .map(|one| one.took)
                .max()
                .unwrap_or(Duration::ZERO),
            messages,
        }
    }
}
