use std::time::Duration;

use super::alike;
use super::harness::{LimiterSetup, RateLimitHarness};
use super::scene::{
    GCRA, GCRA_ON_CALLERS_TIME, START, Scene, TICK, a_dropped_request_takes_all_or_nothing,
};
use super::table::RateLimitCase;
use crate::error::BoxError;
use crate::policy::Quota;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[RateLimitCase] = &[
    case!("9.4", a_burst_is_allowed_at_once_and_no_more, GCRA),
    case!("9.4", a_burst_is_allowed_exactly_to_many_at_once, GCRA),
    case!("9.4", permits_of_a_burst_are_taken_all_or_none, GCRA),
    case!("12.22", requests_denied_by_the_rate_cost_nothing, GCRA),
    case!("9.4", handles_share_a_burst, GCRA),
    case!("9.4", more_than_the_burst_is_a_limit_error, GCRA),
    case!("9.4", a_refund_at_once_gives_permits_back, GCRA),
    case!(
        "7.2",
        a_dropped_request_of_a_rate_takes_all_or_nothing,
        GCRA
    ),
    case!("9.4", permits_come_back_one_at_a_time, GCRA_ON_CALLERS_TIME),
    case!("9.4", a_wait_for_permits_is_exact, GCRA_ON_CALLERS_TIME),
    case!(
        "9.4",
        idle_time_saves_up_no_more_than_the_burst,
        GCRA_ON_CALLERS_TIME
    ),
    case!(
        "9.4",
        a_refund_of_what_was_earned_back_gives_nothing,
        GCRA_ON_CALLERS_TIME
    ),
    case!(
        "11",
        a_clock_set_back_far_limits_nobody_for_long,
        GCRA_ON_CALLERS_TIME
    ),
];

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A burst that takes days to come back, so that no server's clock earns a permit within a case.
async fn burst_of(harness: &dyn RateLimitHarness, burst: u32) -> Result<Scene, BoxError> {
    Scene::gcra(harness, 1, DAY, burst).await
}

/// Five permits a second, and up to `burst` at once.
async fn five_a_second(harness: &dyn RateLimitHarness, burst: u32) -> Result<Scene, BoxError> {
    Scene::gcra(harness, 5, SECOND, burst).await
}

async fn a_burst_is_allowed_at_once_and_no_more(harness: &dyn RateLimitHarness) -> CaseResult {
    alike::counts_down(burst_of(harness, 10).await?).await
}

async fn a_burst_is_allowed_exactly_to_many_at_once(harness: &dyn RateLimitHarness) -> CaseResult {
    alike::allows_exactly_its_limit_to_many(burst_of(harness, 20).await?).await
}

async fn permits_of_a_burst_are_taken_all_or_none(harness: &dyn RateLimitHarness) -> CaseResult {
    alike::takes_all_or_none(burst_of(harness, 10).await?).await
}

async fn requests_denied_by_the_rate_cost_nothing(harness: &dyn RateLimitHarness) -> CaseResult {
    alike::denies_for_nothing(burst_of(harness, 10).await?).await
}

async fn handles_share_a_burst(harness: &dyn RateLimitHarness) -> CaseResult {
    alike::is_shared_by_handles(burst_of(harness, 5).await?).await
}

async fn more_than_the_burst_is_a_limit_error(harness: &dyn RateLimitHarness) -> CaseResult {
    alike::refuses_what_can_never_be(burst_of(harness, 5).await?).await
}

async fn a_refund_at_once_gives_permits_back(harness: &dyn RateLimitHarness) -> CaseResult {
    let scene = burst_of(harness, 10).await?;
    assert!(scene.takes(10, START).await?);
    scene.limiter.refund(4, START, START).await?;
    assert!(!scene.takes(5, START).await?);
    assert!(scene.takes(4, START).await?);
    Ok(())
}

async fn a_dropped_request_of_a_rate_takes_all_or_nothing(
    harness: &dyn RateLimitHarness,
) -> CaseResult {
    let quota = Quota::new(1, DAY, 10)?;
    a_dropped_request_takes_all_or_nothing(harness, LimiterSetup::Gcra(quota)).await
}

async fn permits_come_back_one_at_a_time(harness: &dyn RateLimitHarness) -> CaseResult {
    let scene = five_a_second(harness, 3).await?;
    assert!(scene.takes(3, START).await?);
    for step in 1..50 {
        let now = START + SECOND / 5 * step;
        assert!(!scene.takes(1, now - TICK).await?, "step {step}");
        assert!(scene.takes(1, now).await?, "step {step}");
    }
    Ok(())
}

async fn a_wait_for_permits_is_exact(harness: &dyn RateLimitHarness) -> CaseResult {
    let scene = five_a_second(harness, 3).await?;
    assert!(scene.takes(3, START).await?);
    let now = START + SECOND / 10;
    let wait = scene.wait(2, now).await?;
    assert_eq!(wait, SECOND * 3 / 10);
    assert!(!scene.takes(2, now + wait - TICK).await?);
    assert!(scene.takes(2, now + wait).await?);
    Ok(())
}

async fn idle_time_saves_up_no_more_than_the_burst(harness: &dyn RateLimitHarness) -> CaseResult {
    let scene = five_a_second(harness, 3).await?;
    assert!(scene.takes(1, START).await?);
    let later = START + DAY;
    assert!(scene.takes(3, later).await?);
    assert!(!scene.takes(1, later).await?);
    Ok(())
}

async fn a_refund_of_what_was_earned_back_gives_nothing(
    harness: &dyn RateLimitHarness,
) -> CaseResult {
    let scene = five_a_second(harness, 5).await?;
    assert!(scene.takes(5, START).await?);
    let later = START + SECOND;
    assert!(scene.takes(5, later).await?);
    scene.limiter.refund(5, START, later).await?;
    assert!(!scene.takes(1, later).await?);
    Ok(())
}

async fn a_clock_set_back_far_limits_nobody_for_long(harness: &dyn RateLimitHarness) -> CaseResult {
    let scene = five_a_second(harness, 5).await?;
    assert!(scene.takes(5, START + DAY).await?);
    let mut allowed = false;
    for waited in 0..120 {
        allowed |= scene.takes(5, START + SECOND * waited).await?;
    }
    assert!(allowed, "limited for two minutes");
    Ok(())
}
