use std::sync::atomic::Ordering;

use outbox_core::id::WorkerId;
use outbox_core::lease::{EntryId, Receipt};
use outbox_core::ports::{DeliveryOutcome, DeliverySettlement};
use outbox_core::report::SettleReport;
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;

use super::{RedisQueue, micros, number, scripts};
use crate::error::Fault;
use crate::link::{Arg, Reply, Texts};

/// After so many settlements, what every group has settled is removed.
const TRIM_EVERY: u64 = 500;

/// Runs of things that were delivered under the same proof, as scripts take them: each ascends, so
/// that nothing is in it twice.
#[derive(Default)]
pub(super) struct Runs {
    args: Vec<Arg>,
    texts: Texts,
    /// What the last run is about, where its count stands, and the count.
    last: Option<(&'static str, Receipt, usize, usize)>,
}

impl Runs {
    /// Adds one to the last run, or to a new one: what is done about `receipt`, and its details.
    pub(super) fn push(
        &mut self,
        what: &'static str,
        receipt: &Receipt,
        details: impl IntoIterator<Item = Arg>,
    ) {
        let goes_on =
            |last: &Receipt| in_runs(last) < in_runs(receipt) && prove_alike(last, receipt);
        match &mut self.last {
            Some((same, last, place, count)) if *same == what && goes_on(last) => {
                *last = *receipt;
                *count += 1;
                self.args[*place] = number(*count);
            }
            _ => {
                if !what.is_empty() {
                    self.args.push(Arg::from_static_str(what));
                }
                self.args.push(proof(receipt, &mut self.texts));
                self.last = Some((what, *receipt, self.args.len(), 1));
                self.args.push(number(1));
            }
        }
        self.args.push(self.texts.text(receipt.entry));
        self.args.extend(details);
    }

    pub(super) fn into_args(self) -> Vec<Arg> {
        self.args
    }
}

/// What the record of an entry begins with as long as it is held under `receipt`.
fn proof(receipt: &Receipt, texts: &mut Texts) -> Arg {
    let mut bytes = receipt.owner.as_bytes().to_vec();
    bytes.extend_from_slice(receipt.token.to_string().as_bytes());
    bytes.push(b'|');
    texts.bytes(&bytes)
}

impl RedisQueue {
    pub(super) async fn conclude(
        &self,
        settlements: &[DeliverySettlement],
        now: Timestamp,
    ) -> Result<SettleReport, Fault> {
        if settlements.is_empty() {
            return Ok(SettleReport::default());
        }
        let mut order: Vec<_> = (0..settlements.len()).collect();
        order.sort_by_key(|place| in_runs(&settlements[*place].receipt));
        let mut runs = Runs::default();
        for DeliverySettlement { receipt, outcome } in order.iter().map(|at| &settlements[*at]) {
            push_outcome(&mut runs, receipt, outcome, now);
        }
        let lost = self.settle_runs(runs, now).await?.into_iter();
        let mut lost: Vec<_> = lost.filter_map(|at| order.get(at).copied()).collect();
        lost.sort_unstable();
        let settled = (settlements.len() - lost.len()) as u64;
        self.signal_room(settlements, &lost);
        if self.0.config.fan_out {
            self.trim_now_and_then(settled).await?;
        }
        Ok(SettleReport { settled, lost })
    }

    /// Has the server settle, and answers the places of what was lost.
    pub(super) async fn settle_runs(
        &self,
        runs: Runs,
        now: Timestamp,
    ) -> Result<Vec<usize>, Fault> {
        let mut args = vec![self.stays()];
        args.extend(runs.into_args());
        let reply = self.run(&scripts::SETTLE, Some(now), args).await?;
        let mut parts = reply.list()?;
        let mut places = || parts.next().map_or(Ok(Vec::new()), places_in);
        let (lost, gone) = (places()?, places()?);
        if !gone.is_empty() {
            let count = gone.len();
            self.note_loss(&format!("{count} entries are gone that were to come back"));
        }
        Ok(lost)
    }

    /// Tells who waits for room that something has left the queue.
    fn signal_room(&self, settlements: &[DeliverySettlement], lost: &[usize]) {
        let leaves = |(place, settlement): (usize, &DeliverySettlement)| {
            let outcome = &settlement.outcome;
            let leaves = matches!(
                outcome,
                DeliveryOutcome::Done | DeliveryOutcome::Quarantine { .. }
            );
            leaves && lost.binary_search(&place).is_err()
        };
        if !self.0.full.load(Ordering::Acquire) {
            return;
        }
        let left = settlements.iter().enumerate().any(leaves);
        if left && self.0.full.swap(false, Ordering::AcqRel) {
            self.0.room.notify();
        }
    }

    async fn trim_now_and_then(&self, settled: u64) -> Result<(), Fault> {
        let untrimmed = self.0.untrimmed.fetch_add(settled, Ordering::Relaxed) + settled;
        if untrimmed >= TRIM_EVERY {
            self.0.untrimmed.store(0, Ordering::Relaxed);
            self.run(&scripts::TRIM, None, Vec::new()).await?;
        }
        Ok(())
    }
}

/// The order in which the fewest runs come of receipts.
fn in_runs(receipt: &Receipt) -> (WorkerId, u64, EntryId) {
    (receipt.owner, receipt.token, receipt.entry)
}

fn prove_alike(one: &Receipt, other: &Receipt) -> bool {
    one.owner == other.owner && one.token == other.token
}

fn push_outcome(runs: &mut Runs, receipt: &Receipt, outcome: &DeliveryOutcome, now: Timestamp) {
    match outcome {
        DeliveryOutcome::Done => runs.push("done", receipt, []),
        DeliveryOutcome::Retry { due_at, failure } => {
            let delay = micros(due_at.since(now));
            runs.push("retry", receipt, [delay, at(failure), text(failure)]);
        }
        DeliveryOutcome::Delay { due_at } => {
            runs.push("later", receipt, [micros(due_at.since(now))]);
        }
        DeliveryOutcome::Quarantine { failure } => {
            runs.push("quarantine", receipt, [at(failure), text(failure)]);
        }
    }
}

fn at(failure: &AttemptRecord) -> Arg {
    Arg::Integer(failure.at.as_micros())
}

/// A failed attempt as it stands in an entry.
fn text(failure: &AttemptRecord) -> Arg {
    // A record of numbers and texts cannot fail to be written.
    Arg::Bytes(serde_json::to_vec(failure).unwrap_or_default().into())
}

/// The whole numbers in a list.
pub(super) fn places_in(reply: Reply) -> Result<Vec<usize>, Fault> {
    let numbers = reply.list()?.map(Reply::number);
    numbers
        .map(|place| Ok(usize::try_from(place?).unwrap_or(usize::MAX)))
        .collect()
}

/// An entry's receipt.
pub(super) fn receipt(entry: EntryId, owner: WorkerId, token: u64) -> Receipt {
    Receipt {
        entry,
        owner,
        token,
    }
}
