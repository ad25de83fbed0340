use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use crate::delivery::Leased;
use crate::error::{OutboxError, Result};
use crate::id::WorkerId;
use crate::lease::{Epoch, LeaseToken};
use crate::message::Message;
use crate::ports::{Outcome, Settlement};
use crate::report::{
    BatchReport, ClaimReport, Fate, MessageReport, OutboxStats, SettleReport, Stage, StopReport,
};
use crate::signal::{Shutdown, WakeListener};
use crate::time::Timestamp;

use super::Relay;
use super::judge::Answer;
use super::keys::KeyGuard;
use super::lane::{Held, Lane, PATIENCE};
use super::rooms::Rooms;
use super::timers::Timers;
use super::unsettled::Unsettled;
use crate::observe::ReportDesk;

mod ending;
mod events;
mod published;
mod start;

/// When a relay has done its work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// Never: it is told to stop.
    Forever,
    /// When the outbox holds nothing unsent, or nothing has moved for too long.
    Empty,
}

/// One run of a relay. All its work is futures inside one future, so that dropping it drops
/// everything, and a simulation runs it step by step.
pub(super) struct Engine<'a> {
    relay: &'a Relay,
    owner: WorkerId,
    goal: Goal,
    work: FuturesUnordered<BoxFuture<'a, Event>>,
    /// A publish call that came back as soon as it was made.
    ended: Option<Event>,
    lanes: BTreeMap<String, Lane>,
    /// Where each topic went last, where the publisher routes.
    topics: BTreeMap<String, String>,
    guard: KeyGuard,
    timers: Timers,
    unsettled: Unsettled,
    /// The lease that was taken last, and until when it is surely ours.
    epoch: Epoch,
    lease_until: Timestamp,
    claim: ClaimState,
    judged: Judged,
    desk: ReportDesk,
    busy: Busy,
    drain: Drain,
    report: StopReport,
    stopping: Option<Timestamp>,
}

/// What the relay knows of its claims.
struct ClaimState {
    /// Whether there may be something to claim.
    wanted: bool,
    running: bool,
    /// The number of the next claim.
    next: u64,
    /// Whether a lease may be held that is to be given back when idle.
    holding: bool,
    /// Whether the last claim brought messages of keys that are held back, which went back at once.
    /// The next one waits until they are back: else it would bring them before their keys are free,
    /// and so for ever.
    untimely: bool,
    /// Whether the answer of a claim was lost: messages may be claimed that the relay has not seen,
    /// and claiming on would overtake them. All is settled and given back first.
    unknown: bool,
    /// When the first claim was made, within a lease, that brought nothing, where none has since.
    empty_since: Option<Timestamp>,
}

/// Calls that happen one at a time.
#[derive(Default)]
struct Busy {
    settling: bool,
    extending: bool,
    releasing: bool,
    purging: bool,
    counting: bool,
}

/// Progress towards an empty outbox.
struct Drain {
    /// When a message was published or quarantined last, by this relay or another.
    moved_at: Timestamp,
    /// How many messages were unsent when they were counted last.
    unsent: Option<u64>,
    /// Whether nothing has changed since.
    counted: bool,
    /// The store's last error, where it has not answered since.
    error: Option<OutboxError>,
}

/// Judged messages on their way to being settled.
#[derive(Default)]
struct Judged {
    settlements: Vec<Settlement>,
    groups: Vec<Group>,
    /// The groups that the running settlement is about.
    settling: Vec<Group>,
    /// How many of them, from the first on, are repeated because their answer was lost. That is done
    /// once no claim is under way, and nothing is claimed before: a message that they had put back
    /// would be settled for its next attempt.
    repeated: usize,
}

/// The messages of one publish call, judged.
struct Group {
    destination: String,
    duration: std::time::Duration,
    messages: Vec<Message>,
    held: Vec<Held>,
    fates: Vec<Filed>,
}

