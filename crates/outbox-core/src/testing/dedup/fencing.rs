use super::harness::DedupHarness;
use super::scene::{ID, LEASE, START, Scene, TTL, ids};
use super::table::DedupCase;
use crate::error::BoxError;
use crate::id::MessageId;
use crate::ports::{Claim, ClaimToken};
use crate::testing::kit::{CaseResult, case};
use crate::time::Timestamp;

pub(super) const CASES: &[DedupCase] = &[
    case!("9.1", a_stale_token_completes_nothing),
    case!("9.1", a_stale_token_releases_nothing),
    case!("9.1", a_stale_token_extends_nothing),
    case!("12.6", a_failing_duplicate_cannot_remove_the_winners_record),
    case!("9.1", a_token_works_on_its_own_id_only),
    case!("9.1", a_claim_is_completed_once),
    case!("9.1", a_released_claim_is_over),
    case!("9.1", each_claim_of_a_call_is_answered_for_itself),
    case!("9.1", claims_of_several_calls_are_answered_each_for_itself),
];

type Proof = (MessageId, ClaimToken);

/// When the first claim has ended.
const ENDED: Timestamp = Timestamp::from_micros(START.as_micros() + 30_000_000);

/// A claim of [`ID`] that ended, and the one that followed it.
async fn taken_over(harness: &dyn DedupHarness) -> Result<(Scene, Proof, Proof), BoxError> {
    assert_eq!(ENDED, START + LEASE);
    let scene = Scene::new(harness).await?;
    let stale = scene.acquire(START).await?;
    let live = scene.acquire(ENDED).await?;
    Ok((scene, stale, live))
}

async fn a_stale_token_completes_nothing(harness: &dyn DedupHarness) -> CaseResult {
    let (scene, stale, live) = taken_over(harness).await?;
    assert_eq!(scene.cache.complete(&[stale], TTL, ENDED).await?, [false]);
    assert!(!scene.cache.is_processed(ID, ENDED).await?);
    assert_eq!(scene.cache.complete(&[live], TTL, ENDED).await?, [true]);
    Ok(())
}

async fn a_stale_token_releases_nothing(harness: &dyn DedupHarness) -> CaseResult {
    let (scene, stale, live) = taken_over(harness).await?;
    assert_eq!(scene.cache.release(&[stale], ENDED).await?, [false]);
    let claim = scene.claim(ENDED).await?;
    assert!(matches!(claim, Claim::InProgress { .. }), "{claim:?}");
    assert_eq!(scene.cache.complete(&[live], TTL, ENDED).await?, [true]);
    Ok(())
}

async fn a_stale_token_extends_nothing(harness: &dyn DedupHarness) -> CaseResult {
    let (scene, stale, _live) = taken_over(harness).await?;
    let extended = scene.cache.extend(&[stale], 10 * LEASE, ENDED).await?;
    assert_eq!(extended, [false]);
    let until = ENDED + LEASE;
    assert_eq!(scene.claim(ENDED).await?, Claim::InProgress { until });
    Ok(())
}

async fn a_failing_duplicate_cannot_remove_the_winners_record(
    harness: &dyn DedupHarness,
) -> CaseResult {
    let (scene, stale, live) = taken_over(harness).await?;
    assert_eq!(scene.cache.complete(&[live], TTL, ENDED).await?, [true]);
    assert_eq!(scene.cache.release(&[stale], ENDED).await?, [false]);
    assert_eq!(scene.cache.extend(&[stale], LEASE, ENDED).await?, [false]);
    assert_eq!(scene.claim(ENDED).await?, Claim::Done);
    Ok(())
}

async fn a_token_works_on_its_own_id_only(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let (_, token) = scene.acquire(START).await?;
    let other = ids(1)[0];
    scene.cache.claim(&[other], LEASE, START).await?;
    let misused = [(other, token)];
    assert_eq!(scene.cache.complete(&misused, TTL, START).await?, [false]);
    assert_eq!(scene.cache.release(&misused, START).await?, [false]);
    assert!(!scene.cache.is_processed(other, START).await?);
    Ok(())
}

async fn a_claim_is_completed_once(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let claim = scene.acquire(START).await?;
    let done = scene.cache.complete(&[claim, claim], TTL, START).await?;
    assert_eq!(done, [true, false]);
    assert_eq!(scene.cache.release(&[claim], START).await?, [false]);
    assert!(scene.cache.is_processed(ID, START).await?);
    Ok(())
}

async fn a_released_claim_is_over(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let claim = scene.acquire(START).await?;
    assert_eq!(scene.cache.release(&[claim], START).await?, [true]);
    assert_eq!(scene.cache.complete(&[claim], TTL, START).await?, [false]);
    assert_eq!(scene.cache.extend(&[claim], LEASE, START).await?, [false]);
    assert!(!scene.cache.is_processed(ID, START).await?);
    Ok(())
}

async fn each_claim_of_a_call_is_answered_for_itself(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let proofs = acquire_all(&scene, &ids(4)).await?;
    let given_up = [proofs[1], proofs[2]];
    assert_eq!(scene.cache.release(&given_up, START).await?, [true, true]);
    let done = scene.cache.complete(&proofs, TTL, START).await?;
    assert_eq!(done, [true, false, false, true]);
    Ok(())
}

async fn claims_of_several_calls_are_answered_each_for_itself(
    harness: &dyn DedupHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let ids = ids(5);
    let [one, three, five] = acquire_all(&scene, &[ids[0], ids[2], ids[4]]).await?[..] else {
        return Err("three ids have three claims".into());
    };
    let [two, four] = acquire_all(&scene, &[ids[1], ids[3]]).await?[..] else {
        return Err("two ids have two claims".into());
    };
    let anothers = (three.0, two.1);
    let all = [one, two, anothers, four, five];
    let extended = scene.cache.extend(&all, 2 * LEASE, START).await?;
    assert_eq!(extended, [true, true, false, true, true]);
    let acquired = |claim: Claim| matches!(claim, Claim::Acquired(_));
    let again = scene.cache.claim(&ids, LEASE, ENDED).await?;
    let again: Vec<_> = again.into_iter().map(acquired).collect();
    assert_eq!(again, [false, false, true, false, false]);
    let released = scene.cache.release(&[two, anothers, five], ENDED).await?;
    assert_eq!(released, [true, false, true]);
    let done = scene.cache.complete(&all, TTL, ENDED).await?;
    assert_eq!(done, [true, false, false, true, false]);
    for (place, done) in done.into_iter().enumerate() {
        assert_eq!(scene.cache.is_processed(ids[place], ENDED).await?, done);
    }
    Ok(())
}

/// Claims of ids that nobody has, made in one call.
async fn acquire_all(scene: &Scene, ids: &[MessageId]) -> Result<Vec<Proof>, BoxError> {
    let claims = scene.cache.claim(ids, LEASE, START).await?;
    let claimed = ids.iter().zip(claims).map(|(id, claim)| match claim {
        Claim::Acquired(token) => Ok((*id, token)),
        other => Err(format!("a fresh id: {other:?}").into()),
    });
    claimed.collect()
}
