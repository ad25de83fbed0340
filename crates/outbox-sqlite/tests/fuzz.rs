//! A file in which anything may stand: whatever its bytes are, reading it answers values or typed
//! errors, and never panics or hangs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use outbox_core::Result;
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{ClaimRequest, DequeueRequest, Outbox, Queue};
use outbox_core::time::Timestamp;
use outbox_sqlite::{SqliteOutbox, SqliteQueue, SqliteQueueConfig, SqliteStore};

const NOW: Timestamp = Timestamp::from_millis(2_000_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

/// Writes a file with messages and entries in it.
async fn fill(path: &Path) {
    let store = SqliteStore::open(path).await.unwrap();
    let new: Vec<_> = (0..20)
        .map(|n| {
            let message = NewMessage::new("topic", format!("payload {n}")).header("name", "value");
            message.ordering_key(format!("key {}", n % 3))
        })
        .collect();
    SqliteOutbox::on(&store).append(&new).await.unwrap();
    let queue = SqliteQueue::open(&store, SqliteQueueConfig::default());
    let queue = queue.await.unwrap();
    let numbered = new.iter().zip(0..);
    let messages: Vec<_> = numbered
        .map(|(new, n)| Message::appended(new, MessageId::from_bytes([n; 16]), NOW))
        .collect();
    assert!(queue.enqueue(&messages).await.iter().all(Result::is_ok));
}

/// Reads all there is, by every way there is.
async fn read(path: &Path) -> Result<usize> {
    let store = SqliteStore::open(path).await?;
    let outbox = SqliteOutbox::on(&store);
    let owner = WorkerId::from_bytes([7; 16]);
    let claimed = outbox
        .claim(&ClaimRequest {
            owner,
            max: 100,
            lease: SECOND,
            now: NOW,
            paused_topics: Vec::new(),
        })
        .await;
    let counted = outbox.stats(NOW).await;
    let queue = SqliteQueue::open(&store, SqliteQueueConfig::default()).await?;
    let taken = queue
        .dequeue(&DequeueRequest {
            owner,
            max: 100,
            lease: SECOND,
            wait: Duration::ZERO,
            now: NOW,
        })
        .await;
    queue.stats(NOW).await?;
    counted?;
    Ok(claimed?.leased.len() + taken?.deliveries.len())
}

#[tokio::test]
async fn whatever_bytes_a_file_has_it_is_read_or_told_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (
        folder.path().join("whole.db"),
        folder.path().join("broken.db"),
    );
    fill(&whole).await;
    assert_eq!(read(&whole).await.unwrap(), 40);
    // The last connection has left, and with it the -wal file.
    let bytes = std::fs::read(&whole).unwrap();
    let entropy = Entropy::seeded(1);
    let below = |end: usize| usize::try_from(entropy.next_u64()).unwrap() % end;
    let (mut read_well, mut told) = (0, 0);
    for round in 0..150 {
        let mut bytes = bytes.clone();
        for _ in 0..=below(40) {
            // Most of the strokes go where rows are; the rest anywhere, the header among it.
            let place = below(bytes.len());
            bytes[place] = entropy.next_u64() as u8;
        }
        if round % 10 == 0 {
            bytes.truncate(below(bytes.len()));
        }
        for leftover in ["broken.db-wal", "broken.db-shm"] {
            let _ = std::fs::remove_file(folder.path().join(leftover));
        }
        std::fs::write(&broken, &bytes).unwrap();
        let reading = tokio::time::timeout(30 * SECOND, read(&broken));
        match reading.await.expect("reading hangs") {
            Ok(_) => read_well += 1,
            Err(_) => told += 1,
        }
    }
    assert!(read_well > 10 && told > 10, "{read_well} read, {told} told");
}
