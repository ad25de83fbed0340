//! Signals between tasks: [`Wake`] (something may have changed) and [`Shutdown`] (stop).

use std::sync::Arc;

use tokio::sync::watch;

/// Wakes those who wait for work; cheap, never lost, and shared by cloning.
///
/// A signal says "look again", no more: listeners may be woken for nothing, and one signal may
/// stand for many changes.
#[derive(Clone, Debug)]
pub struct Wake(Arc<watch::Sender<u64>>);

impl Default for Wake {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Wake {
    /// A signal that nobody has given yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes every listener, also those that begin to wait later but were made before.
    pub fn notify(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A listener for signals given from now on.
    #[must_use]
    pub fn listen(&self) -> WakeListener {
        WakeListener(self.0.subscribe())
    }
}

/// Waits for a [`Wake`].
#[derive(Clone, Debug)]
pub struct WakeListener(watch::Receiver<u64>);

impl WakeListener {
    /// Waits for a signal since the last one seen; returns at once where one was missed.
    ///
    /// Never returns once all [`Wake`]s are gone.
    ///
    /// # Cancel safety
    /// Safe: a dropped wait loses no signal.
    pub async fn notified(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Marks all signals so far as seen; call it before looking, so that what comes later wakes.
    pub fn mark_seen(&mut self) {
        self.0.mark_unchanged();
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
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Shutdown {
    /// A stop that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everyone who holds a clone to stop.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }

    /// Whether the stop was asked for.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the stop is asked for.
    ///
    /// # Cancel safety
    /// Safe: waiting changes nothing.
    pub async fn triggered(&self) {
        let mut receiver = self.0.subscribe();
        if receiver.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
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
