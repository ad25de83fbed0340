use super::harness::{DedupCapabilities, DedupHarness};
use super::scene::{ID, LEASE, MOMENT, START, Scene, TTL, ids};
use super::table::DedupCase;
use crate::ports::Claim;
use crate::testing::kit::{CaseResult, Requirement, case};

const PURGES: Requirement<DedupCapabilities> = Requirement {
    what: "needs expired ids to stay until they are purged",
    met: |capabilities| capabilities.purges,
};

pub(super) const CASES: &[DedupCase] = &[
    case!("9.1", a_claim_ends_with_its_lease),
    case!(
        "9.1",
        a_claim_that_ended_neither_completes_nor_extends_nor_releases
    ),
    case!("9.1", an_extended_claim_lasts_as_long_as_it_is_extended),
    case!("9.2", a_processed_id_is_forgotten_when_its_time_is_up),
    case!("9.2", the_last_extension_decides_when_a_claim_ends),
    case!("9.2", purging_forgets_nothing_that_is_alive),
    case!("9.2", purging_forgets_nothing_whose_life_was_lengthened),
    case!(
        "9.2",
        purging_forgets_what_has_expired_in_bounded_batches,
        PURGES
    ),
];

async fn a_claim_ends_with_its_lease(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let first = scene.acquire(START).await?;
    let claim = scene.claim(START + LEASE - MOMENT).await?;
    assert!(matches!(claim, Claim::InProgress { .. }), "{claim:?}");
    let second = scene.acquire(START + LEASE).await?;
    assert_ne!(first, second);
    Ok(())
}

async fn a_claim_that_ended_neither_completes_nor_extends_nor_releases(
    harness: &dyn DedupHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let claim = scene.acquire(START).await?;
    let now = START + LEASE;
    assert_eq!(scene.cache.complete(&[claim], TTL, now).await?, [false]);
    assert_eq!(scene.cache.extend(&[claim], LEASE, now).await?, [false]);
    assert_eq!(scene.cache.release(&[claim], now).await?, [false]);
    assert!(!scene.cache.is_processed(ID, now).await?);
    Ok(())
}

async fn an_extended_claim_lasts_as_long_as_it_is_extended(
    harness: &dyn DedupHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let claim = scene.acquire(START).await?;
    for beat in 1..10 {
        let now = START + beat * LEASE / 2;
        assert_eq!(scene.cache.extend(&[claim], LEASE, now).await?, [true]);
        let until = now + LEASE;
        assert_eq!(scene.claim(now).await?, Claim::InProgress { until });
    }
    let end = START + 9 * LEASE / 2;
    assert_eq!(scene.cache.complete(&[claim], TTL, end).await?, [true]);
    Ok(())
}

async fn a_processed_id_is_forgotten_when_its_time_is_up(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let claim = scene.acquire(START).await?;
    assert_eq!(scene.cache.complete(&[claim], TTL, START).await?, [true]);
    let end = START + TTL;
    assert!(scene.cache.is_processed(ID, end - MOMENT).await?);
    assert_eq!(scene.claim(end - MOMENT).await?, Claim::Done);
    let gone = end + harness.capabilities().granularity;
    assert!(!scene.cache.is_processed(ID, gone).await?);
    scene.acquire(gone).await?;
    Ok(())
}

async fn the_last_extension_decides_when_a_claim_ends(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let claim = scene.acquire(START).await?;
    for lease in [10 * LEASE, LEASE / 3] {
        assert_eq!(scene.cache.extend(&[claim], lease, START).await?, [true]);
    }
    scene.acquire(START + LEASE / 3).await?;
    Ok(())
}

async fn purging_forgets_nothing_that_is_alive(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let claim = scene.acquire(START).await?;
    let processed = ids(1)[0];
    scene.cache.record_processed(processed, TTL, START).await?;
    let now = START + LEASE - MOMENT;
    assert_eq!(scene.cache.purge(now, 100).await?, 0);
    assert!(scene.cache.is_processed(processed, now).await?);
    assert_eq!(scene.cache.complete(&[claim], TTL, now).await?, [true]);
    Ok(())
}

async fn purging_forgets_nothing_whose_life_was_lengthened(
    harness: &dyn DedupHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let claim = scene.acquire(START).await?;
    let now = START + LEASE;
    let extended = scene.cache.extend(&[claim], 3 * LEASE, START).await?;
    assert_eq!(
        (extended, scene.cache.purge(now, 100).await?),
        (vec![true], 0)
    );
    let claimed = scene.claim(now).await?;
    assert!(matches!(claimed, Claim::InProgress { .. }), "{claimed:?}");
    let completed = scene.cache.complete(&[claim], TTL, now).await?;
    let later = START + 3 * LEASE;
    assert_eq!(
        (completed, scene.cache.purge(later, 100).await?),
        (vec![true], 0)
    );
    assert!(scene.cache.is_processed(ID, later).await?);
    Ok(())
}

async fn purging_forgets_what_has_expired_in_bounded_batches(
    harness: &dyn DedupHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.cache.claim(&ids(7), LEASE, START).await?;
    scene.cache.record_processed(ID, TTL, START).await?;
    let now = START + LEASE;
    for expected in [3, 3, 1, 0] {
        assert_eq!(scene.cache.purge(now, 3).await?, expected);
    }
    assert_eq!(scene.cache.purge(START + TTL, 3).await?, 1);
    Ok(())
}
