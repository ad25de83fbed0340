use std::time::Duration;

use outbox_core::lease::Receipt;
use outbox_core::time::Timestamp;

use super::settle::{Runs, places_in};
use super::{RedisQueue, micros, scripts};
use crate::error::Fault;

impl RedisQueue {
    pub(super) async fn lengthen(
        &self,
        receipts: &[Receipt],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Receipt>, Fault> {
        if receipts.is_empty() {
            return Ok(Vec::new());
        }
        let mut runs = Runs::default();
        for receipt in receipts {
            runs.push("", receipt, []);
        }
        let mut args = vec![micros(lease)];
        args.extend(runs.into_args());
        let reply = self.run(&scripts::EXTEND, Some(now), args).await?;
        let lost = places_in(reply)?.into_iter();
        Ok(lost
            .filter_map(|place| receipts.get(place).copied())
            .collect())
    }
}
