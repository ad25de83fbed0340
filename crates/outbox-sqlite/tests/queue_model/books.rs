//! The books on who holds what.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use outbox_core::delivery::Delivery;
use outbox_core::id::MessageId;
use outbox_core::lease::Receipt;
use outbox_core::ports::Enqueued;
use outbox_core::report::QueueStats;
use outbox_core::time::Timestamp;

use crate::{HIGH_WATER, How, LEASE};

/// An entry, as the books have it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) enqueued_at: Timestamp,
    pub(crate) failures: u32,
    pub(crate) takeovers: u32,
    pub(crate) standing: Standing,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Standing {
    Waiting { due_at: Timestamp },
    Held { receipt: Receipt, until: Timestamp },
}

/// The books.
#[derive(Default)]
pub(crate) struct Model {
    /// Unsettled entries.
    pub(crate) entries: BTreeMap<MessageId, Entry>,
    /// Every id that was ever enqueued: the window never ends here.
    pub(crate) seen: HashSet<MessageId>,
    /// Every receipt that was ever given, and for which message.
    pub(crate) receipts: Vec<(Receipt, MessageId)>,
    pub(crate) quarantined: u64,
}

impl Model {
    pub(crate) fn enqueue(&mut self, id: MessageId, now: Timestamp) -> Option<Enqueued> {
        if self.seen.contains(&id) {
            return Some(Enqueued::Duplicate);
        }
        if self.entries.len() >= HIGH_WATER {
            return None;
        }
        self.seen.insert(id);
        let standing = Standing::Waiting { due_at: now };
        let entry = Entry {
            enqueued_at: now,
            failures: 0,
            takeovers: 0,
            standing,
        };
        self.entries.insert(id, entry);
        Some(Enqueued::Added)
    }

    /// How many entries may be handed out, or taken over.
    pub(crate) fn available(&self, now: Timestamp, stuck: bool) -> usize {
        let available = |entry: &&Entry| match entry.standing {
            Standing::Waiting { due_at } => !stuck && due_at <= now,
            Standing::Held { until, .. } => stuck && until <= now,
        };
        self.entries.values().filter(available).count()
    }

    pub(crate) fn hand_out(&mut self, delivery: &Delivery, now: Timestamp, stuck: bool) {
        let id = delivery.message.id;
        let entry = self.entries.get_mut(&id).expect("an unsettled entry");
        match entry.standing {
            Standing::Waiting { due_at } => assert!(!stuck && due_at <= now, "{id} is not due"),
            Standing::Held { until, .. } => assert!(stuck && until <= now, "{id} is held"),
        }
        assert_eq!(delivery.attempt, entry.failures + 1);
        entry.takeovers += u32::from(stuck);
        assert_eq!(delivery.takeovers, entry.takeovers);
        assert_eq!(delivery.last_failure.is_some(), entry.failures > 0);
        assert_eq!(delivery.enqueued_at, entry.enqueued_at);
        entry.standing = Standing::Held {
            receipt: delivery.receipt,
            until: now + LEASE,
        };
        self.receipts.push((delivery.receipt, id));
    }

    pub(crate) fn holder(&self, receipt: Receipt, id: MessageId) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| {
            matches!(entry.standing, Standing::Held { receipt: held, .. } if held == receipt)
        })
    }

    /// Settles; whether the receipt was live.
    pub(crate) fn settle(
        &mut self,
        receipt: Receipt,
        id: MessageId,
        how: How,
        now: Timestamp,
    ) -> bool {
        if !self.holder(receipt, id) {
            return false;
        }
        let wait = match how {
            How::Done | How::Quarantine => {
                self.entries.remove(&id);
                self.quarantined += u64::from(matches!(how, How::Quarantine));
                return true;
            }
            How::Retry(wait) | How::Delay(wait) => wait,
        };
        let entry = self.entries.get_mut(&id).expect("it is held");
        if matches!(how, How::Retry(_)) {
            entry.failures += 1;
            entry.takeovers = 0;
        }
        let due_at = now + Duration::from_secs(wait);
        entry.standing = Standing::Waiting { due_at };
        true
    }

    pub(crate) fn stats(&self, now: Timestamp) -> QueueStats {
        let mut stats = QueueStats {
            quarantined: self.quarantined,
            oldest: self.entries.values().map(|entry| entry.enqueued_at).min(),
            ..QueueStats::default()
        };
        let mut owners = BTreeSet::new();
        for entry in self.entries.values() {
            match entry.standing {
                Standing::Held { receipt, .. } => {
                    stats.in_flight += 1;
                    owners.insert(receipt.owner);
                }
                Standing::Waiting { due_at } if due_at > now => stats.delayed += 1,
                Standing::Waiting { .. } => stats.ready += 1,
            }
        }
        stats.consumers = owners.len() as u64;
        stats
    }
}
