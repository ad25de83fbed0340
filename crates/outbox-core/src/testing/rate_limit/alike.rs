//! What holds for a limiter of so many permits, whether a window or a burst sets it.

use super::scene::{START, Scene};
use crate::ports::RateDecision;
use crate::testing::kit::CaseResult;

/// Of 10 permits.
pub(super) async fn counts_down(scene: Scene) -> CaseResult {
    for (permits, remaining) in [(1, 9), (4, 5), (5, 0)] {
        let expected = RateDecision::Allowed { remaining };
        assert_eq!(scene.ask(permits, START).await?, expected);
    }
    scene.wait(1, START).await?;
    Ok(())
}

/// Of 20 permits.
pub(super) async fn allows_exactly_its_limit_to_many(scene: Scene) -> CaseResult {
    assert_eq!(scene.allowed_at_once(START).await?, 20);
    assert!(!scene.takes(1, START).await?);
    Ok(())
}

/// Of 10 permits.
pub(super) async fn takes_all_or_none(scene: Scene) -> CaseResult {
    assert!(scene.takes(7, START).await?);
    assert!(!scene.takes(4, START).await?);
    assert!(scene.takes(3, START).await?);
    assert!(!scene.takes(1, START).await?);
    Ok(())
}

/// Of 10 permits.
pub(super) async fn denies_for_nothing(scene: Scene) -> CaseResult {
    assert!(scene.takes(6, START).await?);
    for _ in 0..20 {
        assert!(!scene.takes(5, START).await?);
    }
    let expected = RateDecision::Allowed { remaining: 0 };
    assert_eq!(scene.ask(4, START).await?, expected);
    Ok(())
}

/// Of 5 permits.
pub(super) async fn is_shared_by_handles(mut scene: Scene) -> CaseResult {
    assert!(scene.takes(3, START).await?);
    scene.limiter = scene.store.open().await?;
    assert!(!scene.takes(3, START).await?);
    assert!(scene.takes(2, START).await?);
    Ok(())
}

/// Of 5 permits.
pub(super) async fn refuses_what_can_never_be(scene: Scene) -> CaseResult {
    scene.refuses_more_than(5).await?;
    assert!(scene.takes(5, START).await?);
    scene.refuses_more_than(5).await
}
