use outbox::dlq::{CountRequest, Filter};
use outbox::signal::Shutdown;
use outbox::sqlite::Synchronous;
use tokio::time::Instant;

use super::ID;
use super::given::{Dead, failed};
use crate::Scale;
use crate::report::{Report, Target, median};
use crate::scene::{fresh, open, remove, runtime};

/// Messages a second into quarantine, and back.
const LEAST: Target = Target::AtLeast(20_000.0);

/// Moves what failed into quarantine, and sends it back; each in bounded batches.
pub(crate) fn there_and_back(scale: &Scale, report: &mut Report) {
    let count = scale.messages(10_000, 100_000);
    let (mut there, mut back) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let path = fresh(scale, "dlq");
        runtime().block_on(async {
            let store = open(scale, &path, Synchronous::Full).await;
            let dead = Dead::letters(&store);
            failed(&store, &dead, count, 0).await;
            let started = Instant::now();
            assert_eq!(dead.quarantine_all().await, count as u64);
            there.push(count as f64 / started.elapsed().as_secs_f64());
            let started = Instant::now();
            let redriven = dead.redrive_all(None, &Shutdown::new()).await;
            assert_eq!(redriven, count as u64);
            back.push(count as f64 / started.elapsed().as_secs_f64());
        });
        remove(&path);
    }
    let variant = format!("{count} quarantined, FULL, messages/s");
    report.absolute(ID, &variant, median(&mut there), LEAST);
    let variant = format!("{count} redriven, FULL, messages/s");
    report.absolute(ID, &variant, median(&mut back), LEAST);
}

/// Counts the quarantine by origin, topic, kind and fingerprint, for small letters and for large ones.
pub(crate) fn count(scale: &Scale, report: &mut Report) {
    for (full, payload) in [(100_000, 256), (20_000, 8_192)] {
        let letters = scale.messages(full / 10, full);
        let path = fresh(scale, "dlq-count");
        let (mut first, mut again) = (0.0, Vec::new());
        runtime().block_on(async {
            let store = open(scale, &path, Synchronous::Full).await;
            let dead = Dead::letters(&store);
            failed(&store, &dead, letters, payload).await;
            dead.quarantine_all().await;
            let request = CountRequest {
                filter: Filter::default(),
                max: 20,
            };
            for round in 0..=scale.rounds {
                let started = Instant::now();
                let counts = dead.quarantine.count(&request).await.unwrap();
                assert_eq!((counts.total, counts.groups.len()), (letters as u64, 1));
                let millis = started.elapsed().as_secs_f64() * 1e3;
                match round {
                    0 => first = millis,
                    _ => again.push(millis),
                }
            }
        });
        remove(&path);
        let what = format!("{letters} letters of {payload} bytes counted");
        let most = Target::AtMost(2_000.0);
        report.absolute(ID, &format!("{what} the first time, ms"), first, most);
        let most = Target::AtMost(500.0);
        report.absolute(ID, &format!("{what} again, ms"), median(&mut again), most);
    }
}
