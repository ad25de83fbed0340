use std::time::Duration;

use async_trait::async_trait;
use outbox_core::error::{ConfigError, OutboxError, Result};
use outbox_core::policy::{Quota, QuotaDecision, Window};
use outbox_core::ports::{RateDecision, RateLimiter};
use outbox_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use crate::error::Fault;
use crate::scope::check_name;
use crate::store::{At, SqliteStore};

/// Allows so many permits in each window of time, and no more, to all processes on one file.
///
/// Counts survive a crash of every process; a power failure may undo those of the last moments.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("outbox.db");
/// use outbox_core::policy::{Window, Zone};
/// use outbox_core::ports::{RateDecision, RateLimiter};
/// use outbox_core::time::Timestamp;
/// use outbox_sqlite::{SqliteFixedWindowLimiter, SqliteStore};
///
/// let store = SqliteStore::open(&path).await?;
/// let window = Window::CalendarDay { zone: Zone::named("Europe/Stockholm")? };
/// let limiter = SqliteFixedWindowLimiter::new(&store, "weather-api", 1_000, window)?;
/// let decision = limiter.allow_request(10, Timestamp::EPOCH).await?;
/// assert_eq!(decision, RateDecision::Allowed { remaining: 990 });
/// # Ok::<_, outbox_core::OutboxError>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SqliteFixedWindowLimiter {
    store: SqliteStore,
    name: String,
    limit: u32,
    window: Window,
}

const TAKEN: &str = "SELECT taken FROM outbox_windows WHERE name = ?1 AND start = ?2";

const TAKE: &str = "\
    INSERT INTO outbox_windows (name, start, taken) VALUES (?1, ?2, ?3) \
    ON CONFLICT (name, start) DO UPDATE SET taken = taken + excluded.taken";

/// Callers' clocks differ at a window's edge, so the window before stays, too.
const FORGET: &str = "DELETE FROM outbox_windows WHERE name = ?1 AND start < ?2";

const GIVE_BACK: &str = "\
    UPDATE outbox_windows SET taken = max(taken - ?3, 0) WHERE name = ?1 AND start = ?2";

impl SqliteFixedWindowLimiter {
    /// Up to `limit` permits in each `window`, counted under `name`, which those who are to share
    /// the limit give it, too.
    ///
    /// # Errors
    /// [`OutboxError::Config`] for a name that is empty or longer than 255 bytes.
    pub fn new(
        store: &SqliteStore,
        name: impl Into<String>,
        limit: u32,
        window: Window,
    ) -> Result<Self> {
        Ok(Self {
            store: store.clone(),
            name: checked(name.into())?,
            limit,
            window,
        })
    }

    async fn decide(&self, permits: u32, now: Timestamp) -> Result<RateDecision, Fault> {
        let bounds = self.window.bounds(now);
        let mut writer = self.store.swift_writer().await?;
        writer.begin().await?;
        let taken: Option<u32> = sqlx::query_scalar(TAKEN)
            .bind(&self.name)
            .bind(bounds.start.as_micros())
            .fetch_optional(writer.connection())
            .await?;
        let sum = taken.unwrap_or(0).saturating_add(permits);
        let Some(remaining) = self.limit.checked_sub(sum) else {
            writer.rollback().await?;
            writer.finish();
            let retry_after = bounds.end.since(now);
            return Ok(RateDecision::Limited { retry_after });
        };
        self.take(writer.connection(), permits, bounds.start)
            .await?;
        if taken.is_none() {
            self.forget(writer.connection(), bounds.start).await?;
        }
        writer.commit().await?;
        writer.finish();
        Ok(RateDecision::Allowed { remaining })
    }

    async fn take(
        &self,
        connection: &mut SqliteConnection,
        permits: u32,
        start: Timestamp,
    ) -> Result<(), Fault> {
        sqlx::query(TAKE)
            .bind(&self.name)
            .bind(start.as_micros())
            .bind(permits)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Forgets all windows but the one that begins at `start`, the one before, and later ones.
    async fn forget(
        &self,
        connection: &mut SqliteConnection,
        start: Timestamp,
    ) -> Result<(), Fault> {
        let before = self.window.bounds(start - Duration::from_micros(1));
        sqlx::query(FORGET)
            .bind(&self.name)
            .bind(before.start.as_micros())
            .execute(connection)
            .await?;
        Ok(())
    }

    async fn give_back(&self, permits: u32, taken_at: Timestamp) -> Result<(), Fault> {
        let mut writer = self.store.swift_writer().await?;
        sqlx::query(GIVE_BACK)
            .bind(&self.name)
            .bind(self.window.bounds(taken_at).start.as_micros())
            .bind(permits)
            .execute(writer.connection())
            .await?;
        writer.finish();
        Ok(())
    }
}

#[async_trait]
impl RateLimiter for SqliteFixedWindowLimiter {
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        check_permits(permits, self.limit)?;
        let decision = self.decide(permits, now).await;
        decision.at(&self.store, "allow request")
    }

