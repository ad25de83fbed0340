//! What the tests of this module handle.

use crate::delivery::Delivery;
use crate::id::{MessageId, WorkerId};
use crate::lease::{EntryId, Receipt};
use crate::message::{Message, NewMessage};
use crate::time::Timestamp;

pub(super) fn delivery(new: &NewMessage) -> Delivery {
    let id = MessageId::from_bytes([1; 16]);
    Delivery {
        message: Message::appended(new, id, Timestamp::EPOCH).into(),
        receipt: Receipt {
            entry: EntryId { major: 1, minor: 0 },
            owner: WorkerId::from_bytes([1; 16]),
            token: 1,
        },
        attempt: 1,
        takeovers: 0,
        last_failure: None,
        enqueued_at: Timestamp::EPOCH,
    }
}
