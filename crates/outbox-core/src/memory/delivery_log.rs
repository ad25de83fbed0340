use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::error::Result;
use crate::id::MessageId;
use crate::ports::DeliveryLog;
use crate::time::Timestamp;

/// A [`DeliveryLog`] in memory: it lasts as long as the process, so that after a restart a message
/// that was only partly delivered is sent to all of its destinations again.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outbox_core::id::MessageId;
/// use outbox_core::memory::MemoryDeliveryLog;
/// use outbox_core::ports::DeliveryLog;
/// use outbox_core::time::Timestamp;
///
/// let log = MemoryDeliveryLog::new();
/// let id = MessageId::from_bytes([1; 16]);
/// log.record(&[id], "audit", Timestamp::EPOCH).await.unwrap();
/// assert_eq!(log.delivered(&[id], "audit").await.unwrap(), [true]);
/// assert_eq!(log.delivered(&[id], "search").await.unwrap(), [false]);
/// # });
/// ```
#[derive(Debug, Default)]
pub struct MemoryDeliveryLog(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    by_destination: HashMap<Arc<str>, HashMap<MessageId, Timestamp>>,
    by_age: BTreeSet<(Timestamp, MessageId, Arc<str>)>,
}

impl MemoryDeliveryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn record(&mut self, id: MessageId, destination: &Arc<str>, now: Timestamp) {
        let known = self
            .by_destination
            .entry(Arc::clone(destination))
            .or_default();
        if let Some(earlier) = known.insert(id, now) {
            self.by_age.remove(&(earlier, id, Arc::clone(destination)));
        }
        self.by_age.insert((now, id, Arc::clone(destination)));
    }

    fn forget_oldest(&mut self, before: Timestamp) -> bool {
        if self.by_age.first().is_none_or(|(at, ..)| *at >= before) {
            return false;
        }
        let Some((_, id, destination)) = self.by_age.pop_first() else {
            return false;
        };
        if let Some(known) = self.by_destination.get_mut(&destination) {
            known.remove(&id);
        }
        true
    }
}

#[async_trait]
impl DeliveryLog for MemoryDeliveryLog {
    async fn delivered(&self, ids: &[MessageId], destination: &str) -> Result<Vec<bool>> {
        let records = self.records();
        let known = records.by_destination.get(destination);
        let has = |id| known.is_some_and(|known| known.contains_key(id));
        Ok(ids.iter().map(has).collect())
    }

    async fn record(&self, ids: &[MessageId], destination: &str, now: Timestamp) -> Result<()> {
        let destination = Arc::from(destination);
        let mut records = self.records();
        for id in ids {
            records.record(*id, &destination, now);
        }
        Ok(())
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
        let mut records = self.records();
        let forgotten = (0..max).take_while(|_| records.forget_oldest(before));
        Ok(forgotten.count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> MessageId {
        MessageId::from_bytes([n; 16])
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[tokio::test]
    async fn a_record_counts_for_its_destination_alone_and_answers_keep_their_order() {
        let log = MemoryDeliveryLog::new();
        log.record(&[id(2), id(4)], "audit", at(0)).await.unwrap();
        let ids = [id(1), id(2), id(3), id(4)];
        let audit = log.delivered(&ids, "audit").await.unwrap();
        assert_eq!(audit, [false, true, false, true]);
        assert_eq!(log.delivered(&ids, "search").await.unwrap(), [false; 4]);
    }

    #[tokio::test]
    async fn purging_forgets_the_oldest_first_and_no_more_than_asked() {
        let log = MemoryDeliveryLog::new();
        for n in 1..=4 {
            log.record(&[id(n)], "audit", at(n.into())).await.unwrap();
        }
        assert_eq!(log.purge(at(4), 2).await.unwrap(), 2);
        let ids = [id(1), id(2), id(3), id(4)];
        let left = log.delivered(&ids, "audit").await.unwrap();
        assert_eq!(left, [false, false, true, true]);
        assert_eq!(log.purge(at(4), 9).await.unwrap(), 1, "4 is not before 4");
    }

    #[tokio::test]
    async fn recording_again_makes_a_record_young_again() {
        let log = MemoryDeliveryLog::new();
        log.record(&[id(1)], "audit", at(1)).await.unwrap();
        log.record(&[id(1)], "audit", at(9)).await.unwrap();
        assert_eq!(log.purge(at(5), 9).await.unwrap(), 0);
        assert_eq!(log.delivered(&[id(1)], "audit").await.unwrap(), [true]);
    }
}
