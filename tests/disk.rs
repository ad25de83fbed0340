//! A disk that fails under real processes: errors and a lack of space, injected by strace into the
//! system calls that write and sync, at moments drawn from a seed. Whatever a run says, the next one
//! finds everything, and nothing twice.
//!
//! `OUTBOX_DISK_RUNS` sets how many faulty runs there are, `OUTBOX_DISK_SEED` what their faults are
//! drawn from.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::panic, clippy::print_stdout)]

#[allow(dead_code, unused_imports, reason = "each test uses its part")]
mod support;

use outbox::id::Entropy;
use support::{File, Program, made_up_cities};
use tempfile::tempdir;

/// Tasks of each run.
const TASKS: usize = 200;

fn variable(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a whole number"))
}

/// A fault of the disk in strace's words: which call fails, how, and at which of its calls.
fn fault(entropy: &Entropy) -> String {
    let below = |end: u64| entropy.next_u64() % end;
    let (call, error) = match below(5) {
        0 => ("fdatasync", "EIO"),
        1 => ("fdatasync", "ENOSPC"),
        2 => ("pwrite64", "EIO"),
        3 => ("pwrite64", "ENOSPC"),
        _ => ("ftruncate", "EIO"),
    };
    let first = 1 + below(40);
    let when = match below(3) {
        0 => format!("{first}"),
        1 => format!("{first}..{}", first + below(20)),
        _ => format!("{first}+"),
    };
    format!("inject={call}:error={error}:when={when}")
}

#[tokio::test]
async fn whatever_the_disk_does_the_next_run_finds_everything_and_nothing_twice() {
    support::require_strace().await;
    let seed = variable("OUTBOX_DISK_SEED", 1);
    let runs = variable("OUTBOX_DISK_RUNS", 12);
    let entropy = Entropy::seeded(seed);
    let (mut failed, mut survived) = (0, 0);
    for run in 1..=runs {
        let folder = tempdir().unwrap();
        let file = File::in_folder(folder.path());
        let cities = made_up_cities(folder.path(), TASKS, 12);
        let pipeline = || {
            let program = Program::new("pipeline").arg("--json").with("--run", "r");
            let program = program.with("--outbox", file.path());
            program.with("--cities", &cities)
        };
        let fault = fault(&entropy);
        let told = format!("run {run} of OUTBOX_DISK_SEED={seed}, {fault}");
        let mut faulty = pipeline().under_strace(&fault).start();
        let limit = std::time::Duration::from_secs(20);
        match faulty.ends_within(limit).await {
            Some(status) if status.success() => survived += 1,
            Some(status) => {
                assert_ne!(status.code(), Some(101), "{told}: it panicked");
                failed += 1;
            }
            None => {
                faulty.kill().await;
                failed += 1;
            }
        }
        let done = pipeline().run().await;
        assert_eq!(done.code, Some(0), "{told}: {done:?}");
        let census = file.census().await;
        assert_eq!(census.integrity, "ok", "{told}");
        let all = i64::try_from(TASKS).unwrap();
        assert_eq!(census.tasks, all, "{told}: lost: {census:?}");
        assert_eq!(census.observations, all, "{told}: doubled: {census:?}");
        assert_eq!(census.quarantined, 0, "{told}: {census:?}");
        assert_eq!(census.overtaken_in_queue, 0, "{told}: {census:?}");
    }
    println!(
        "disk faults: {runs}, runs that failed: {failed}, that got through: {survived}, lost: 0, doubled: 0"
    );
    assert!(failed > 0, "no fault struck");
}
