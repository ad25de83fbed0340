use std::time::Duration;

use super::harness::RateLimitHarness;
use super::scene::{Scene, TICK, WINDOWS_ON_CALLERS_TIME};
use super::table::RateLimitCase;
use crate::error::BoxError;
use crate::policy::{Window, Zone};
use crate::testing::kit::{CaseResult, case};
use crate::time::Timestamp;

pub(super) const CASES: &[RateLimitCase] = &[
    case!(
        "9.4",
        a_day_is_counted_from_midnight_of_its_zone,
        WINDOWS_ON_CALLERS_TIME
    ),
    case!(
        "9.4",
        the_day_on_which_clocks_go_forward_has_23_hours,
        WINDOWS_ON_CALLERS_TIME
    ),
    case!(
        "9.4",
        the_day_on_which_clocks_go_back_has_25_hours,
        WINDOWS_ON_CALLERS_TIME
    ),
];

const HOUR: Duration = Duration::from_secs(3_600);

async fn a_day_in(harness: &dyn RateLimitHarness, zone: &str) -> Result<Scene, BoxError> {
    let zone = Zone::named(zone)?;
    Scene::windows(harness, 2, Window::CalendarDay { zone }).await
}

/// Expects the two permits of a day to last from its first moment, `midnight`, for `hours`.
async fn lasts(scene: &Scene, midnight: Timestamp, hours: u32) -> CaseResult {
    let end = midnight + HOUR * hours;
    assert!(scene.takes(2, midnight - TICK).await?);
    assert!(scene.takes(2, midnight).await?);
    assert_eq!(scene.wait(1, midnight).await?, HOUR * hours);
    assert!(!scene.takes(1, end - TICK).await?);
    assert!(scene.takes(2, end).await?);
    Ok(())
}

async fn a_day_is_counted_from_midnight_of_its_zone(harness: &dyn RateLimitHarness) -> CaseResult {
    let scene = a_day_in(harness, "Asia/Kathmandu").await?;
    // 2026-05-01T00:00:00+05:45
    let midnight = Timestamp::from_millis(1_777_572_900_000);
    lasts(&scene, midnight, 24).await
}

async fn the_day_on_which_clocks_go_forward_has_23_hours(
    harness: &dyn RateLimitHarness,
) -> CaseResult {
    let scene = a_day_in(harness, "America/New_York").await?;
    // 2026-03-08T00:00:00-05:00
    let midnight = Timestamp::from_millis(1_772_946_000_000);
    lasts(&scene, midnight, 23).await
}

async fn the_day_on_which_clocks_go_back_has_25_hours(
    harness: &dyn RateLimitHarness,
) -> CaseResult {
    let scene = a_day_in(harness, "America/New_York").await?;
    // 2026-11-01T00:00:00-04:00
    let midnight = Timestamp::from_millis(1_793_505_600_000);
    lasts(&scene, midnight, 25).await
}
