use super::alike;
use super::harness::{LimiterSetup, RateLimitHarness};
use super::scene::{
    MINUTE, START, Scene, TICK, WINDOWS, WINDOWS_ON_CALLERS_TIME,
    a_dropped_request_takes_all_or_nothing,
};
use super::table::RateLimitCase;
use crate::error::BoxError;
use crate::policy::{Window, Zone};
use crate::ports::RateDecision;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[RateLimitCase] = &[
    case!("9.4", permits_are_counted_down, WINDOWS),
    case!(
        "9.4",
        a_window_allows_exactly_its_limit_to_many_at_once,
        WINDOWS
    ),
    case!("9.4", permits_are_taken_all_or_none, WINDOWS),
    case!("12.22", denied_requests_cost_nothing, WINDOWS),
    case!("9.4", handles_share_a_window, WINDOWS),
    case!("9.4", more_than_a_window_allows_is_a_limit_error, WINDOWS),
    case!("9.4", a_refund_gives_permits_back_in_their_window, WINDOWS),
    case!(
        "7.2",
        a_dropped_request_of_a_window_takes_all_or_nothing,
        WINDOWS
    ),
    case!(
        "9.4",
        a_window_ends_at_its_last_moment,
        WINDOWS_ON_CALLERS_TIME
    ),
    case!(
        "9.4",
        a_denied_request_is_allowed_exactly_when_it_was_told,
        WINDOWS_ON_CALLERS_TIME
    ),
    case!(
        "9.4",
        a_refund_after_its_window_gives_nothing_to_the_next,
        WINDOWS_ON_CALLERS_TIME
    ),
    case!(
        "9.4",
        permits_that_were_not_taken_are_not_saved_up,
        WINDOWS_ON_CALLERS_TIME
    ),
    case!(
        "11",
        a_clock_that_is_behind_at_the_edge_frees_nothing,
        WINDOWS_ON_CALLERS_TIME
    ),
];

/// A limit over a day, so that no server's clock reaches its end within a case.
fn a_day() -> Window {
    Window::CalendarDay { zone: Zone::UTC }
}

async fn a_day_of(harness: &dyn RateLimitHarness, limit: u32) -> Result<Scene, BoxError> {
    Scene::windows(harness, limit, a_day()).await
}

async fn a_minute_of(harness: &dyn RateLimitHarness, limit: u32) -> Result<Scene, BoxError> {
    Scene::windows(harness, limit, Window::Fixed(MINUTE)).await
}

async fn permits_are_counted_down(harness: &dyn RateLimitHarness) -> CaseResult {
    alike::counts_down(a_day_of(harness, 10).await?).await
}

async fn a_window_allows_exactly_its_limit_to_many_at_once(
    harness: &dyn RateLimitHarness,
) -> CaseResult {
    alike::allows_exactly_its_limit_to_many(a_day_of(harness, 20).await?).await
}

async fn permits_are_taken_all_or_none(harness: &dyn RateLimitHarness) -> CaseResult {
    alike::takes_all_or_none(a_day_of(harness, 10).await?).await
}

async fn denied_requests_cost_nothing(harness: &dyn RateLimitHarness) -> CaseResult {
    alike::denies_for_nothing(a_day_of(harness, 10).await?).await
}

async fn handles_share_a_window(harness: &dyn RateLimitHarness) -> CaseResult {
    alike::is_shared_by_handles(a_day_of(harness, 5).await?).await
}

async fn more_than_a_window_allows_is_a_limit_error(harness: &dyn RateLimitHarness) -> CaseResult {
    alike::refuses_what_can_never_be(a_day_of(harness, 5).await?).await
}

async fn a_refund_gives_permits_back_in_their_window(harness: &dyn RateLimitHarness) -> CaseResult {
    let scene = a_day_of(harness, 10).await?;
    assert!(scene.takes(10, START).await?);
    scene.limiter.refund(4, START, START).await?;
    assert!(!scene.takes(5, START).await?);
    let expected = RateDecision::Allowed { remaining: 0 };
    assert_eq!(scene.ask(4, START).await?, expected);
    Ok(())
}

async fn a_dropped_request_of_a_window_takes_all_or_nothing(
    harness: &dyn RateLimitHarness,
) -> CaseResult {
    let setup = LimiterSetup::FixedWindow {
        limit: 10,
        window: a_day(),
    };
    a_dropped_request_takes_all_or_nothing(harness, setup).await
}

async fn a_window_ends_at_its_last_moment(harness: &dyn RateLimitHarness) -> CaseResult {
    let scene = a_minute_of(harness, 3).await?;
    assert!(scene.takes(3, START + MINUTE / 2).await?);
    assert!(!scene.takes(1, START + MINUTE - TICK).await?);
    assert!(scene.takes(3, START + MINUTE).await?);
    assert!(!scene.takes(1, START + MINUTE).await?);
    Ok(())
}

async fn a_denied_request_is_allowed_exactly_when_it_was_told(
    harness: &dyn RateLimitHarness,
) -> CaseResult {
    let scene = a_minute_of(harness, 3).await?;
    assert!(scene.takes(3, START).await?);
    let now = START + MINUTE / 3;
    let wait = scene.wait(1, now).await?;
    assert_eq!(wait, MINUTE * 2 / 3);
    assert!(!scene.takes(1, now + wait - TICK).await?);
    assert!(scene.takes(1, now + wait).await?);
    Ok(())
}

async fn a_refund_after_its_window_gives_nothing_to_the_next(
    harness: &dyn RateLimitHarness,
) -> CaseResult {
    let scene = a_minute_of(harness, 3).await?;
    assert!(scene.takes(3, START).await?);
    let next = START + MINUTE;
    assert!(scene.takes(3, next).await?);
    scene.limiter.refund(3, START, next).await?;
    assert!(!scene.takes(1, next).await?);
    Ok(())
}

async fn permits_that_were_not_taken_are_not_saved_up(
    harness: &dyn RateLimitHarness,
) -> CaseResult {
    let scene = a_minute_of(harness, 3).await?;
    assert!(scene.takes(1, START).await?);
    let later = START + 10 * MINUTE;
    assert!(scene.takes(3, later).await?);
    assert!(!scene.takes(1, later).await?);
    Ok(())
}

async fn a_clock_that_is_behind_at_the_edge_frees_nothing(
    harness: &dyn RateLimitHarness,
) -> CaseResult {
    let scene = a_minute_of(harness, 3).await?;
    let (before, after) = (START + MINUTE - TICK, START + MINUTE);
    assert!(scene.takes(3, before).await?);
    assert!(scene.takes(3, after).await?);
    assert!(!scene.takes(1, before).await?);
    assert!(!scene.takes(1, after).await?);
    Ok(())
}
