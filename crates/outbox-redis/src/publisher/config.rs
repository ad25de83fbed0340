use std::time::Duration;

use outbox_core::error::ConfigError;

use crate::keys::check_text;

/// What the entries of a stream are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryIds {
    /// As the server numbers them. Ids of messages are remembered for the deduplication window. The
    /// default, and the one for streams that a queue reads.
    #[default]
    Server,
    /// `<sequence>-0`: a message's place in its outbox, so that a reader sees how far the stream has
    /// come. What was published is remembered by one bit a message. Such a stream has one outbox and
    /// no other writer; a message that comes late (scheduled, or held back) is called
    /// `<last sequence>-<n>`.
    Sequence,
}

/// How a [`crate::RedisPublisher`] behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisPublisherConfig {
    /// The stream's name, and the publisher's; from 1 to 255 bytes, `tasks` by default. It is that of
    /// the queue where workers read it.
    pub stream: String,
    /// The name of the outbox that messages come from; from 1 to 255 bytes, `outbox` by default.
    /// Epochs are compared within one origin: two outboxes that publish to one stream need two names.
    pub origin: String,
    /// What entries are called.
    pub ids: EntryIds,
    /// The most entries of the stream; what is over it is answered
    /// [`outbox_core::PublishError::Unavailable`]. 1,000,000 by default, at least 1.
    #[doc(alias = "MAX_STREAM_SIZE")]
    pub high_water: u64,
    /// How long it is remembered at least that a message was published; 24 h by default, at least
    /// 1 s. Where a queue reads the stream, as long as that queue's.
    pub dedup_window: Duration,
    /// How far before the last entry that a server has kept a replay begins, where entries have the
    /// server's ids: at least as long as a relay needs to settle, and as clocks differ. 60 s by
    /// default.
    pub replay_margin: Duration,
    /// The topics that are replayed where the server has lost entries; all of the outbox where there
    /// are none, which is right where everything in it goes to this stream.
    pub replay_topics: Vec<String>,
}

impl Default for RedisPublisherConfig {
    fn default() -> Self {
        Self::named("tasks")
    }
}

impl RedisPublisherConfig {
    /// The defaults for the stream of this name.
    pub fn named(stream: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            origin: "outbox".to_owned(),
            ids: EntryIds::default(),
            high_water: 1_000_000,
            dedup_window: Duration::from_hours(24),
            replay_margin: Duration::from_secs(60),
            replay_topics: Vec::new(),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut error = ConfigError::default();
        check_text(&mut error, "stream", &self.stream);
        check_text(&mut error, "origin", &self.origin);
        if self.high_water == 0 {
            error.add("high_water", "is 0, but at least 1 is needed");
        }
        if self.dedup_window < Duration::from_secs(1) {
            let problem = format!("is {:?}, but at least 1 s is needed", self.dedup_window);
            error.add("dedup_window", problem);
        }
        error.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_at_once() {
        let config = RedisPublisherConfig {
            origin: "{x}".to_owned(),
            high_water: 0,
            dedup_window: Duration::ZERO,
            ..RedisPublisherConfig::named("")
        };
        let error = config.check().unwrap_err();
        let settings: Vec<_> = error.problems.iter().map(|p| p.setting.as_str()).collect();
        assert_eq!(settings, ["stream", "origin", "high_water", "dedup_window"]);
        assert_eq!(RedisPublisherConfig::default().check(), Ok(()));
    }
}
