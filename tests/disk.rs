//! A disk that fails under real processes while they work: errors and a lack of space in the calls
//! that write and sync, injected by strace, and writes that are cut short, at moments drawn from a
//! seed. Whatever a run says, the next one finds everything, and nothing twice.
//!
//! `OUTBOX_DISK_RUNS` sets how many runs are struck, `OUTBOX_DISK_SEED` what their faults are drawn
//! from.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::panic, clippy::print_stdout)]

#[allow(dead_code, unused_imports, reason = "each test uses its part")]
mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use outbox::id::Entropy;
use support::{Census, File, Program, made_up_cities};
use tempfile::{TempDir, tempdir};

/// Tasks of each run.
const TASKS: usize = 200;

/// A process that a fault has stopped for so long does not get on.
const STUCK: Duration = Duration::from_secs(20);

/// The system calls that faults strike.
const CALLS: [&str; 3] = ["pwrite64", "fsync", "ftruncate"];

fn variable(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a whole number"))
}

/// A fault of the disk.
enum Fault {
    /// A call fails with an error, at some of its invocations, as strace numbers them.
    Error {
        call: &'static str,
        error: &'static str,
        when: String,
    },
    /// No file grows over so many KiB: the write that would is cut short, and the next one fails.
    Limit(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error { call, error, when } => {
                write!(f, "inject={call}:error={error}:when={when}")
            }
            Self::Limit(kib) => write!(f, "no file over {kib} KiB"),
        }
    }
}

impl Fault {
    /// A fault while a run works, which makes so many calls of each kind.
    fn drawn(entropy: &Entropy, calls: &BTreeMap<&'static str, u64>, longest: u64) -> Self {
        let below = |end: u64| entropy.next_u64() % end.max(1);
        let (call, error) = match below(8) {
            0 | 1 => ("fsync", "EIO"),
            2 => ("fsync", "ENOSPC"),
            3 => ("pwrite64", "EIO"),
            4 | 5 => ("pwrite64", "ENOSPC"),
            6 => ("ftruncate", "EIO"),
            _ => return Self::Limit(longest / 4 + below(longest / 2)),
        };
        // Not while it opens its file, and not when it is nearly done.
        let all = calls.get(call).copied().unwrap_or(0);
        let first = 1 + all / 8 + below(all / 2);
        let when = match below(3) {
            0 => format!("{first}"),
            1 => format!("{first}..{}", first + below(20)),
            _ => format!("{first}+"),
        };
        Self::Error { call, error, when }
    }

    fn kind(&self) -> String {
        match self {
            Self::Error { call, error, .. } => format!("{call} {error}"),
            Self::Limit(_) => "short write".to_owned(),
        }
    }
}

/// A file, and the pipeline that works on it.
struct Scene {
    folder: TempDir,
    file: File,
    cities: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        Self {
            file: File::in_folder(folder.path()),
            cities: made_up_cities(folder.path(), TASKS, 12),
            folder,
        }
    }

    fn pipeline(&self) -> Program {
        let program = Program::new("pipeline").arg("--json").with("--run", "r");
        let program = program.with("--outbox", self.file.path());
        program.with("--cities", &self.cities)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("strace.log")
    }

    /// Runs the pipeline while the disk fails; how often the fault struck, and whether the run got
    /// through all the same.
    async fn strike(&self, fault: &Fault) -> (usize, bool) {
        let trace = format!("trace={}", CALLS.join(","));
        let (program, inject) = match fault {
            Fault::Error { .. } => (self.pipeline(), Some(fault.to_string())),
            Fault::Limit(kib) => (self.pipeline().under_size_limit(*kib), None),
        };
        let specs: Vec<&str> = [Some(trace.as_str()), inject.as_deref()]
            .into_iter()
            .flatten()
            .collect();
        let mut faulty = program.under_strace(&specs, &self.log()).start();
        let ended = faulty.ends_within(STUCK).await;
        match &ended {
            Some(status) => assert_ne!(status.code(), Some(101), "{fault}: it panicked"),
            None => drop(faulty.kill().await),
        }
        let log = std::fs::read_to_string(self.log()).unwrap();
        let struck = |line: &&str| line.contains("(INJECTED)") || line.contains("EFBIG");
        let through = ended.is_some_and(|status| status.success());
        (log.lines().filter(struck).count(), through)
    }

    /// What is there once a run without faults has ended.
    async fn mend(&self, told: &str) -> Census {
        let done = self.pipeline().run().await;
        assert_eq!(done.code, Some(0), "{told}: {done:?}");
        self.file.census().await
    }
}

