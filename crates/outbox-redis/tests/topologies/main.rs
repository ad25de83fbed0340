//! Clusters, Sentinel groups and encrypted connections, on real servers.

mod cluster;
mod publisher;
mod queue;
mod sentinel;
#[cfg(feature = "tls")]
mod tls;

use std::time::Duration;

use outbox_core::error::{BoxError, Result};
use outbox_core::id::{Entropy, MessageId};
use outbox_core::ports::{Claim, DeduplicationCache};
use outbox_core::time::Timestamp;
use outbox_redis::{RedisDeduplicationCache, RedisOptions, RedisStore};
use tokio::time::{Instant, sleep};

type Tested = Result<(), BoxError>;

const SECOND: Duration = Duration::from_secs(1);

const HOUR: Duration = Duration::from_secs(3_600);

const NOW: Timestamp = Timestamp::from_millis(1_000);

/// The longest that a test waits for servers to sort themselves out.
const PATIENCE: Duration = Duration::from_secs(30);

fn ids(count: usize) -> Vec<MessageId> {
    let entropy = Entropy::seeded(7);
    let ids = std::iter::repeat_with(|| MessageId::new(NOW, &entropy));
    ids.take(count).collect()
}

/// A store that is told within a second when its server is away.
fn options(url: impl Into<String>) -> RedisOptions {
    RedisOptions::new(url)
        .command_timeout(SECOND)
        .connect_timeout(SECOND)
        .reconnect(Duration::from_millis(10), Duration::from_millis(100))
}

async fn process(cache: &RedisDeduplicationCache, id: MessageId) -> Result<bool> {
    cache.record_processed(id, HOUR, NOW).await
}

async fn claim(cache: &RedisDeduplicationCache, id: MessageId) -> Result<Claim> {
    Ok(cache.claim(&[id], HOUR, NOW).await?[0])
}

/// What `ask` answers once the server is reached; until then every answer is a transient error, and
/// none takes much longer than the command timeout.
async fn soon<T>(ask: impl AsyncFn() -> Result<T>) -> Result<T, BoxError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let asked = Instant::now();
        let answer = ask().await;
        assert!(
            asked.elapsed() < SECOND * 5,
            "stuck for {:?}",
            asked.elapsed()
        );
        match answer {
            Ok(answer) => return Ok(answer),
            Err(error) if error.is_transient() && Instant::now() < until => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
