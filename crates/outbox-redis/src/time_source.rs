use std::sync::atomic::{AtomicI64, Ordering};

use outbox_core::error::{OutboxError, Transience};
use outbox_core::time::Timestamp;

use crate::error::{BACKEND, Fault};
use crate::link::Arg;

/// Whose clock decides when leases end, windows begin and ids are forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeSource {
    /// The server's, read once in each script: the clocks of its clients may differ. The default.
    #[default]
    Server,
    /// That of the `now` which every port is told: for tests on made-up moments. The server's own
    /// expiry knows nothing of them, so that keys live a century longer; do not use it elsewhere.
    Caller,
}

impl TimeSource {
    /// The moment in microseconds as scripts take it: nothing where the server is to read its clock.
    pub(crate) fn moment(self, now: Timestamp) -> Arg {
        match self {
            Self::Server => Arg::from_static_str(""),
            Self::Caller => Arg::Integer(now.as_micros()),
        }
    }
}

/// How far the server's clock is ahead of the caller's, as last seen: what a script needs to be told
/// about its moment is made for the moment that it will probably have.
#[derive(Debug, Default)]
pub(crate) struct Drift(AtomicI64);

impl Drift {
    /// The server's moment when the caller has `now`.
    pub(crate) fn apply(&self, now: Timestamp) -> Timestamp {
        let micros = now
            .as_micros()
            .saturating_add(self.0.load(Ordering::Relaxed));
        Timestamp::from_micros(micros)
    }

    /// A script that was called at `now` ran at the server's moment `seen`.
    pub(crate) fn learn(&self, now: Timestamp, seen: Timestamp) {
        let ahead = seen.as_micros().saturating_sub(now.as_micros());
        self.0.store(ahead, Ordering::Relaxed);
    }
}

/// A server whose clock was in another `span` than was thought at each of so many calls.
pub(crate) fn unsteady(span: &str, calls: u32) -> Fault {
    Fault::Told(OutboxError::Backend {
        backend: BACKEND,
        operation: "follow the server's clock",
        transience: Transience::Transient,
        source: format!("it was in another {span} than was thought at each of {calls} calls")
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_whose_clock_differs_is_met_at_its_own_moment() {
        let drift = Drift::default();
        let (here, there) = (Timestamp::from_millis(5_000), Timestamp::from_millis(3_000));
        assert_eq!(drift.apply(here), here);
        drift.learn(here, there);
        assert_eq!(drift.apply(here), there);
    }
}
