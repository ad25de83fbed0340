use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use outbox_core::signal::Wake;

/// What this process knows of a queue's want of room.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Whether a message did not fit, and nothing has left since.
    full: AtomicBool,
    wake: Wake,
}

impl Room {
    /// A message did not fit. Said by who has the right to write.
    pub(super) fn note_full(&self) {
        self.full.store(true, Ordering::Release);
    }

    /// Something has left the queue.
    pub(super) fn note_left(&self) {
        if self.full.swap(false, Ordering::AcqRel) {
            self.wake.notify();
        }
    }

    /// The signal that there is room again.
    pub(super) fn wake(&self) -> Wake {
        self.wake.clone()
    }
}

/// The rooms of a store's queues, so that all handles on a queue share one.
#[derive(Debug, Default)]
pub(crate) struct Rooms(Mutex<BTreeMap<i64, Arc<Room>>>);

impl Rooms {
    /// The room of the queue with this number.
    pub(super) fn of(&self, queue: i64) -> Arc<Room> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rooms.entry(queue).or_default())
    }
}
