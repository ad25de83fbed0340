use std::sync::Arc;
use std::time::Duration;

use outbox::id::WorkerId;
use outbox::ports::{ClaimRequest, Flush, Outbox, Outcome, Settlement};
use outbox::relay::{Relay, RelayConfig};
use outbox::sqlite::{SqliteOutbox, Synchronous};
use outbox::time::{Clock, SystemClock};
use tokio::time::Instant;

use crate::Scale;
use crate::raw::{Raw, rows};
use crate::report::{Report, Target, in_turns};
use crate::scene::{Nowhere, fill, fresh, open, outbox, remove, runtime};

const BATCH: usize = 500;
const TURNS: usize = 10;

/// P4: claim and settle 500 at growing backlogs.
pub(crate) fn claim_and_settle(scale: &Scale, report: &mut Report) {
    let sizes: &[usize] = match scale.backlogs.as_slice() {
        [] if scale.short => &[1_000, 100_000],
        [] => &[1_000, 100_000, 1_000_000, 5_000_000],
        asked => asked,
    };
    let mut first = None;
    for backlog in sizes {
        let runtime = runtime();
        let (ours_path, raw_path) = (fresh(scale, "p4"), fresh(scale, "p4-raw"));
        let store = runtime.block_on(open(scale, &ours_path, Synchronous::Full));
        let outbox = runtime.block_on(outbox(&store));
        let raw = Raw::open(&raw_path, "FULL");
        let owner = WorkerId::new(&scale.entropy());
        runtime.block_on(fill(&outbox, *backlog));
        (0..backlog / BATCH).for_each(|salt| raw.insert_batch(&rows(BATCH, salt as u64)));
        let mut salt = 1 << 40;
        let ours = || {
            runtime.block_on(fill(&outbox, BATCH * TURNS));
            let started = Instant::now();
            for _ in 0..TURNS {
                runtime.block_on(claim_once(&outbox, owner));
            }
            started.elapsed()
        };
        let limit = || {
            for _ in 0..TURNS {
                salt += 1;
                raw.insert_batch(&rows(BATCH, salt));
            }
            let started = Instant::now();
            for _ in 0..TURNS {
                assert_eq!(raw.take(BATCH), BATCH);
            }
            started.elapsed()
        };
        let (ours, limit) = in_turns(scale.rounds, ours, limit);
        let rate = |time: f64| (TURNS * BATCH) as f64 / time;
        let variant = format!("claim and settle 500, backlog {backlog}, FULL, messages/s");
        report.ratio(
            "P4",
            &variant,
            (rate(ours), rate(limit)),
            Target::AtLeast(0.45),
        );
        let (smallest, small) = *first.get_or_insert((*backlog, rate(ours)));
        if *backlog > smallest {
            let variant = format!("backlog {backlog} beside backlog {smallest}, ours");
            report.ratio("P4", &variant, (rate(ours), small), Target::AtLeast(0.9));
        }
        remove(&ours_path);
        remove(&raw_path);
    }
}

async fn claim_once(outbox: &SqliteOutbox, owner: WorkerId) {
    let now = SystemClock.now();
    let request = ClaimRequest {
        owner,
        max: BATCH,
        lease: Duration::from_secs(60),
        now,
        paused_topics: Vec::new(),
    };
    let claimed = outbox.claim(&request).await.unwrap();
    assert_eq!(claimed.leased.len(), BATCH);
    let settlements: Vec<_> = claimed
        .leased
        .iter()
        .map(|leased| Settlement {
            token: leased.token,
            outcome: Outcome::Published,
        })
        .collect();
    let settled = outbox.settle(&settlements, now).await.unwrap();
    assert_eq!(settled.settled, BATCH as u64);
}

/// P5: the relay to a publisher that does nothing.
pub(crate) fn relay(scale: &Scale, report: &mut Report) {
    let count = scale.messages(50_000, 200_000);
    let runtime = runtime();
    let (ours_path, raw_path) = (fresh(scale, "p5"), fresh(scale, "p5-raw"));
    let store = runtime.block_on(open(scale, &ours_path, Synchronous::Full));
    let outbox = runtime.block_on(outbox(&store));
    let relay = Relay::new(
        Arc::new(outbox.clone()),
        Arc::new(Nowhere),
        RelayConfig::default(),
    )
    .unwrap();
    let raw = Raw::open(&raw_path, "FULL");
    let mut salt = 0;
    let ours = || {
        runtime.block_on(fill(&outbox, count));
        let started = Instant::now();
        let report = runtime.block_on(relay.flush()).unwrap();
        assert_eq!((report.tally.done, report.unsent), (count as u64, 0));
        started.elapsed()
    };
    let limit = || {
        for _ in 0..count / BATCH {
            salt += 1;
            raw.insert_batch(&rows(BATCH, salt));
        }
        let started = Instant::now();
        while raw.take(BATCH) > 0 {}
        started.elapsed()
    };
    let (ours, limit) = in_turns(scale.rounds, ours, limit);
    let rates = (count as f64 / ours, count as f64 / limit);
    report.ratio(
        "P5",
        "relay to a no-op publisher, FULL, messages/s",
        rates,
        Target::AtLeast(0.45),
    );
    remove(&ours_path);
    remove(&raw_path);
}
