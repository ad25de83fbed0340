//! The shop's warehouse: away at first, then with a bug, and with one customer that it cannot know.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use outbox::delivery::Delivery;
use outbox::message::Message;
use outbox::ports::{Handled, Handler, Publisher};
use outbox::{HandlerError, PublishError};

/// Where orders go, straight from an outbox or by a queue.
#[derive(Default)]
pub(crate) struct Warehouse {
    mended: AtomicBool,
    calls: AtomicU32,
    received: Mutex<Vec<Message>>,
}

/// Why the warehouse does not take an order.
enum No {
    /// It never will.
    Never(String),
    /// It may later.
    NotNow(String),
}

impl Warehouse {
    /// Mends the bug.
    pub(crate) fn mend(&self) {
        self.mended.store(true, Ordering::SeqCst);
    }

    /// The orders that it took, in their order.
    pub(crate) fn received(&self) -> Vec<Message> {
        let received = self.received.lock();
        received.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a call comes too early.
    fn is_away(&self) -> bool {
        self.calls.fetch_add(1, Ordering::SeqCst) < 2
    }

    fn take(&self, message: &Message) -> Result<(), No> {
        let id = message.id;
        if message.kind.name == "order.gift" {
            return Err(No::Never(format!("order {id}: no such customer")));
        }
        if message.kind.name == "order.bulk" && !self.mended.load(Ordering::SeqCst) {
            return Err(No::NotNow(format!("order {id}: pallet is null")));
        }
        let received = self.received.lock();
        received
            .unwrap_or_else(PoisonError::into_inner)
            .push(message.clone());
        Ok(())
    }
}

#[async_trait]
impl Publisher for Warehouse {
    fn name(&self) -> &'static str {
        "warehouse"
    }

    fn ordering(&self) -> outbox::status::Ordering {
        outbox::status::Ordering::PerKey
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let away = self.is_away();
        let publish = |message: &Message| match away {
            true => Err(PublishError::unavailable("connection refused")),
            false => self.take(message).map_err(|no| match no {
                No::Never(why) => PublishError::refused(why),
                No::NotNow(why) => PublishError::failed(why),
            }),
        };
        messages.iter().map(publish).collect()
    }
}

#[async_trait]
impl Handler for Warehouse {
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        if self.is_away() {
            return Err(HandlerError::retry("connection refused"));
        }
        let taken = self.take(&delivery.message).map_err(|no| match no {
            No::Never(why) => HandlerError::reject(why),
            No::NotNow(why) => HandlerError::retry(why),
        });
        taken.map(Handled::from)
    }
}
