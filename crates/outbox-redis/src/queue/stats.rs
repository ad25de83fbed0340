use outbox_core::report::QueueStats;
use outbox_core::time::Timestamp;

use super::{RedisQueue, scripts};
use crate::error::Fault;
use crate::link::Reply;

impl RedisQueue {
    pub(super) async fn count(&self, now: Timestamp) -> Result<QueueStats, Fault> {
        let args = vec![self.stays()];
        let reply = self.run_repairing(&scripts::STATS, Some(now), args).await?;
        let mut parts = reply.list()?;
        let mut next = || parts.next().map_or(Ok(0), count_in);
        Ok(QueueStats {
            ready: next()?,
            in_flight: next()?,
            delayed: next()?,
            quarantined: next()?,
            consumers: next()?,
            oldest: parts.next().map(moment_in).transpose()?.flatten(),
        })
    }
}

/// The count in a reply.
pub(super) fn count_in(reply: Reply) -> Result<u64, Fault> {
    Ok(u64::try_from(reply.number()?).unwrap_or(0))
}

/// The moment in a text; nothing where it is empty.
pub(super) fn moment_in(reply: Reply) -> Result<Option<Timestamp>, Fault> {
    let text = reply.text()?;
    if text.is_empty() {
        return Ok(None);
    }
    let micros = text.parse().map_err(|_| Fault::Reply {
        wanted: "a moment",
        found: "another text".to_owned(),
    })?;
    Ok(Some(Timestamp::from_micros(micros)))
}