    async fn refund(&self, permits: u32, taken_at: Timestamp, _now: Timestamp) -> Result<()> {
        let done = self.give_back(permits, taken_at).await;
        done.at(&self.store, "refund")
    }
}

/// Allows a steady rate with bursts (see [`Quota`]) to all processes on one file.
///
/// What was taken survives a crash of every process; a power failure may undo that of the last
/// moments.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("outbox.db");
/// use outbox_core::policy::Quota;
/// use outbox_core::ports::{RateDecision, RateLimiter};
/// use outbox_core::time::Timestamp;
/// use outbox_sqlite::{SqliteGcraLimiter, SqliteStore};
/// use std::time::Duration;
///
/// let store = SqliteStore::open(&path).await?;
/// let quota = Quota::new(10, Duration::from_secs(1), 5)?;
/// let limiter = SqliteGcraLimiter::new(&store, "weather-api", quota)?;
/// let decision = limiter.allow_request(5, Timestamp::EPOCH).await?;
/// assert_eq!(decision, RateDecision::Allowed { remaining: 0 });
/// # Ok::<_, outbox_core::OutboxError>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SqliteGcraLimiter {
    store: SqliteStore,
    name: String,
    quota: Quota,
}

const DEBT: &str = "SELECT debt_until FROM outbox_debts WHERE name = ?1";

const OWE: &str = "\
    INSERT INTO outbox_debts (name, debt_until) VALUES (?1, ?2) \
    ON CONFLICT (name) DO UPDATE SET debt_until = excluded.debt_until";

impl SqliteGcraLimiter {
    /// What `quota` allows, counted under `name`, which those who are to share it give it, too.
    ///
    /// # Errors
    /// [`OutboxError::Config`] for a name that is empty or longer than 255 bytes.
    pub fn new(store: &SqliteStore, name: impl Into<String>, quota: Quota) -> Result<Self> {
        Ok(Self {
            store: store.clone(),
            name: checked(name.into())?,
            quota,
        })
    }

    async fn decide(&self, permits: u32, now: Timestamp) -> Result<RateDecision, Fault> {
        let mut writer = self.store.swift_writer().await?;
        writer.begin().await?;
        let debt = self.debt(writer.connection()).await?;
        match self.quota.take(permits, debt, now)? {
            QuotaDecision::Allowed {
                debt_until,
                remaining,
            } => {
                self.owe(writer.connection(), debt_until).await?;
                writer.commit().await?;
                writer.finish();
                Ok(RateDecision::Allowed { remaining })
            }
            QuotaDecision::Limited { retry_after } => {
                writer.rollback().await?;
                writer.finish();
                Ok(RateDecision::Limited { retry_after })
            }
        }
    }

    async fn give_back(
        &self,
        permits: u32,
        taken_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let mut writer = self.store.swift_writer().await?;
        writer.begin().await?;
        let debt = self.debt(writer.connection()).await?;
        let debt = self.quota.refund(permits, taken_at, debt, now);
        self.owe(writer.connection(), debt).await?;
        writer.commit().await?;
        writer.finish();
        Ok(())
    }

    /// When all permits that were taken will have been earned back.
    async fn debt(&self, connection: &mut SqliteConnection) -> Result<Timestamp, Fault> {
        let debt: Option<i64> = sqlx::query_scalar(DEBT)
            .bind(&self.name)
            .fetch_optional(connection)
            .await?;
        Ok(Timestamp::from_micros(debt.unwrap_or(i64::MIN)))
    }

    async fn owe(
        &self,
        connection: &mut SqliteConnection,
        debt_until: Timestamp,
    ) -> Result<(), Fault> {
        sqlx::query(OWE)
            .bind(&self.name)
            .bind(debt_until.as_micros())
            .execute(connection)
            .await?;
        Ok(())
    }
}

#[async_trait]
impl RateLimiter for SqliteGcraLimiter {
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        check_permits(permits, self.quota.burst())?;
        let decision = self.decide(permits, now).await;
        decision.at(&self.store, "allow request")
    }

    async fn refund(&self, permits: u32, taken_at: Timestamp, now: Timestamp) -> Result<()> {
        let done = self.give_back(permits, taken_at, now).await;
        done.at(&self.store, "refund")
    }
}

/// Refuses what can never be allowed, before anything is touched.
fn check_permits(permits: u32, limit: u32) -> Result<()> {
    if permits <= limit {
        return Ok(());
    }
    Err(OutboxError::Limit {
        what: "permits in one request".to_owned(),
        actual: u64::from(permits),
        limit: u64::from(limit),
    })
}

fn checked(name: String) -> Result<String> {
    let mut error = ConfigError::default();
    check_name(&mut error, &name);
    error.into_result()?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::assert_no_scans;

    #[tokio::test]
    async fn no_statement_grows_with_the_number_of_limiters() {
        assert_no_scans(&[TAKEN, TAKE, FORGET, GIVE_BACK, DEBT, OWE]).await;
    }
}
