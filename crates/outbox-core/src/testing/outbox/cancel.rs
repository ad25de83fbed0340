//! Each method is dropped at each of its awaits, one after the other; what it then left behind must
//! be all of its effect or none, and the same call must mend it.

use super::harness::OutboxHarness;
use super::relay::{LEASE, Relay, settlements};
use super::scene::{START, Scene, after, failure, keyed, message};
use super::table::{OutboxCase, TRANSACTIONS};
use crate::error::{BoxError, Result};
use crate::id::Entropy;
use crate::message::NewMessage;
use crate::ports::{ClaimRequest, Outcome};
use crate::status::OnFailure;
use crate::testing::cut;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!("7.2", a_dropped_append_took_full_effect_or_none),
    case!(
        "7.2",
        a_dropped_append_in_a_transaction_leaves_it_able_to_roll_back,
        TRANSACTIONS
    ),
    case!(
        "7.2",
        a_dropped_commit_took_full_effect_or_none,
        TRANSACTIONS
    ),
    case!("7.2", what_a_dropped_claim_leased_comes_back),
    case!("7.2", a_dropped_settlement_can_be_repeated),
    case!("7.2", a_dropped_retry_counts_at_most_one_attempt),
    case!("7.2", a_dropped_quarantine_neither_loses_nor_doubles),
    case!("7.2", a_dropped_extension_loses_no_lease),
    case!("7.2", a_dropped_release_can_be_repeated),
    case!("7.2", a_dropped_resume_can_be_repeated),
    case!("7.2", a_dropped_purge_deletes_nothing_unsent),
    case!("7.2", a_dropped_look_changes_nothing),
];

/// The most polls that any method may take before it is done.
const POLLS: usize = 10_000;

fn identified(round: usize) -> [NewMessage; 2] {
    let entropy = Entropy::seeded(round as u64);
    ["x", "y"].map(|text| message(&format!("{text}{round}")).identify(START, &entropy))
}

fn never_done() -> BoxError {
    format!("not done after {POLLS} polls").into()
}

async fn a_dropped_append_took_full_effect_or_none(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    for polls in 0..POLLS {
        let batch = identified(polls);
        let done = cut(scene.outbox.append(&batch), polls).await;
        let again = scene.outbox.append(&batch).await?;
        assert_ne!(
            again.added(),
            1,
            "half a batch, dropped after {polls} polls"
        );
        assert_eq!(scene.relay.drain(10, START).await?.len(), 2);
        if let Some(report) = done {
            assert_eq!(report?.added(), 2);
            return Ok(());
        }
    }
    Err(never_done())
}

async fn a_dropped_append_in_a_transaction_leaves_it_able_to_roll_back(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    for polls in 0..POLLS {
        let batch = identified(polls);
        let mut open = scene.store.begin().await?;
        let done = cut(open.append(&batch), polls).await.transpose()?;
        drop(open);
        assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
        scene.append(&[message("next")]).await?;
        assert_eq!(scene.relay.drain(10, START).await?, ["next"]);
        if done.is_some() {
            return Ok(());
        }
    }
    Err(never_done())
}

async fn a_dropped_commit_took_full_effect_or_none(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    for polls in 0..POLLS {
        let batch = identified(polls);
        let mut open = scene.store.begin().await?;
        open.append(&batch).await?;
        let done = cut(open.commit(), polls).await.transpose()?;
        let again = scene.outbox.append(&batch).await?;
        assert_ne!(
            again.added(),
            1,
            "half a commit, dropped after {polls} polls"
        );
        assert_eq!(scene.relay.drain(10, START).await?.len(), 2);
        if done.is_some() {
            assert_eq!(again.added(), 0);
            return Ok(());
        }
    }
    Err(never_done())
}

async fn what_a_dropped_claim_leased_comes_back(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    for polls in 0..POLLS {
        scene.append(&identified(polls)).await?;
        let request = ClaimRequest {
            owner: scene.relay.owner,
            max: 10,
            lease: LEASE,
            now: START,
            paused_topics: Vec::new(),
        };
        let done = cut(scene.outbox.claim(&request), polls).await.transpose()?;
        // The lease's end and a release bring them back alike.
        let (now, next) = if polls % 2 == 0 {
            scene.outbox.release(scene.relay.owner).await?;
            (START, scene.relay(2).await?)
        } else {
            (START + LEASE, scene.relay(2).await?)
        };
        let taken = next.take(10, now).await?;
        assert_eq!(taken.len(), 2, "dropped after {polls} polls");
        assert!(taken.iter().all(|leased| leased.attempt == 1));
        next.publish(&taken, now).await?;
        next.outbox.release(next.owner).await?;
        if done.is_some() {
            return Ok(());
        }
    }
    Err(never_done())
}

/// Settles two fresh messages as `outcome` and drops that after `polls`; then settles them again.
/// Whether the first was done.
async fn settle_twice(scene: &Scene, polls: usize, outcome: &Outcome) -> Result<bool, BoxError> {
    scene.append(&identified(polls)).await?;
    let taken = scene.relay.take(2, START).await?;
    assert_eq!(taken.len(), 2);
    let request = settlements(&taken, outcome);
    let done = cut(scene.outbox.settle(&request, START), polls)
        .await
        .transpose()?;
    let again = scene.outbox.settle(&request, START).await?;
    assert_ne!(
        again.settled, 1,
        "half a settlement, dropped after {polls} polls"
    );
    assert_eq!(again.settled as usize + again.lost.len(), 2);
    Ok(done.is_some())
}

