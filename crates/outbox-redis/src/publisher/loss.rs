//! A server that has lost what it had acknowledged: it is told, and what is retained is replayed.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use outbox_core::PublishError;
use outbox_core::error::Result;
use outbox_core::lease::Sequence;
use outbox_core::message::Message;
use outbox_core::ports::{ReplayFrom, ReplayRequest};
use outbox_core::report::ReplayReport;
use outbox_core::time::Timestamp;

use super::chain::PartNumber;
use super::config::{EntryIds, RedisPublisherConfig};
use super::port::{ACCEPT, Hindrance, RedisPublisher, hindered};
use super::send::{Sent, look};
use crate::error::At;

/// How long messages wait that are claimed anew because others are replayed before them.
const AFTER_REPLAY: Duration = Duration::from_millis(10);

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
fn replay_behind(config: &RedisPublisherConfig, last: &str) -> ReplayRequest {
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

impl RedisPublisher {
    /// Asks the server, without sending anything, whether it has lost what it had acknowledged, and
    /// has that published again as [`RedisPublisher::replaying`] says; how many messages are. Every
    /// batch does so by itself, also while this is called: call it at the start, and every few
    /// seconds, where messages are rare.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the server or the outbox fails.
    ///
    /// # Cancel safety
    /// A dropped call may have had a part published again; the next one, or the next batch, does the
    /// rest.
    pub async fn find_losses(&self) -> Result<u64> {
        let Some(last_part) = self.chain.pause().await else {
            return Ok(0);
        };
        let known = self.known();
        // Where a loss was just met, the next batch accepts what is there.
        if known == ACCEPT {
            return Ok(0);
        }
        let looked = async { look(self.store.link()?, &self.keys, &known).await };
        let found = looked.await.at("find losses", self.store.address())?;
        let Sent::Lost { cause, last } = found else {
            return Ok(0);
        };
        let replayed = self.repair(cause, &last).await?;
        // Otherwise nothing was lost, and what is lost from now on is to be found.
        if replayed > 0 || cause == Cause::Lost {
            self.learn(*last_part, ACCEPT.to_owned());
        }
        Ok(replayed)
    }

    /// Why `messages` are not to be sent where some of them were claimed before others were replayed,
    /// which go first.
    pub(super) fn behind_a_replay(&self, messages: &[Message]) -> Option<PublishError> {
        let first = self.first_epoch.load(Relaxed);
        let is_old = messages.iter().any(|message| message.epoch.0 < first);
        is_old.then(|| PublishError::Unavailable {
            retry_after: Some(AFTER_REPLAY),
            source: Hindrance::Outdated {
                stream: self.config.stream.clone(),
                first,
            }
            .into(),
        })
    }

    /// Repairs what may be lost; `None` where a batch need not wait for that.
    pub(super) async fn repair_first(
        &self,
        part: PartNumber,
        cause: Cause,
        last: &str,
    ) -> Option<PublishError> {
        let stream = self.config.stream.clone();
        match self.repair(cause, last).await {
            Ok(0) => None,
            Ok(replayed) => {
                self.learn(part, ACCEPT.to_owned());
                // The lease of this batch went to the replay: it is claimed anew, behind it.
                Some(PublishError::Unavailable {
                    retry_after: Some(AFTER_REPLAY),
                    source: Hindrance::Replaying { stream, replayed }.into(),
                })
            }
            Err(error) => {
                let error = error.into();
                Some(hindered(Hindrance::NotReplayed { stream, error }))
            }
        }
    }

    /// Replays what may be lost; how many messages, none where there is nothing to wait for.
    async fn repair(&self, cause: Cause, last: &str) -> Result<u64> {
        let report = match &self.replay {
            Some(replay) => replay.replay(&replay_behind(&self.config, last)).await?,
            None => ReplayReport::default(),
        };
        // Also where another one has replayed what was lost: its epoch counts as well.
        self.first_epoch.fetch_max(report.epoch.0, Relaxed);
        let replayed = report.replayed;
        let (server, stream) = (self.store.address(), &self.config.stream);
        // Once, however often the outbox had to be asked.
        if cause == Cause::Lost {
            self.losses.fetch_add(1, Relaxed);
            let known = self.known();
            tracing::error!(
                server,
                stream,
                known,
                found = last,
                "the server has lost entries that it had acknowledged"
            );
        }
        if replayed > 0 {
            tracing::warn!(
                server,
                stream,
                ?cause,
                replayed,
                "published again after a loss"
            );
            // What was published before, the server knew once.
            self.losses
                .fetch_add(u64::from(cause == Cause::Unmarked), Relaxed);
        }
        Ok(replayed)
    }
}

#[cfg(test)]
mod tests {
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