/// How many calls of each kind the busiest thread of a healthy run makes, and how many KiB its
/// longest file has.
async fn healthy() -> (BTreeMap<&'static str, u64>, u64) {
    let scene = Scene::new();
    let trace = format!("trace={}", CALLS.join(","));
    let program = scene.pipeline().under_strace(&[&trace], &scene.log());
    program.run().await.expect(0);
    let log = std::fs::read_to_string(scene.log()).unwrap();
    let busiest = |call| {
        let mut threads = BTreeMap::<&str, u64>::new();
        for (thread, rest) in log.lines().filter_map(|line| line.split_once(' ')) {
            if rest.trim_start().starts_with(call) {
                *threads.entry(thread).or_default() += 1;
            }
        }
        threads.into_values().max().unwrap_or(0)
    };
    let calls = CALLS.map(|call| (call, busiest(call))).into();
    let end_of_write = |line: &str| -> Option<u64> {
        let (_, arguments) = line.split_once("pwrite64(")?;
        let mut places = arguments.split(") ").next()?.rsplit(", ");
        let offset: u64 = places.next()?.parse().ok()?;
        Some(offset + places.next()?.parse::<u64>().ok()?)
    };
    let longest = log.lines().filter_map(end_of_write).max();
    (calls, longest.unwrap_or(0) / 1024)
}

fn check(census: &Census, told: &str) {
    let all = i64::try_from(TASKS).unwrap();
    assert_eq!(census.integrity, "ok", "{told}");
    assert_eq!(census.tasks, all, "{told}: lost: {census:?}");
    assert_eq!(census.observations, all, "{told}: doubled: {census:?}");
    assert_eq!(census.quarantined, 0, "{told}: {census:?}");
    assert_eq!(census.overtaken_in_queue, 0, "{told}: {census:?}");
}

#[tokio::test]
async fn whatever_the_disk_does_the_next_run_finds_everything_and_nothing_twice() {
    support::require_strace().await;
    let seed = variable("OUTBOX_DISK_SEED", 1);
    let runs = variable("OUTBOX_DISK_RUNS", 12);
    let entropy = Entropy::seeded(seed);
    let (calls, longest) = healthy().await;
    let (mut tried, mut struck, mut faults, mut through) = (0, 0, 0, 0);
    let mut kinds = BTreeMap::<String, u64>::new();
    while struck < runs {
        tried += 1;
        assert!(
            tried <= 2 * runs,
            "only {struck} of {tried} runs were struck"
        );
        let scene = Scene::new();
        let fault = Fault::drawn(&entropy, &calls, longest);
        let told = format!("run {tried} of OUTBOX_DISK_SEED={seed}, {fault}");
        let (times, got_through) = scene.strike(&fault).await;
        check(&scene.mend(&told).await, &told);
        // A run that no fault struck proves nothing.
        if times > 0 {
            struck += 1;
            faults += times;
            through += u64::from(got_through);
            *kinds.entry(fault.kind()).or_default() += 1;
        }
    }
    println!(
        "disk: {struck} of {tried} runs struck, {faults} faults ({kinds:?}), {through} runs got \
         through, lost: 0, doubled: 0"
    );
    assert!(through < runs, "no fault did any harm");
}
