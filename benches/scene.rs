use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use outbox::PublishError;
use outbox::message::{JSON, Message, NewMessage};
use outbox::ports::{Outbox, Publisher};
use outbox::signal::Wake;
use outbox::sqlite::{SqliteOptions, SqliteOutbox, SqliteStore, Synchronous};
use outbox::status::Ordering;

use crate::Scale;

const TOPIC: &str = "weather.tasks";

/// The message of every work item: a 256-byte JSON payload, a topic, three headers.
pub(crate) fn message(number: usize) -> NewMessage {
    let mut payload = format!("{{\"number\":{number},\"text\":\"");
    payload.push_str(&"x".repeat(254 - payload.len()));
    payload.push_str("\"}");
    NewMessage::new(TOPIC, payload)
        .content_type(JSON)
        .header("correlation-id", "0195c7e2-7f3a-7000-8000-000000000000")
        .header("tenant-id", "tenant-17")
        .header(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
}

pub(crate) fn messages(count: usize) -> Vec<NewMessage> {
    (0..count).map(message).collect()
}

/// Appends so many messages, a multiple of 500, in transactions of 500.
pub(crate) async fn fill(outbox: &SqliteOutbox, count: usize) {
    let chunk = messages(500);
    for _ in 0..count / 500 {
        outbox.append(&chunk).await.unwrap();
    }
}

/// A fresh file in the bench folder.
pub(crate) fn fresh(scale: &Scale, name: &str) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, SeqCst);
    let path = scale
        .dir
        .join(format!("{name}-{}-{number}.db", std::process::id()));
    remove(&path);
    path
}

pub(crate) fn remove(path: &std::path::Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
}

/// What the kernel tells of this process in `file` under `name`.
pub(crate) fn proc_figure(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Processor time of this process so far, at the kernel's 100 ticks a second.
pub(crate) fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) async fn open(
    scale: &Scale,
    path: &std::path::Path,
    synchronous: Synchronous,
) -> SqliteStore {
    let options = SqliteOptions::new(path)
        .synchronous(synchronous)
        .entropy(scale.entropy());
    SqliteStore::open_with(options).await.unwrap()
}

pub(crate) async fn outbox(store: &SqliteStore) -> SqliteOutbox {
    SqliteOutbox::on(store)
}

/// A publisher that has everything at once.
pub(crate) struct Nowhere;

#[async_trait]
impl Publisher for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }
    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        messages.iter().map(|_| Ok(())).collect()
    }
}

/// A publisher that has everything at once, and tells when so many messages of [`message`]'s topic
/// have come.
#[derive(Clone)]
pub(crate) struct Counting(Arc<(AtomicUsize, Wake)>);

impl Counting {
    pub(crate) fn until(count: usize) -> Self {
        Self(Arc::new((AtomicUsize::new(count), Wake::new())))
    }

    /// How many have not come yet.
    pub(crate) fn left(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    pub(crate) async fn all_came(&self) {
        let mut done = self.0.1.listen();
        while self.left() > 0 {
            done.notified().await;
        }
    }
}

#[async_trait]
impl Publisher for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }
    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let (left, done) = &*self.0;
        let came = messages.iter().filter(|m| m.topic == TOPIC).count();
        if came > 0 && left.fetch_sub(came, SeqCst) == came {
            done.notify();
        }
        messages.iter().map(|_| Ok(())).collect()
    }
}
