//! Leases: temporary, fenced rights to messages and deliveries.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::WorkerId;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// A message's place in its outbox, from 1, in commit order, never reused; 0 before append.
    Sequence
}
number! {
    /// The number of a lease: it grows with every change of holder, so that a sink and a store can
    /// tell a stale holder from the present one; 0 before the first lease.
    Epoch
}

/// Proof that a message was claimed: which one, and under which lease.
///
/// A backend may lease the whole outbox, a part of it or each row; the token hides which.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseToken {
    /// The claimed message.
    pub sequence: Sequence,
    /// The lease that it was claimed under.
    pub epoch: Epoch,
}

/// A queue's own name for one entry: two numbers, as Redis Streams have them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntryId {
    /// The leading number: milliseconds in Redis, the row in SQLite.
    pub major: u64,
    /// The second number; 0 where the backend has none.
    pub minor: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.major, self.minor)
    }
}

/// Proof that a delivery was handed out: which entry, to whom, and for which time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Receipt {
    /// The delivered entry.
    pub entry: EntryId,
    /// The worker that it was delivered to.
    pub owner: WorkerId,
    /// Fences the delivery: differs each time the entry is handed out.
    pub token: u64,
}
