//! Windows begin and permits come back by the server's clock.

use outbox_core::policy::Zone;
use outbox_redis::RedisDailyRateLimiter;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::*;

async fn scene() -> Result<(RedisServer, RedisStore), BoxError> {
    let server = RedisServer::start(&[]).await?;
    let store = RedisStore::open(server.url()).await?;
    Ok((server, store))
}

/// The server's moment.
async fn time(wire: &mut Wire) -> Result<Timestamp, BoxError> {
    let parts = wire.command(&["TIME"]).await?.list();
    let numbers: Vec<_> = parts.into_iter().filter_map(|part| part.number()).collect();
    let [seconds, micros] = numbers[..] else {
        return Err("TIME is two numbers".into());
    };
    Ok(Timestamp::from_micros(seconds * 1_000_000 + micros))
}

#[tokio::test]
async fn a_day_is_the_servers_in_the_quotas_zone() -> Tested {
    let (server, store) = scene().await?;
    let mut wire = server.wire().await?;
    let zone = Zone::named("Asia/Kathmandu")?;
    let limiter = RedisDailyRateLimiter::new(&store, "api", 10, zone.clone(), patient())?;
    let day = Window::CalendarDay { zone }.bounds(time(&mut wire).await?);
    let decision = limiter.allow_request(4, NOW).await?;
    assert_eq!(decision, RateDecision::Allowed { remaining: 6 });
    let RateDecision::Limited { retry_after } = limiter.allow_request(7, NOW).await? else {
        return Err("six are left".into());
    };
    let left = day.end.since(time(&mut wire).await?);
    assert!(
        retry_after >= left && retry_after < left + SECOND * 5,
        "{retry_after:?}"
    );

    let key = "outbox:{api}:window";
    let ends = wire.command(&["PEXPIRETIME", key]).await?.number();
    assert_eq!(ends, Some((day.end + SECOND * 60).as_millis()));
    let start = wire.command(&["HGET", key, "start"]).await?.number();
    assert_eq!(start, Some(day.start.as_micros()));
    Ok(())
}

#[tokio::test]
async fn callers_whose_clocks_differ_by_years_share_one_window() -> Tested {
    let (_server, store) = scene().await?;
    let [limiter, _] = limiters(&store, patient())?;
    let [other, _] = limiters(&store, patient())?;
    let mut allowed = 0;
    for year in 0..10 {
        let now = NOW + HOUR * 24 * 365 * 20 * year;
        for limiter in [&limiter, &other] {
            let decision = limiter.allow_request(1, now).await?;
            allowed += u32::from(matches!(decision, RateDecision::Allowed { .. }));
        }
    }
    assert_eq!(allowed, 10);
    Ok(())
}

#[tokio::test]
async fn a_window_that_ends_lets_the_next_begin() -> Tested {
    let (_server, store) = scene().await?;
    let window = Window::Fixed(SECOND);
    let limiter = RedisFixedWindowLimiter::new(&store, "short", 5, window, patient())?;
    let (began, mut allowed, mut windows) = (Instant::now(), 0, 0_u32);
    while windows < 3 {
        match limiter.allow_request(1, NOW).await? {
            RateDecision::Allowed { remaining } => {
                windows += u32::from(remaining == 4);
                allowed += 1;
            }
            RateDecision::Limited { retry_after } => {
                assert!(retry_after <= SECOND);
                sleep(retry_after).await;
            }
        }
        assert!(began.elapsed() < SECOND * 20);
    }
    // The last of the windows has only begun.
    assert_eq!(allowed, 5 + 5 + 1);
    Ok(())
}

#[tokio::test]
async fn many_callers_at_once_get_exactly_the_limit() -> Tested {
    let (server, _) = scene().await?;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let store = RedisStore::open(server.url()).await?;
        for limiter in limiters(&store, patient())? {
            tasks.spawn(async move {
                let mut allowed = 0;
                for _ in 0..50 {
                    allowed += u32::from(takes(&*limiter, 1).await?);
                }
                Ok::<_, BoxError>(allowed)
            });
        }
    }
    let mut allowed = 0;
    for count in tasks.join_all().await {
        allowed += count?;
    }
    assert_eq!(allowed, 10 + 10);
    Ok(())
}

#[tokio::test]
async fn a_steady_rate_is_kept_on_the_servers_clock() -> Tested {
    let (_server, store) = scene().await?;
    let quota = Quota::new(50, SECOND, 10)?;
    let limiter = RedisGcraLimiter::new(&store, "steady", quota, patient())?;
    let (began, mut allowed) = (Instant::now(), 0);
    while began.elapsed() < SECOND * 2 {
        match limiter.allow_request(1, NOW).await? {
            RateDecision::Allowed { .. } => allowed += 1,
            RateDecision::Limited { retry_after } => {
                assert!(retry_after <= SECOND / 50, "{retry_after:?}");
                sleep(retry_after).await;
            }
        }
    }
    let most = 10.0 + 50.0 * began.elapsed().as_secs_f64();
    assert!(f64::from(allowed) <= most + 1.0, "{allowed} of {most}");
    assert!(allowed > 30, "{allowed}");
    Ok(())
}

#[tokio::test]
async fn whatever_is_asked_every_counter_ends() -> Tested {
    let (server, store) = scene().await?;
    let mut wire = server.wire().await?;
    for limiter in limiters(&store, patient())? {
        assert!(takes(&*limiter, 10).await?);
        assert!(!takes(&*limiter, 3).await?);
        limiter.refund(4, NOW, NOW).await?;
        assert!(takes(&*limiter, 4).await?);
        assert_eq!(endless(&mut wire).await?, Vec::<String>::new());
    }
    assert_eq!(wire.command(&["DBSIZE"]).await?.number(), Some(2));
    Ok(())
}

#[tokio::test]
async fn a_refund_where_nothing_is_counted_makes_no_counter() -> Tested {
    let (server, store) = scene().await?;
    for limiter in limiters(&store, patient())? {
        limiter.refund(3, NOW, NOW).await?;
        limiter.refund(3, NOW, NOW + HOUR * 24 * 36_500).await?;
    }
    let keys = server.wire().await?.command(&["DBSIZE"]).await?.number();
    assert_eq!(keys, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_refund_of_another_window_gives_nothing_to_this_one() -> Tested {
    let (_server, store) = scene().await?;
    let window = Window::Fixed(HOUR);
    let limiter = RedisFixedWindowLimiter::new(&store, "hour", 10, window, patient())?;
    assert!(takes(&limiter, 10).await?);
    limiter.refund(10, NOW, NOW + HOUR * 2).await?;
    assert!(!takes(&limiter, 1).await?);
    limiter.refund(10, NOW, NOW).await?;
    assert!(takes(&limiter, 10).await?);
    Ok(())
}
