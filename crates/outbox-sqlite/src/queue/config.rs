use std::time::Duration;

use outbox_core::error::{ConfigError, Result};

use crate::scope::check_name;

/// How a [`crate::SqliteQueue`] behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteQueueConfig {
    /// The queue's name in its file, in metrics and in failure records; from 1 to 255 bytes long,
    /// `tasks` by default.
    pub name: String,
    /// The most unsettled entries, those in flight and delayed among them; what is over it is
    /// answered [`outbox_core::PublishError::Unavailable`]. 1,000,000 by default.
    #[doc(alias = "MAX_STREAM_SIZE")]
    pub high_water: usize,
    /// How long an id that was enqueued is remembered, so that enqueuing it again adds nothing;
    /// while its entry is unsettled it is remembered anyway. 7 days by default: longer than any
    /// outage after which an outbox would send it again.
    pub dedup_window: Duration,
}

impl Default for SqliteQueueConfig {
    fn default() -> Self {
        Self::named("tasks")
    }
}

impl SqliteQueueConfig {
    /// The defaults for the queue of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            high_water: 1_000_000,
            dedup_window: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let mut error = ConfigError::default();
        check_name(&mut error, &self.name);
        if self.high_water == 0 {
            error.add("high_water", "is 0, but at least 1 is needed");
        }
        Ok(error.into_result()?)
    }
}
