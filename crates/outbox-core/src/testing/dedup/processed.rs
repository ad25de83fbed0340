use super::harness::DedupHarness;
use super::scene::{ID, LEASE, MOMENT, START, Scene, TTL};
use super::table::DedupCase;
use crate::ports::Claim;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[DedupCase] = &[
    case!("9.1", an_unknown_id_is_not_processed),
    case!("9.1", a_claimed_id_is_not_processed_yet),
    case!("9.1", recording_tells_whether_it_is_news),
    case!("9.1", recording_needs_no_claim_and_outlives_anothers),
    case!("9.2", what_is_recorded_is_forgotten_when_its_time_is_up),
    case!("9.1", of_records_at_once_one_is_news),
];

async fn an_unknown_id_is_not_processed(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    assert!(!scene.cache.is_processed(ID, START).await?);
    Ok(())
}

async fn a_claimed_id_is_not_processed_yet(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.acquire(START).await?;
    assert!(!scene.cache.is_processed(ID, START).await?);
    Ok(())
}

async fn recording_tells_whether_it_is_news(harness: &dyn DedupHarness) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    assert!(scene.cache.record_processed(ID, TTL, START).await?);
    scene.cache = scene.store.open().await?;
    assert!(scene.cache.is_processed(ID, START).await?);
    assert!(!scene.cache.record_processed(ID, TTL, START).await?);
    assert_eq!(scene.claim(START).await?, Claim::Done);
    Ok(())
}

async fn recording_needs_no_claim_and_outlives_anothers(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let claim = scene.acquire(START).await?;
    assert!(scene.cache.record_processed(ID, TTL, START).await?);
    assert_eq!(scene.cache.complete(&[claim], TTL, START).await?, [false]);
    assert_eq!(scene.cache.release(&[claim], START).await?, [false]);
    assert!(scene.cache.is_processed(ID, START + LEASE).await?);
    Ok(())
}

async fn what_is_recorded_is_forgotten_when_its_time_is_up(
    harness: &dyn DedupHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.cache.record_processed(ID, TTL, START).await?;
    let end = START + TTL;
    assert!(scene.cache.is_processed(ID, end - MOMENT).await?);
    let gone = end + harness.capabilities().granularity;
    assert!(!scene.cache.is_processed(ID, gone).await?);
    assert!(scene.cache.record_processed(ID, TTL, gone).await?);
    Ok(())
}

async fn of_records_at_once_one_is_news(harness: &dyn DedupHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut records = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let cache = scene.store.open().await?;
        records.spawn(async move { cache.record_processed(ID, TTL, START).await });
    }
    let mut news = 0;
    for is_news in records.join_all().await {
        news += u32::from(is_news?);
    }
    assert_eq!(news, 1);
    Ok(())
}
