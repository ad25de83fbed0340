//! A server that has lost what it had acknowledged: it is told, and what is retained is replayed.

use outbox_core::lease::Sequence;
use outbox_core::ports::{ReplayFrom, ReplayRequest};
use outbox_core::time::Timestamp;

use super::config::{EntryIds, RedisPublisherConfig};

/// Why a replay is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Acknowledged entries are known to be gone.
    Lost,
    /// The server was started anew, and may have lost its last moments.
    Restarted,
    /// The server knows nothing of this origin: it is new, or has lost everything.
    Unmarked,
}

/// What is to be published again where `last` is the last entry that the server has kept.
pub(super) fn replay_behind(config: &RedisPublisherConfig, last: &str) -> ReplayRequest {
    let major = last.split('-').next().and_then(|text| text.parse().ok());
    let major: u64 = major.unwrap_or(0);
    let from = match config.ids {
        EntryIds::Sequence => ReplayFrom::Sequence(Sequence(major.saturating_add(1))),
        EntryIds::Server => {
            let kept = Timestamp::from_millis(i64::try_from(major).unwrap_or(i64::MAX));
            ReplayFrom::PublishedAt(kept - config.replay_margin)
        }
    };
    ReplayRequest {
        from,
        topics: config.replay_topics.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_replay_begins_behind_the_last_place_or_shortly_before_the_last_moment() {
        let mut config = RedisPublisherConfig::named("tasks");
        config.replay_margin = Duration::from_secs(1);
        let from = |config: &RedisPublisherConfig, last| replay_behind(config, last).from;
        let moment = ReplayFrom::PublishedAt(Timestamp::from_millis(4_000));
        assert_eq!(from(&config, "5000-3"), moment);
        config.ids = EntryIds::Sequence;
        let place = ReplayFrom::Sequence(Sequence(8));
        assert_eq!(from(&config, "7-2"), place);
        assert_eq!(from(&config, "0-0"), ReplayFrom::Sequence(Sequence(1)));
    }
}
