//! Leaves the right to write to those who cannot wait.
//!
//! Moving dead letters is work in the background, and so is forgetting what has expired: there may be
//! very much of it, and nobody waits for the next one. Alone it goes as fast as it can. While others
//! write it takes no more than its share of the time: after each transaction it rests in proportion
//! to what that took.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep_until};

/// For so long after somebody wrote, more of the same is expected.
const BUSY: Duration = Duration::from_millis(100);
/// The longest rest, however long a transaction took.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// When background work may write.
#[derive(Debug)]
struct Pace {
    /// How many times as long as it wrote it rests.
    rests: f64,
    /// When somebody else last wrote.
    others_wrote: Option<Instant>,
    /// Until when it rests, while others write.
    rested: Option<Instant>,
}

impl Pace {
    /// Background work gets `percent` of the time, from 1 to 100.
    fn new(percent: u8) -> Self {
        let share = f64::from(percent.clamp(1, 100)) / 100.0;
        Self {
            rests: (1.0 - share) / share,
            others_wrote: None,
            rested: None,
        }
    }

    /// When to ask again; `None` where it may write at `now`.
    fn waits_until(&self, now: Instant) -> Option<Instant> {
        let rested = self.rested.filter(|rested| *rested > now)?;
        let quiet = self.others_wrote? + BUSY;
        (quiet > now).then(|| quiet.min(rested))
    }

    /// Notes that background work wrote from `began` to `ended`.
    fn wrote(&mut self, began: Instant, ended: Instant) {
        let took = ended.duration_since(began);
        self.rested = Some(ended + took.mul_f64(self.rests).min(LONGEST_REST));
    }
}

/// The background work of one store: one transaction at a time, at its pace.
#[derive(Debug)]
pub(crate) struct Background {
    pace: Mutex<Pace>,
    line: Arc<AsyncMutex<()>>,
}

impl Background {
    /// Work that gets `percent` of the time while others write.
    pub(crate) fn new(percent: u8) -> Arc<Self> {
        Arc::new(Self {
            pace: Mutex::new(Pace::new(percent)),
            line: Arc::default(),
        })
    }

    /// Notes that somebody else writes.
    pub(crate) fn others_write(&self) {
        self.pace().others_wrote = Some(Instant::now());
    }

    /// Whether nobody else has written for a while.
    #[cfg(feature = "dlq")]
    pub(crate) fn is_alone(&self) -> bool {
        let others_wrote = self.pace().others_wrote;
        others_wrote.is_none_or(|wrote| wrote + BUSY <= Instant::now())
    }

    /// The next one in line, once it may write.
    pub(crate) async fn next(self: &Arc<Self>) -> Next {
        let line = Arc::clone(&self.line).lock_owned().await;
        loop {
            let waits_until = self.pace().waits_until(Instant::now());
            match waits_until {
                Some(until) => sleep_until(until).await,
                None => break,
            }
        }
        Next {
            background: Arc::clone(self),
            _line: line,
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Background work that may write once it is its turn.
pub(crate) struct Next {
    background: Arc<Background>,
    _line: OwnedMutexGuard<()>,
}

impl Next {
    /// It is its turn.
    pub(crate) fn begin(self) -> Stint {
        Stint {
            next: self,
            began: Instant::now(),
        }
    }
}

/// Background work that writes; where it ends, in whatever way, the rest begins.
pub(crate) struct Stint {
    next: Next,
    began: Instant,
}

impl Drop for Stint {
    fn drop(&mut self) {
        let ended = Instant::now();
        self.next.background.pace().wrote(self.began, ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn alone_it_never_rests() {
        let background = Background::new(5);
        let started = Instant::now();
        for _ in 0..100 {
            let stint = background.next().await.begin();
            tokio::time::advance(6 * MS).await;
            drop(stint);
        }
        assert_eq!(started.elapsed(), 600 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn while_others_write_it_has_its_share_of_the_time() {
        for percent in [1, 5, 10, 50, 100] {
            let background = Background::new(percent);
            let others = tokio::spawn({
                let background = Arc::clone(&background);
                async move {
                    loop {
                        background.others_write();
                        tokio::time::sleep(10 * MS).await;
                    }
                }
            });
            tokio::task::yield_now().await;
            let (started, mut wrote) = (Instant::now(), Duration::ZERO);
            while started.elapsed() < Duration::from_secs(60) {
                let stint = background.next().await.begin();
                tokio::time::sleep(5 * MS).await;
                drop(stint);
                wrote += 5 * MS;
            }
            others.abort();
            let share = wrote.as_secs_f64() / started.elapsed().as_secs_f64();
            let expected = f64::from(percent) / 100.0;
            assert!(
                (share / expected - 1.0).abs() < 0.02,
                "{share}: {percent} %"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_ends_when_the_others_do() {
        let background = Background::new(1);
        background.others_write();
        let stint = background.next().await.begin();
        tokio::time::advance(8 * MS).await;
        drop(stint);
        let rest = Instant::now();
        background.next().await;
        assert_eq!(rest.elapsed(), BUSY - 8 * MS, "not 792 ms");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_has_an_end() {
        let background = Background::new(1);
        let stint = background.next().await.begin();
        tokio::time::advance(60_000 * MS).await;
        drop(stint);
        let rest = Instant::now();
        let next = background.next();
        tokio::pin!(next);
        loop {
            background.others_write();
            if tokio::time::timeout(10 * MS, &mut next).await.is_ok() {
                break;
            }
        }
        assert_eq!(rest.elapsed(), LONGEST_REST);
    }

    #[tokio::test(start_paused = true)]
    async fn two_of_them_share_one_share() {
        let background = Background::new(50);
        background.others_write();
        let first = background.next().await;
        let second = tokio::spawn({
            let background = Arc::clone(&background);
            async move { background.next().await.begin() }
        });
        let stint = first.begin();
        tokio::time::sleep(20 * MS).await;
        assert!(!second.is_finished());
        drop(stint);
        let rest = Instant::now();
        second.await.unwrap();
        assert_eq!(rest.elapsed(), 20 * MS);
    }
}
