use std::sync::Arc;

use super::harness::DedupHarness;
use super::scene::{ID, LEASE, START, Scene, TTL, acquired, ids};
use super::table::DedupCase;
use crate::error::Result;
use crate::ports::{Claim, DeduplicationCache};
use crate::testing::cut::cut;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[DedupCase] = &[
    case!("9.1", a_claimed_id_is_in_progress_until_its_lease_ends),
    case!("9.1", a_completed_id_is_done),
    case!("9.1", a_released_id_may_be_claimed_again),
    case!("12.6", of_32_claims_at_once_one_acquires),
    case!("9.1", of_claims_of_many_ids_at_once_each_id_has_one_winner),
    case!("9.1", a_repeated_id_in_one_call_is_in_progress),
    case!("9.1", answers_come_in_the_order_of_the_ids),
    case!("9.1", an_id_says_nothing_of_another),
    case!("9.1", claiming_nothing_does_nothing),
    case!("7.2", a_dropped_claim_holds_no_longer_than_its_lease),
];

async fn a_claimed_id_is_in_progress_until_its_lease_ends(
    harness: &dyn DedupHarness,
) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    scene.acquire(START).await?;
    scene.cache = scene.store.open().await?;
    let until = START + LEASE;
    for now in [START, START + LEASE / 2] {
        assert_eq!(scene.claim(now).await?, Claim::InProgress { until });
    }
    Ok(())
}

async fn a_completed_id_is_done(harness: &dyn DedupHarness) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    let claim = scene.acquire(START).await?;
    assert_eq!(scene.cache.complete(&[claim], TTL, START).await?, [true]);
    scene.cache = scene.store.open().await?;
    assert_eq!(scene.claim(START).await?, Claim::Done);
    assert_eq!(scene.claim(START + LEASE).await?, Claim::Done);
    Ok(())
}

async fn a_released_id_may_be_claimed_again(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let first = scene.acquire(START).await?;
    assert_eq!(scene.cache.release(&[first], START).await?, [true]);
    let second = scene.acquire(START).await?;
    assert_ne!(first, second);
    Ok(())
}

/// What each of 32 claims of all `count` ids, made at once over four handles, was answered.
async fn claims_at_once(
    scene: &Scene,
    count: u8,
) -> Result<Vec<Vec<Claim>>, crate::error::BoxError> {
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let handle = scene.store.open().await?;
        for _ in 0..8 {
            claims.spawn(claim_all(Arc::clone(&handle), count));
        }
    }
    let answers: Result<Vec<_>> = claims.join_all().await.into_iter().collect();
    Ok(answers?)
}

async fn claim_all(cache: Arc<dyn DeduplicationCache>, count: u8) -> Result<Vec<Claim>> {
    cache.claim(&ids(count), LEASE, START).await
}

fn winners(answers: &[Vec<Claim>], place: usize) -> usize {
    let claims = answers.iter().map(|claims| claims[place]);
    claims
        .filter(|claim| matches!(claim, Claim::Acquired(_)))
        .count()
}

async fn of_32_claims_at_once_one_acquires(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let answers = claims_at_once(&scene, 1).await?;
    assert_eq!((answers.len(), winners(&answers, 0)), (32, 1));
    let until = START + LEASE;
    let losers = answers
        .iter()
        .filter(|claims| claims[0] == Claim::InProgress { until });
    assert_eq!(losers.count(), 31);
    Ok(())
}

async fn of_claims_of_many_ids_at_once_each_id_has_one_winner(
    harness: &dyn DedupHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let answers = claims_at_once(&scene, 100).await?;
    for place in 0..100 {
        assert_eq!(winners(&answers, place), 1, "id {place}");
    }
    Ok(())
}

async fn a_repeated_id_in_one_call_is_in_progress(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let claims = scene.cache.claim(&[ID, ID, ID], LEASE, START).await?;
    let until = START + LEASE;
    let claim = acquired(claims[0])?;
    assert_eq!(claims[1..], [Claim::InProgress { until }; 2]);
    assert_eq!(scene.cache.complete(&[claim], TTL, START).await?, [true]);
    Ok(())
}

async fn answers_come_in_the_order_of_the_ids(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let ids = ids(6);
    scene.cache.record_processed(ids[4], TTL, START).await?;
    scene.cache.record_processed(ids[1], TTL, START).await?;
    scene.cache.claim(&[ids[2]], LEASE, START).await?;
    let claims = scene.cache.claim(&ids, LEASE, START).await?;
    assert_eq!(claims.len(), 6);
    for (place, claim) in claims.iter().enumerate() {
        let expected = match place {
            1 | 4 => *claim == Claim::Done,
            2 => matches!(claim, Claim::InProgress { .. }),
            _ => matches!(claim, Claim::Acquired(_)),
        };
        assert!(expected, "{place}: {claim:?}");
    }
    Ok(())
}

async fn an_id_says_nothing_of_another(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let [first, second] = ids(2)[..] else {
        return Err("two ids".into());
    };
    scene.cache.record_processed(first, TTL, START).await?;
    assert!(!scene.cache.is_processed(second, START).await?);
    let claims = scene.cache.claim(&[second], LEASE, START).await?;
    assert!(matches!(claims[..], [Claim::Acquired(_)]), "{claims:?}");
    Ok(())
}

async fn claiming_nothing_does_nothing(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    assert_eq!(scene.cache.claim(&[], LEASE, START).await?, []);
    assert!(scene.cache.complete(&[], TTL, START).await?.is_empty());
    assert!(scene.cache.extend(&[], LEASE, START).await?.is_empty());
    assert!(scene.cache.release(&[], START).await?.is_empty());
    Ok(())
}

async fn a_dropped_claim_holds_no_longer_than_its_lease(harness: &dyn DedupHarness) -> CaseResult {
    for polls in 0.. {
        let scene = Scene::new(harness).await?;
        let claim = scene.cache.claim(&[ID], LEASE, START);
        let finished = cut(claim, polls).await;
        let claim = scene.acquire(START + LEASE).await?;
        let now = START + LEASE;
        assert_eq!(scene.cache.complete(&[claim], TTL, now).await?, [true]);
        if finished.is_some() {
            break;
        }
    }
    Ok(())
}