async fn a_dropped_settlement_can_be_repeated(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    for polls in 0..POLLS {
        let done = settle_twice(&scene, polls, &Outcome::Published).await?;
        assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
        assert!(scene.relay.take(10, START).await?.is_empty());
        if done {
            return Ok(());
        }
    }
    Err(never_done())
}

async fn a_dropped_retry_counts_at_most_one_attempt(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let retry = Outcome::Retry {
        due_at: after(1),
        failure: failure(START, "no route"),
        on_failure: OnFailure::BlockKey,
    };
    for polls in 0..POLLS {
        let done = settle_twice(&scene, polls, &retry).await?;
        assert!(scene.relay.take(10, START).await?.is_empty());
        let retried = scene.relay.take(10, after(1)).await?;
        assert_eq!(retried.len(), 2, "dropped after {polls} polls");
        let once = |(attempt, history): (u32, usize)| (attempt, history) == (2, 1);
        assert!(
            retried
                .iter()
                .all(|leased| once((leased.attempt, leased.history.len())))
        );
        scene.relay.publish(&retried, after(1)).await?;
        if done {
            return Ok(());
        }
    }
    Err(never_done())
}

async fn a_dropped_quarantine_neither_loses_nor_doubles(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let quarantine = Outcome::Quarantine {
        failure: failure(START, "refused"),
        on_failure: OnFailure::BlockKey,
    };
    for polls in 0..POLLS {
        let done = settle_twice(&scene, polls, &quarantine).await?;
        assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
        assert_eq!(scene.store.quarantined().await?.len(), 2 * (polls + 1));
        if done {
            return Ok(());
        }
    }
    Err(never_done())
}

async fn a_dropped_extension_loses_no_lease(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let standby = scene.relay(2).await?;
    scene.append(&[message("a")]).await?;
    let taken = scene.relay.take(1, START).await?;
    let tokens = [taken[0].token];
    for polls in 0..POLLS {
        let now = after(polls as u64);
        let done = cut(scene.outbox.extend(&tokens, now + LEASE), polls)
            .await
            .transpose()?;
        assert!(
            standby.take(1, now).await?.is_empty(),
            "dropped after {polls} polls"
        );
        assert!(scene.outbox.extend(&tokens, now + LEASE).await?.is_empty());
        if done.is_some() {
            return scene.relay.publish(&taken, now).await;
        }
    }
    Err(never_done())
}

async fn a_dropped_release_can_be_repeated(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let standby = scene.relay(2).await?;
    for polls in 0..POLLS {
        scene.append(&identified(polls)).await?;
        assert_eq!(scene.relay.take(10, START).await?.len(), 2);
        let done = cut(scene.outbox.release(scene.relay.owner), polls)
            .await
            .transpose()?;
        scene.outbox.release(scene.relay.owner).await?;
        assert_eq!(standby.drain(10, START).await?.len(), 2);
        standby.outbox.release(standby.owner).await?;
        if done.is_some() {
            return Ok(());
        }
    }
    Err(never_done())
}

/// Parks key `k`, with one message behind it.
async fn park(scene: &Scene, relay: &Relay) -> CaseResult {
    scene
        .append(&[keyed("k", "refused"), keyed("k", "behind")])
        .await?;
    let taken = relay.take(1, START).await?;
    relay.quarantine(&taken[0], OnFailure::ParkKey, START).await
}

async fn a_dropped_resume_can_be_repeated(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    for polls in 0..POLLS {
        park(&scene, &scene.relay).await?;
        let done = cut(scene.outbox.resume_key("k"), polls).await.transpose()?;
        let again = scene.outbox.resume_key("k").await?;
        assert_eq!(scene.relay.drain(10, START).await?, ["behind"]);
        if let Some(resumed) = done {
            assert_eq!((resumed, again), (true, false));
            return Ok(());
        }
    }
    Err(never_done())
}

async fn a_dropped_purge_deletes_nothing_unsent(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&[message("unsent").due_at(after(60))]).await?;
    for polls in 0..POLLS {
        scene.append(&identified(polls)).await?;
        scene.relay.drain(10, START).await?;
        let done = cut(scene.outbox.purge(after(1), 10), polls)
            .await
            .transpose()?;
        scene.outbox.purge(after(1), 10).await?;
        let stats = scene.outbox.stats(START).await?;
        assert_eq!((stats.unsent(), stats.published), (1, 0));
        if done.is_some() {
            assert_eq!(done, Some(2));
            return Ok(());
        }
    }
    Err(never_done())
}

async fn a_dropped_look_changes_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&identified(0)).await?;
    for polls in 0..POLLS {
        let done = cut(scene.outbox.stats(START), polls).await.transpose()?;
        let stats = scene.outbox.stats(START).await?;
        assert_eq!((stats.ready, stats.unsent()), (2, 2));
        if done.is_some() {
            return Ok(());
        }
    }
    Err(never_done())
}
