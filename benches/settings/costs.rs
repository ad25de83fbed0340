use std::time::Duration;

use outbox::message::NewMessage;
use outbox::sqlite::Synchronous;

use super::queue::{Guard, Worked};
use super::relay::Relayed;
use super::trial::compare;
use crate::Scale;
use crate::report::{Report, Target};

fn count(scale: &Scale) -> usize {
    scale.messages(20_000, 100_000)
}

/// `synchronous = NORMAL` beside `FULL`.
pub(crate) fn synchronous(scale: &Scale, report: &mut Report) {
    let id = ("C-synchronous", Target::Told);
    let full = Relayed::by_default(count(scale));
    let normal = Relayed {
        options: |options| options.synchronous(Synchronous::Normal),
        ..full.clone()
    };
    let others = [("NORMAL beside FULL, 500 a transaction", normal.clone())];
    compare((scale, report), id, &full, &others);
    let alone = |relayed: Relayed| Relayed {
        count: scale.messages(1_000, 5_000),
        batch: 1,
        ..relayed
    };
    let others = [("NORMAL beside FULL, each alone", alone(normal))];
    compare((scale, report), id, &alone(full), &others);
    let full = Worked::by_default(count(scale));
    let normal = Worked {
        options: |options| options.synchronous(Synchronous::Normal),
        ..full.clone()
    };
    compare(
        (scale, report),
        id,
        &full,
        &[("NORMAL beside FULL, 500 a batch", normal)],
    );
}

/// 64 and 1,000 at once beside 500.
pub(crate) fn batches(scale: &Scale, report: &mut Report) {
    let id = ("C-batch", Target::Told);
    let relayed = Relayed::by_default(count(scale));
    let of = |batch| Relayed {
        batch,
        ..relayed.clone()
    };
    let others = [
        ("64 at once beside 500", of(64)),
        ("1,000 at once beside 500", of(1_000)),
    ];
    compare((scale, report), id, &relayed, &others);
    let worked = Worked::by_default(count(scale));
    let of = |batch| Worked {
        batch,
        ..worked.clone()
    };
    let others = [
        ("64 at once beside 500", of(64)),
        ("1,000 at once beside 500", of(1_000)),
    ];
    compare((scale, report), id, &worked, &others);
}

/// What was published is kept, beside its deletion.
pub(crate) fn retention(scale: &Scale, report: &mut Report) {
    let deleted = Relayed::by_default(count(scale));
    let kept = Relayed {
        options: |options| options.keep_published(true),
        ..deleted.clone()
    };
    let id = ("C-retention", Target::Told);
    compare((scale, report), id, &deleted, &[("published kept", kept)]);
}

/// 1,000 ordering keys beside none; in the queue, with and without one after another.
pub(crate) fn order(scale: &Scale, report: &mut Report) {
    let id = ("C-order", Target::Told);
    let free = Relayed::by_default(count(scale));
    let keyed = Relayed {
        dress: with_key,
        ..free.clone()
    };
    let others = [("1,000 ordering keys beside none", keyed)];
    compare((scale, report), id, &free, &others);
    let free = Worked::by_default(count(scale));
    let keyed = Worked {
        dress: with_key,
        ..free.clone()
    };
    let together = Worked {
        serial_keys: false,
        ..keyed.clone()
    };
    let others = [
        ("1,000 ordering keys, serial", keyed),
        ("1,000 ordering keys, not serial", together),
    ];
    compare((scale, report), id, &free, &others);
}

fn with_key(number: usize, message: NewMessage) -> NewMessage {
    message.ordering_key(format!("customer-{}", number % 1_000))
}

/// Idempotency keys at append, and what makes handling effectively once.
pub(crate) fn dedup(scale: &Scale, report: &mut Report) {
    let id = ("C-dedup", Target::Told);
    let plain = Relayed::by_default(count(scale));
    let keyed = Relayed {
        dress: |number, message| message.idempotency_key(format!("order-{number}")),
        ..plain.clone()
    };
    let others = [("idempotency key on each", keyed)];
    compare((scale, report), id, &plain, &others);
    let plain = Worked::by_default(count(scale));
    let guarded = |guard| Worked {
        guard,
        ..plain.clone()
    };
    let forgetful = Worked {
        dedup_window: Some(Duration::ZERO),
        ..plain.clone()
    };
    let others = [
        ("deduplication cache", guarded(Guard::Dedup)),
        ("inbox", guarded(Guard::Inbox)),
        ("settled ids forgotten at once", forgetful),
    ];
    compare((scale, report), id, &plain, &others);
}

/// Failures counted for dead letters, where none fails and where one of 100 does.
pub(crate) fn dead_letters(scale: &Scale, report: &mut Report) {
    let id = ("C-dlq", Target::Told);
    for (fails, what) in [
        (0, "failures counted, none fails"),
        (100, "failures counted, 1 of 100 fails once"),
    ] {
        let uncounted = Relayed {
            fails,
            ..Relayed::by_default(count(scale))
        };
        let counted = Relayed {
            is_recorded: true,
            ..uncounted.clone()
        };
        compare((scale, report), id, &uncounted, &[(what, counted)]);
    }
}
