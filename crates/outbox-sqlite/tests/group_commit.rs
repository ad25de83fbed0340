//! Many callers who append one message each: all are stored, and none spoils another's append.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::time::Duration;

use outbox_core::OutboxError;
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::message::{Limits, NewMessage};
use outbox_core::ports::{ClaimRequest, Outbox};
use outbox_core::report::AppendReport;
use outbox_core::time::{Clock, SystemClock};
use outbox_sqlite::{SqliteOptions, SqliteOutbox};
use tempfile::TempDir;
use tokio::task::JoinHandle;

async fn outbox() -> (SqliteOutbox, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        payload_bytes: 100,
        ..Limits::default()
    };
    let options = SqliteOptions::new(folder.path().join("outbox.db")).limits(limits);
    (SqliteOutbox::open_with(options).await.unwrap(), folder)
}

fn append(
    outbox: &SqliteOutbox,
    message: NewMessage,
) -> JoinHandle<Result<AppendReport, OutboxError>> {
    let outbox = outbox.clone();
    tokio::spawn(async move { outbox.append(&[message]).await })
}

async fn stored(outbox: &SqliteOutbox) -> Vec<MessageId> {
    let owner = WorkerId::new(&Entropy::from_system());
    let mut ids = Vec::new();
    loop {
        let request = ClaimRequest {
            owner,
            max: 1_000,
            lease: Duration::from_secs(60),
            now: SystemClock.now(),
            paused_topics: Vec::new(),
        };
        let report = outbox.claim(&request).await.unwrap();
        ids.extend(report.leased.iter().map(|leased| leased.message.id));
        if !report.more {
            return ids;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_256_callers_appends_its_own() {
    let (outbox, _folder) = outbox().await;
    for _ in 0..5 {
        let callers: Vec<_> = (0..256)
            .map(|n| append(&outbox, NewMessage::new("t", n.to_string())))
            .collect();
        for caller in callers {
            let report = caller.await.unwrap().unwrap();
            assert_eq!((report.messages.len(), report.added()), (1, 1));
        }
    }
    let stored = stored(&outbox).await;
    let different: HashSet<_> = stored.iter().collect();
    assert_eq!((stored.len(), different.len()), (1_280, 1_280));
}

#[tokio::test]
async fn a_bad_message_fails_its_own_caller_alone() {
    let (outbox, _folder) = outbox().await;
    let known = outbox
        .append(&[NewMessage::new("t", "known")])
        .await
        .unwrap()
        .messages[0]
        .id;
    let callers: Vec<_> = (0..64)
        .map(|n| {
            let mut message = NewMessage::new("t", n.to_string());
            match n % 8 {
                3 => message.payload = vec![b'x'; 101].into(),
                5 => message.id = Some(known),
                6 => message.idempotency_key = Some("the same for all".to_owned()),
                _ => {}
            }
            append(&outbox, message)
        })
        .collect();
    let mut firsts = HashSet::new();
    for (n, caller) in callers.into_iter().enumerate() {
        let answer = caller.await.unwrap();
        match n % 8 {
            3 => assert!(matches!(answer, Err(OutboxError::Limit { .. }))),
            5 => assert_eq!(answer.unwrap().messages[0].id, known),
            6 => drop(firsts.insert(answer.unwrap().messages[0].id)),
            _ => assert_eq!(answer.unwrap().added(), 1),
        }
    }
    assert_eq!(firsts.len(), 1);
    assert_eq!(stored(&outbox).await.len(), 1 + 5 * 8 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_caller_who_is_gone_breaks_no_other() {
    let (outbox, _folder) = outbox().await;
    let chance = Entropy::seeded(7);
    for _ in 0..20 {
        let callers: Vec<_> = (0..100)
            .map(|n| append(&outbox, NewMessage::new("t", n.to_string())))
            .collect();
        tokio::time::sleep(Duration::from_micros(chance.next_u64() % 1_500)).await;
        for caller in &callers {
            if chance.next_u64().is_multiple_of(2) {
                caller.abort();
            }
        }
        for caller in callers {
            match caller.await {
                Ok(answer) => assert_eq!(answer.unwrap().added(), 1),
                Err(gone) => assert!(gone.is_cancelled()),
            }
        }
    }
    outbox
        .append(&[NewMessage::new("t", "last")])
        .await
        .unwrap();
    let stored = stored(&outbox).await;
    let different: HashSet<_> = stored.iter().collect();
    assert_eq!(stored.len(), different.len());
}

#[test]
fn a_runtime_that_ends_leaves_an_outbox_that_works() {
    let start = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = start();
    let (outbox, _folder) = first.block_on(outbox());
    first.block_on(async {
        let callers: Vec<_> = (0..50)
            .map(|n| append(&outbox, NewMessage::new("t", n.to_string())))
            .collect();
        tokio::task::yield_now().await;
        drop(callers);
    });
    drop(first);
    let second = start();
    let appended = second.block_on(async {
        let callers: Vec<_> = (0..50)
            .map(|n| append(&outbox, NewMessage::new("t", n.to_string())))
            .collect();
        let mut appended = 0;
        for caller in callers {
            appended += caller.await.unwrap().unwrap().added();
        }
        appended
    });
    assert_eq!(appended, 50);
}
