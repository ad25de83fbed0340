//! What tests of programs that are killed do over and over.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Finished, Mayhem, Running};

/// How long anything may take once nobody is killed any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Within which work of a killed process is to be picked up.
const RECOVERY: Duration = Duration::from_secs(5);

/// Lets the rest of so many runs be done, which has to end.
pub(crate) async fn finished(runs: usize, rest: impl Future<Output = ()>) {
    let limit = PATIENCE + Duration::from_secs(1) * u32::try_from(runs).unwrap();
    let rest = tokio::time::timeout(limit, rest).await;
    rest.expect("the rest is not done in time");
}

/// Whether a producer has done its work; it may also say that something is left for the next one.
pub(crate) fn is_done(ended: Finished) -> bool {
    if ended.code == Some(1) {
        println!("left for the next: {}", ended.complained.trim());
        return false;
    }
    ended.expect(0);
    true
}

/// Lets a worker finish what it is at.
pub(crate) async fn stop(worker: Running) {
    worker.signal("TERM").await;
    worker.finish().await.expect(0);
}

/// Waits until `condition` holds.
pub(crate) async fn until(condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "it does not get on");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The names of so many runs.
pub(crate) fn numbered(name: &str, runs: usize) -> impl Iterator<Item = String> {
    (1..=runs).map(move |run| format!("{name}{run}"))
}

/// Measures recoveries, two at a time, as many as `OUTBOX_RECOVERIES` says, or 20.
pub(crate) async fn recoveries(recovery: impl AsyncFn(&Mayhem) -> Duration) -> Vec<Duration> {
    let wanted = std::env::var("OUTBOX_RECOVERIES");
    let wanted: usize = wanted.map_or(20, |wanted| wanted.parse().unwrap());
    let (mayhem, mut times) = (Mayhem::of(0), Vec::new());
    for _ in 0..wanted / 2 {
        let (a, b) = tokio::join!(recovery(&mayhem), recovery(&mayhem));
        times.extend([a, b]);
    }
    times
}

fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let rank = (times.len() as f64 * share).ceil() as usize;
    times[rank.max(1) - 1]
}

/// Tells how many recoveries took how long, in steps of half a second.
fn print_histogram(times: &[Duration]) {
    let longest = times.iter().map(|time| time.as_millis() / 500).max();
    for step in 0..=longest.unwrap_or(0) {
        let count = times.iter().filter(|time| time.as_millis() / 500 == step);
        println!("  {:.1} s {}", step as f64 / 2.0, "#".repeat(count.count()));
    }
}

/// Whether work was taken over in time, and whether there was any to take over.
pub(crate) fn assert_recovered(who: &str, mut times: Vec<Duration>) {
    let (p50, p99) = (percentile(&mut times, 0.50), percentile(&mut times, 0.99));
    let count = times.len();
    println!("recovery of {who}: {count} times, p50 {p50:.2?}, p99 {p99:.2?}");
    print_histogram(&times);
    assert!(p99 < RECOVERY, "{times:?}");
    let held = |time: &&Duration| **time > Duration::from_secs(1);
    let real = times.iter().filter(held).count();
    assert!(real >= 5, "few of the killed held anything: {times:?}");
}
