use std::sync::Arc;
use std::time::Duration;

use outbox_core::error::{ConfigError, Result};
use outbox_core::time::{Clock, SystemClock};

use crate::keys::check_text;

/// How a [`crate::RedisQueue`] behaves.
#[derive(Clone, Debug)]
pub struct RedisQueueConfig {
    /// The queue's name in its keys, in metrics and in failure records; from 1 to 255 bytes without
    /// braces, `tasks` by default.
    #[doc(alias = "owm-ingestion-stream")]
    pub name: String,
    /// The consumer group that reads; from 1 to 255 bytes without braces, `workers` by default.
    pub group: String,
    /// Whether other groups read the same messages, false by default. Entries then stay until every
    /// group has settled them; all of the queue's groups must be opened with the same setting, and
    /// a group that nobody reads any more has to be removed, because it keeps everything: see
    /// [`crate::RedisQueue::remove_group`].
    pub fan_out: bool,
    /// How long a group of a fanned-out queue may go unseen before the health check tells of it;
    /// 24 h by default, at least 5 min.
    pub group_silence: Duration,
    /// The most entries, those in flight and delayed among them; what is over it is answered
    /// [`outbox_core::PublishError::Unavailable`]. 1,000,000 by default.
    #[doc(alias = "MAX_STREAM_SIZE")]
    pub high_water: usize,
    /// How long an id that was enqueued is remembered at least, so that enqueuing it again adds
    /// nothing; for half as long again at most. 24 h by default: 80 bytes of the server's memory an
    /// id. Longer than any outage after which an outbox would send it again.
    pub dedup_window: Duration,
    /// How long an entry may be read and not leased before others take it over: a worker died, or
    /// lost its connection, between the two. 2 s by default, at least 1 ms.
    pub grace: Duration,
    /// From how many entries on what one read returned has one lease record in the server between
    /// them, which is quicker to settle; fewer have one each. 17 by default, at least 1.
    pub batch_lease_from: usize,
    /// Where the store decides by the caller's moments ([`crate::TimeSource::Caller`]), what those
    /// calls take theirs from that are told none; the system's clock by default.
    pub clock: Arc<dyn Clock>,
}

impl Default for RedisQueueConfig {
    fn default() -> Self {
        Self::named("tasks")
    }
}

impl RedisQueueConfig {
    /// The defaults for the queue of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            group: "workers".to_owned(),
            fan_out: false,
            group_silence: Duration::from_hours(24),
            high_water: 1_000_000,
            dedup_window: Duration::from_hours(24),
            grace: Duration::from_secs(2),
            batch_lease_from: 17,
            clock: Arc::new(SystemClock),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let mut error = ConfigError::default();
        check_text(&mut error, "name", &self.name);
        check_text(&mut error, "group", &self.group);
        let counts = [
            ("high_water", self.high_water),
            ("batch_lease_from", self.batch_lease_from),
        ];
        for (setting, count) in counts {
            if count == 0 {
                error.add(setting, "is 0, but at least 1 is needed");
            }
        }
        let times = [("dedup_window", self.dedup_window), ("grace", self.grace)];
        for (setting, time) in times {
            if time < Duration::from_millis(1) {
                error.add(setting, format!("is {time:?}, but at least 1 ms is needed"));
            }
        }
        if self.group_silence < Duration::from_mins(5) {
            let problem = format!("is {:?}, but at least 5 min is needed", self.group_silence);
            error.add("group_silence", problem);
        }
        Ok(error.into_result()?)
    }
}
