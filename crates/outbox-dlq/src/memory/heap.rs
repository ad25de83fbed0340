use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::time::Timestamp;

use crate::heap::{DlqEntry, DlqHeap, DrainRequest, Failure, HeapStats};
use crate::origin::Subject;

/// A heap in memory, shared by cloning; it forgets everything with its last clone.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outbox_core::time::Timestamp;
/// use outbox_dlq::{DlqHeap, MemoryDlqHeap};
///
/// let heap = MemoryDlqHeap::default();
/// assert_eq!(heap.stats(Timestamp::EPOCH).await?.entries, 0);
/// # Ok::<_, outbox_core::OutboxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryDlqHeap(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    counted: BTreeMap<Subject, Counted>,
    last_claim: u64,
}

#[derive(Debug)]
struct Counted {
    entry: DlqEntry,
    claimed_until: Option<Timestamp>,
}

impl Counted {
    fn is_claimed(&self, now: Timestamp) -> bool {
        self.claimed_until.is_some_and(|until| until > now)
    }
}

impl MemoryDlqHeap {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, failure: &Failure) {
        let new = || Counted {
            entry: DlqEntry {
                subject: failure.subject.clone(),
                failures: 0,
                first_failed_at: failure.at,
                last_failed_at: failure.at,
                kind: String::new(),
                error: String::new(),
                claim: 0,
            },
            claimed_until: None,
        };
        let counted = self
            .counted
            .entry(failure.subject.clone())
            .or_insert_with(new);
        let entry = &mut counted.entry;
        entry.failures = entry.failures.saturating_add(1);
        entry.first_failed_at = entry.first_failed_at.min(failure.at);
        entry.last_failed_at = entry.last_failed_at.max(failure.at);
        entry.kind.clone_from(&failure.kind);
        entry.error.clone_from(&failure.error);
    }

    fn drain(&mut self, request: &DrainRequest) -> Vec<DlqEntry> {
        let exceeds = |counted: &&mut Counted| {
            let entry = &counted.entry;
            let old = |since| entry.first_failed_at < since;
            !counted.is_claimed(request.now)
                && (entry.failures >= request.threshold || request.failing_since.is_some_and(old))
        };
        let mut found: Vec<_> = self.counted.values_mut().filter(exceeds).collect();
        found.sort_by_key(|counted| std::cmp::Reverse(counted.entry.failures));
        let mut drained = Vec::new();
        for counted in found.into_iter().take(request.max) {
            self.last_claim += 1;
            counted.entry.claim = self.last_claim;
            counted.claimed_until = Some(request.now + request.lease);
            drained.push(counted.entry.clone());
        }
        drained
    }

    /// Those of `drained` that are still their drainer's.
    fn held<'a>(&self, drained: &'a [DlqEntry]) -> Vec<&'a Subject> {
        let held = |entry: &&DlqEntry| {
            let counted = self.counted.get(&entry.subject);
            counted.is_some_and(|counted| {
                counted.entry.claim == entry.claim && counted.claimed_until.is_some()
            })
        };
        drained
            .iter()
            .filter(held)
            .map(|entry| &entry.subject)
            .collect()
    }
}

#[async_trait]
impl DlqHeap for MemoryDlqHeap {
    async fn record_failures(&self, failures: &[Failure]) -> Result<()> {
        let mut state = self.state();
        failures.iter().for_each(|failure| state.count(failure));
        Ok(())
    }

    async fn record_successes(&self, subjects: &[Subject]) -> Result<()> {
        let mut state = self.state();
        for subject in subjects {
            state.counted.remove(subject);
        }
        Ok(())
    }

    async fn drain_exceeded(&self, request: &DrainRequest) -> Result<Vec<DlqEntry>> {
        Ok(self.state().drain(request))
    }

    async fn confirm(&self, drained: &[DlqEntry]) -> Result<u64> {
        let mut state = self.state();
        let held = state.held(drained);
        for subject in &held {
            state.counted.remove(*subject);
        }
        Ok(held.len() as u64)
    }

    async fn release(&self, drained: &[DlqEntry]) -> Result<u64> {
        let mut state = self.state();
        let held = state.held(drained);
        for subject in &held {
            if let Some(counted) = state.counted.get_mut(*subject) {
                counted.claimed_until = None;
            }
        }
        Ok(held.len() as u64)
    }

    async fn purge(&self, before: Timestamp, max: usize, now: Timestamp) -> Result<u64> {
        let mut state = self.state();
        let old =
            |counted: &&Counted| counted.entry.last_failed_at < before && !counted.is_claimed(now);
        let old = state.counted.values().filter(old).take(max);
        let old: Vec<_> = old.map(|counted| counted.entry.subject.clone()).collect();
        for subject in &old {
            state.counted.remove(subject);
        }
        Ok(old.len() as u64)
    }

    async fn stats(&self, now: Timestamp) -> Result<HeapStats> {
        let state = self.state();
        let counted = || state.counted.values();
        Ok(HeapStats {
            entries: counted().count() as u64,
            claimed: counted().filter(|counted| counted.is_claimed(now)).count() as u64,
            oldest: counted().map(|counted| counted.entry.first_failed_at).min(),
        })
    }
}
