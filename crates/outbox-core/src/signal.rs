//! Signals between tasks: [`Wake`] (something may have changed) and [`Shutdown`] (stop).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// Wakes those who wait for work; cheap, never lost, and shared by cloning.
///
/// A signal says "look again", no more: listeners may be woken for nothing, and one signal may
/// stand for many changes. Listeners are woken in the order in which they began to wait, so that a
/// seeded simulation is the same in each run.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Signals>);

#[derive(Debug, Default)]
struct Signals {
    given: AtomicU64,
    waiting: Notify,
}

impl Wake {
    /// A signal that nobody has given yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes every listener, also those that begin to wait later but were made before.
    pub fn notify(&self) {
        self.0.given.fetch_add(1, Ordering::SeqCst);
        self.0.waiting.notify_waiters();
    }

    /// A listener for signals given from now on.
    #[must_use]
    pub fn listen(&self) -> WakeListener {
        WakeListener {
            signals: Arc::clone(&self.0),
            seen: self.0.given.load(Ordering::SeqCst),
        }
    }
}

/// Waits for a [`Wake`].
#[derive(Clone, Debug)]
pub struct WakeListener {
    signals: Arc<Signals>,
    seen: u64,
}

impl WakeListener {
    /// Waits for a signal since the last one seen; returns at once where one was missed.
    ///
    /// Never returns once all [`Wake`]s are gone.
    ///
    /// # Cancel safety
    /// Safe: a dropped wait loses no signal.
    pub async fn notified(&mut self) {
        loop {
            let mut signal = pin!(self.signals.waiting.notified());
            // In line before the count is read: what is given from here on ends the wait.
            signal.as_mut().enable();
            let given = self.signals.given.load(Ordering::SeqCst);
            if given != self.seen {
                self.seen = given;
                return;
            }
            signal.await;
        }
    }

    /// Marks all signals so far as seen; call it before looking, so that what comes later wakes.
    pub fn mark_seen(&mut self) {
        self.seen = self.signals.given.load(Ordering::SeqCst);
    }
}

/// Asks for a graceful stop; shared by cloning, and cannot be taken back.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outbox_core::signal::Shutdown;
///
/// let shutdown = Shutdown::new();
/// let seen_by_a_task = shutdown.clone();
/// shutdown.trigger();
/// seen_by_a_task.triggered().await;
/// # });
/// ```
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<Stop>);

#[derive(Debug, Default)]
struct Stop {
    asked: AtomicBool,
    waiting: Notify,
}

impl Shutdown {
    /// A stop that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everyone who holds a clone to stop.
    #[doc(alias = "Stop")]
    pub fn trigger(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
        self.0.waiting.notify_waiters();
    }

    /// Whether the stop was asked for.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// Waits until the stop is asked for.
    ///
    /// # Cancel safety
    /// Safe: waiting changes nothing.
    pub async fn triggered(&self) {
        let mut asked = pin!(self.0.waiting.notified());
        // In line before the flag is read: a stop from here on ends the wait.
        asked.as_mut().enable();
        if !self.is_triggered() {
            asked.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_given_before_the_wait_is_not_lost() {
        let wake = Wake::new();
        let mut listener = wake.listen();
        wake.notify();
        listener.notified().await;
    }

    #[tokio::test]
    async fn a_stop_ends_every_wait_and_those_that_begin_after_it() {
        let shutdown = Shutdown::new();
        let early = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.triggered().await }
        });
        tokio::task::yield_now().await;
        shutdown.trigger();
        early.await.unwrap();
        shutdown.triggered().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_seen_signal_does_not_wake_again() {
        let wake = Wake::new();
        let mut listener = wake.listen();
        wake.notify();
        listener.mark_seen();
        let wait = tokio::time::timeout(std::time::Duration::from_secs(1), listener.notified());
        assert!(wait.await.is_err());
    }
}
