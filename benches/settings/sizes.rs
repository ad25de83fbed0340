use outbox::message::NewMessage;
use tokio::time::Instant;

use super::queue::Worked;
use super::relay::Relayed;
use super::trial::{Dress, Trial, compare};
use crate::Scale;
use crate::raw::{Raw, rows_of};
use crate::report::{Report, Target, median};
use crate::scene::{fresh, remove};

const BATCH: usize = 500;
/// What a message has beside its payload.
const REST: usize = 190;

/// 100,000 distinct ordering keys beside one.
pub(crate) fn keys(scale: &Scale, report: &mut Report) {
    let count = scale.messages(20_000, 100_000);
    let id = ("S-keys", Target::AtLeast(0.9));
    let one = Relayed {
        dress: |_, message| message.ordering_key("customer-0"),
        ..Relayed::by_default(count)
    };
    let many = Relayed {
        dress: own_key,
        ..one.clone()
    };
    let what = format!("{count} ordering keys beside 1");
    compare((scale, report), id, &one, &[(&what, many)]);
    // One key is one delivery at a time, so that many are held to a queue without keys.
    let none = Worked::by_default(count);
    let many = Worked {
        dress: own_key,
        ..none.clone()
    };
    let what = format!("{count} ordering keys beside none");
    compare((scale, report), id, &none, &[(&what, many)]);
}

fn own_key(number: usize, message: NewMessage) -> NewMessage {
    message.ordering_key(format!("customer-{number}"))
}

/// Payloads of 100 bytes, 1 kB and 64 kB, beside the limit at the same size.
pub(crate) fn payloads(scale: &Scale, report: &mut Report) {
    let sized: [(usize, Dress); 3] = [
        (100, |_, message| with_payload(message, 100)),
        (1_000, |_, message| with_payload(message, 1_000)),
        (64_000, |_, message| with_payload(message, 64_000)),
    ];
    for (bytes, dress) in sized {
        let all = scale.messages(20_000, 100_000);
        // Of the greatest a tenth: it is the bytes that take the time.
        let count = if bytes > 10_000 { all / 10 } else { all };
        let count = count.next_multiple_of(BATCH);
        let ours = Relayed {
            dress,
            ..Relayed::by_default(count)
        };
        let mut times = [(); 4].map(|()| Vec::new());
        for _ in 0..scale.rounds {
            let limit = limit(scale, count, bytes + REST);
            let figures = ours.rates(scale).into_iter().chain(limit);
            for (times, figure) in times.iter_mut().zip(figures) {
                times.push(figure);
            }
        }
        let [append, relay, insert, take] = times.map(|mut times| median(&mut times));
        for (half, rates) in [("append", (append, insert)), ("relay", (relay, take))] {
            let variant = format!("payload of {bytes} bytes: {half}, messages/s");
            report.ratio("S-payload", &variant, rates, Target::Told);
        }
    }
}

fn with_payload(mut message: NewMessage, bytes: usize) -> NewMessage {
    message.payload = format!("\"{}\"", "x".repeat(bytes - 2)).into();
    message
}

/// Rows a second that the limit inserts, and then reads and deletes.
fn limit(scale: &Scale, count: usize, bytes: usize) -> [f64; 2] {
    let path = fresh(scale, "payload-raw");
    let raw = Raw::open(&path, "FULL");
    let batches: Vec<_> = (0..count / BATCH)
        .map(|salt| rows_of(BATCH, salt as u64, bytes))
        .collect();
    let started = Instant::now();
    batches.iter().for_each(|batch| raw.insert_batch(batch));
    let inserted = started.elapsed();
    let started = Instant::now();
    while raw.take(BATCH) > 0 {}
    let times = [inserted, started.elapsed()];
    drop(raw);
    remove(&path);
    times.map(|time| count as f64 / time.as_secs_f64())
}
