//! The task that every library is measured with, what a program is told to do with it, and how it
//! tells the times that it took.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

/// Where tasks go: the topic, the queue or the type of event, as each library calls it.
pub const TOPIC: &str = "weather.tasks";

/// The headers of a task, where a library has them.
pub const HEADERS: [(&str, &str); 3] = [
    ("correlation-id", "0195c7e2-7f3a-7000-8000-000000000000"),
    ("tenant-id", "tenant-17"),
    (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
];

/// Why a program could not measure.
pub type Problem = Box<dyn Error + Send + Sync>;

/// What a task carries: 256 bytes as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Which task it is.
    pub number: u64,
    /// What fills it up.
    pub text: String,
}

impl Reading {
    /// The content of this task.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let frame = r#"{"number":,"text":""}"#.len() + number.to_string().len();
        let text = "x".repeat(256 - frame);
        Self { number, text }
    }
}

/// An id for a task.
#[must_use]
pub fn id() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}

/// What a program is to do.
#[derive(Clone, Debug, Parser)]
pub struct Order {
    /// Whether tasks go through a queue to a handler, or through an outbox to a publisher.
    pub work: Work,
    /// Where they are kept: a path, or the address of a server.
    #[arg(long)]
    pub at: String,
    /// Where a relay sends them: the address of a Redis; nowhere by default.
    #[arg(long)]
    pub broker: Option<String>,
    /// How many tasks.
    #[arg(long, default_value_t = 2_000)]
    pub count: u64,
    /// How many are written before they are drained; all by default.
    #[arg(long)]
    pub wave: Option<u64>,
    /// How many are written at once.
    #[arg(long, default_value_t = 500)]
    pub batch: u64,
    /// The library's defaults, or what its documentation offers for throughput.
    #[arg(long, default_value = "tuned")]
    pub settings: Settings,
    /// What an embedded library waits for before it confirms a commit.
    #[arg(long, default_value = "disk")]
    pub durable: Durable,
    /// The seconds after which the program gives up.
    #[arg(long, default_value_t = 170)]
    pub patience: u64,
}

/// What tasks go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// From a queue to a handler that does nothing.
    Queue,
    /// From an outbox to a publisher.
    Relay,
}

/// Whose settings count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Settings {
    /// Those that the library has by default.
    Default,
    /// Those that its documentation offers for throughput.
    Tuned,
}

/// When a commit is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durable {
    /// When the disk has it.
    Disk,
    /// When the operating system has it.
    System,
}

impl Order {
    /// The numbers of the tasks, in waves.
    pub fn waves(&self) -> impl Iterator<Item = Vec<u64>> {
        spans(0, self.count, self.wave.unwrap_or(self.count))
    }

    /// The numbers of a wave's tasks, in batches.
    pub fn batches(&self, wave: &[u64]) -> impl Iterator<Item = Vec<Reading>> {
        wave.chunks(self.batch.max(1) as usize)
            .map(|numbers| numbers.iter().copied().map(Reading::new).collect())
    }
}

fn spans(from: u64, to: u64, size: u64) -> impl Iterator<Item = Vec<u64>> {
    (from..to)
        .step_by(size.max(1) as usize)
        .map(move |start| (start..to.min(start + size)).collect())
}

/// The times that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// From the first write until the last was confirmed.
    pub push: Duration,
    /// From the start of the worker or relay until the last task was done.
    pub drain: Duration,
}

/// Says that fewer tasks, or more of them, came through than were sent.
#[derive(Debug)]
pub struct Missing {
    /// How many were sent.
    pub sent: u64,
    /// How many came through.
    pub came: u64,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tasks were sent, {} came through",
            self.sent, self.came
        )
    }
}

impl Error for Missing {}

/// Fails unless all came through.
///
/// # Errors
/// [`Missing`], where the two differ.
pub fn all_came(sent: u64, came: u64) -> Result<(), Missing> {
    if sent == came {
        return Ok(());
    }
    Err(Missing { sent, came })
}

/// Does what the command line says, and prints the times as JSON.
pub fn run<Doing>(work: impl FnOnce(Order) -> Doing) -> ExitCode
where
    Doing: Future<Output = Result<Times, Problem>>,
{
    let order = Order::parse();
    give_up_after(Duration::from_secs(order.patience));
    match runtime().and_then(|runtime| runtime.block_on(work(order))) {
        Ok(times) => {
            println!("{}", serde_json::json!(times));
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Problem> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    Ok(runtime)
}

/// Ends the program when it takes too long, even where a library never yields.
fn give_up_after(patience: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(patience);
        eprintln!("gave up after {patience:?}");
        std::process::exit(3);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_has_256_bytes_as_json() -> Result<(), serde_json::Error> {
        for number in [0, 9, 10, 19_999, u64::MAX] {
            assert_eq!(serde_json::to_vec(&Reading::new(number))?.len(), 256);
        }
        Ok(())
    }

    #[test]
    fn waves_hold_every_number_once() {
        let all: Vec<u64> = spans(0, 12, 5).flatten().collect();
        assert_eq!(all, (0..12).collect::<Vec<_>>());
        assert_eq!(spans(0, 12, 5).map(|wave| wave.len()).max(), Some(5));
    }
}