/// What becomes of one message of a group.
struct Filed {
    fate: Fate,
    error: Option<(String, String)>,
    /// Whether the message's key is held back until it is settled.
    blocks: bool,
}

/// A publish call that came back.
struct Call {
    destination: String,
    messages: Vec<Message>,
    held: Vec<Held>,
    /// Which call of its lane it was.
    number: u64,
    trial: bool,
    started: Timestamp,
    answer: Answer,
}

/// Something that the relay waited for.
enum Event {
    Claimed(u64, Timestamp, Result<ClaimReport>),
    Published(Call),
    Settled(Vec<Settlement>, Result<SettleReport>),
    /// So many tokens were to be extended until a moment; those in the answer are lost.
    Extended(usize, Timestamp, Result<Vec<LeaseToken>>),
    Released(Result<()>),
    Purged(Result<u64>),
    Counted(Result<OutboxStats>),
    Told,
}

impl<'a> Engine<'a> {
    pub(super) fn new(relay: &'a Relay, owner: WorkerId, goal: Goal) -> Self {
        let now = relay.clock.now();
        Self {
            relay,
            owner,
            goal,
            work: FuturesUnordered::new(),
            ended: None,
            lanes: BTreeMap::new(),
            topics: BTreeMap::new(),
            guard: KeyGuard::default(),
            timers: Timers::new(now, &relay.config),
            unsettled: Unsettled::default(),
            epoch: Epoch::default(),
            lease_until: now,
            claim: ClaimState {
                wanted: true,
                running: false,
                next: 0,
                holding: false,
                untimely: false,
                unknown: false,
                empty_since: None,
            },
            judged: Judged::default(),
            desk: ReportDesk::default(),
            busy: Busy::default(),
            drain: Drain {
                moved_at: now,
                unsent: None,
                counted: false,
                error: None,
            },
            report: StopReport::default(),
            stopping: None,
        }
    }

    /// Works until the goal is reached or `shutdown` is triggered; answers what was done and, after a
    /// flush, how many messages are unsent.
    pub(super) async fn run(mut self, shutdown: &Shutdown) -> Result<(StopReport, u64)> {
        let mut listener = self.relay.outbox.wake().listen();
        let mut rooms = Rooms::of(&*self.relay.publisher);
        loop {
            let now = self.relay.clock.now();
            if self.is_finished(now) {
                break;
            }
            self.start_work(now, &mut listener);
            self.wait(now, shutdown, (&mut listener, &mut rooms))
                .await?;
        }
        self.report.abandoned = self.unsettled.len() as u64;
        ending::give_back_lease(self.relay, self.owner).await;
        let unsent = match self.goal {
            Goal::Forever => 0,
            Goal::Empty => self.count_unsent().await?,
        };
        Ok((self.report, unsent))
    }

    async fn wait(
        &mut self,
        now: Timestamp,
        shutdown: &Shutdown,
        (listener, rooms): (&mut WakeListener, &mut Rooms),
    ) -> Result<()> {
        if let Some(event) = self.ended.take() {
            return self.on_event(event);
        }
        let pause = self.next_timer(now).since(now);
        let full = self.waiting_as_told(now);
        tokio::select! {
            biased;
            () = shutdown.triggered(), if self.stopping.is_none() => self.begin_stop(now),
            Some(event) = self.work.next() => self.on_event(event)?,
            () = listener.notified(), if !self.claim.running => self.claim.wanted = true,
            destination = rooms.signalled(&full) => self.on_room(&destination),
            () = tokio::time::sleep(pause) => {}
        }
        Ok(())
    }

