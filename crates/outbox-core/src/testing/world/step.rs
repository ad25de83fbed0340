use crate::id::WorkerId;
use crate::lease::{EntryId, Epoch};
use crate::time::Timestamp;

/// The number of a message in a world, from 0, in commit order.
pub type Number = u32;

/// What a settlement made of a message or an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It was published or handled.
    Done,
    /// It failed and waits for another attempt.
    Retry,
    /// It was put back untried.
    PutBack,
    /// It was moved to quarantine.
    Quarantine,
}

/// One thing that took effect in a world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A transaction committed a message.
    Committed {
        /// The message.
        message: Number,
        /// Its ordering key's number.
        key: Option<u32>,
    },
    /// A relay claimed a message.
    Claimed {
        /// The relay's incarnation.
        relay: WorkerId,
        /// The lease's epoch.
        epoch: Epoch,
        /// The message.
        message: Number,
    },
    /// A relay's lease was extended.
    Extended {
        /// The lease's epoch.
        epoch: Epoch,
        /// Until when.
        until: Timestamp,
    },
    /// A relay gave its lease back.
    Released {
        /// The relay's incarnation.
        relay: WorkerId,
    },
    /// A message was sent to the queue.
    Enqueued {
        /// The message.
        message: Number,
        /// Whether it was added; the queue knew it where not.
        added: bool,
    },
    /// A relay settled a message.
    Settled {
        /// The message.
        message: Number,
        /// The epoch under which it was claimed.
        epoch: Epoch,
        /// What was to become of it.
        ending: Ending,
        /// Whether that took effect; the lease was lost where not.
        took: bool,
    },
    /// An unreadable row was moved to the outbox's quarantine.
    SetAside {
        /// Its message.
        message: Number,
    },
    /// An unreadable entry was moved to the queue's quarantine.
    EntrySetAside {
        /// Its message.
        message: Number,
    },
    /// A message was sent to the second place of a world that has one.
    Mirrored {
        /// The message.
        message: Number,
    },
    /// A worker was handed an entry.
    Delivered {
        /// The worker's incarnation.
        worker: WorkerId,
        /// The entry.
        entry: EntryId,
        /// Its message.
        message: Number,
        /// What fences the delivery.
        token: u64,
    },
    /// A handler began with a message.
    Started {
        /// The message.
        message: Number,
    },
    /// A handler's effect was committed.
    Handled {
        /// The message.
        message: Number,
    },
    /// A worker settled an entry.
    Concluded {
        /// The entry.
        entry: EntryId,
        /// What fenced the delivery.
        token: u64,
        /// What was to become of it.
        ending: Ending,
        /// Whether that took effect; the delivery was lost where not.
        took: bool,
    },
    /// A process was dropped where it stood.
    Crashed {
        /// Which one, as `relay 2`.
        process: String,
    },
    /// The faults ended.
    Calm,
}