    /// The destinations that named the time for which nothing is sent to them.
    fn waiting_as_told(&self, now: Timestamp) -> Vec<String> {
        let lanes = self.lanes.iter();
        let waiting = lanes.filter(|(_, lane)| lane.waits_as_told(now));
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// The earliest moment that needs attention and is not being attended to.
    fn next_timer(&self, now: Timestamp) -> Timestamp {
        let mut other = self.stopping.map(|since| since + self.relay.config.grace);
        let mut at = |moment: Timestamp| {
            other = Some(other.map_or(moment, |known| known.min(moment)));
        };
        if self.goal == Goal::Empty {
            at(self.drain.moved_at + self.relay.config.flush_patience);
        }
        for lane in self.lanes.values() {
            if let Some(until) = lane.closed_until(now) {
                at(until);
            } else if lane.queued() > 0 {
                // Its lane is busy: looking again soon finds out whether it is stalled.
                at(now + PATIENCE);
            }
        }
        self.timers.next(now, &self.busy_timers(now), other)
    }

    fn busy_timers(&self, now: Timestamp) -> super::timers::Attended {
        super::timers::Attended {
            claim: self.claim.running || self.stopping.is_some(),
            purge: self.busy.purging || self.stopping.is_some(),
            heartbeat: self.busy.extending || self.unsettled.is_empty(),
            give_back: !self.gives_back(now) || self.stopping.is_some(),
        }
    }

    fn begin_stop(&mut self, now: Timestamp) {
        self.stopping = Some(now);
        let (mut queued, deferred) = self.take_queued();
        queued.extend(deferred);
        self.report.released = queued.len() as u64;
        self.put_back(queued, &Outcome::Release);
    }

    /// Takes everything that is claimed and not on its way: what waits in lanes, and what waits for
    /// predecessors in another lane.
    fn take_queued(&mut self) -> (Vec<Leased>, Vec<Leased>) {
        let queued = self.lanes.values_mut().flat_map(Lane::drain).collect();
        (queued, self.guard.drain_deferred())
    }

    /// Takes messages out of their lanes and gives them back untried.
    fn turn_away(&mut self, queued: Vec<Leased>, outcome: &Outcome) {
        let keys: Vec<_> = queued
            .iter()
            .map(|one| one.message.ordering_key.clone())
            .collect();
        // Keys are held back first, so that those who wait for these messages do not overtake them.
        self.put_back(queued, outcome);
        for key in keys {
            self.leave_lane(key.as_deref());
        }
    }

    /// Gives claimed messages back untried.
    fn put_back(&mut self, leased: Vec<Leased>, outcome: &Outcome) {
        let mut group = Group::new(self.relay.publisher.name().to_owned());
        for one in leased {
            if let Some(key) = one.message.ordering_key.as_deref() {
                self.guard.block(key);
            }
            let settlement = Settlement {
                token: one.token,
                outcome: outcome.clone(),
            };
            self.judged.settlements.push(settlement);
            group.held.push(Held {
                token: one.token,
                attempt: one.attempt,
            });
            group.messages.push(one.message);
            group.fates.push(Filed {
                fate: Fate::Deferred,
                error: None,
                blocks: true,
            });
        }
        if !group.messages.is_empty() {
            self.judged.groups.push(group);
        }
    }

    fn batch_report(&self, group: &Group, now: Timestamp) -> BatchReport {
        let messages = group.messages.iter().zip(&group.held).zip(&group.fates);
        BatchReport {
            stage: Stage::Publish,
            worker: self.owner,
            destination: group.destination.clone(),
            duration: group.duration,
            messages: messages
                .map(|((message, held), filed)| MessageReport {
                    error: filed.error.clone(),
                    ..MessageReport::of(message, held.attempt, filed.fate, now)
                })
                .collect(),
        }
    }
}

impl Judged {
    /// How many messages are judged and not settled.
    fn len(&self) -> usize {
        let groups = self.groups.iter().chain(&self.settling);
        groups.map(|group| group.messages.len()).sum()
    }
}

impl Group {
    fn new(destination: String) -> Self {
        Self {
            destination,
            duration: std::time::Duration::ZERO,
            messages: Vec::new(),
            held: Vec::new(),
            fates: Vec::new(),
        }
    }

    fn push(&mut self, message: Message, held: Held, filed: Filed) {
        self.messages.push(message);
        self.held.push(held);
        self.fates.push(filed);
    }
}
