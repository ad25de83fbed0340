//! Publishers that need no driver: into subscribers of this process ([`EventBus`]), into a queue
//! ([`QueuePublisher`]), to one publisher by topic ([`TopicRouter`]) and to several destinations at
//! once ([`CompositePublisher`]).

mod composite;
mod event_bus;
mod failures;
#[cfg(test)]
mod fakes;
mod queue;
mod router;
mod runs;

pub use composite::{CompositeConfig, CompositePublisher, Destination, Strategy};
pub use event_bus::{
    EventBus, EventBusConfig, NobodyListens, Selector, SubscriberError, Subscription, Unheard,
};
pub use failures::{DestinationError, DestinationErrors};
pub use queue::QueuePublisher;
pub use router::{TopicRouter, UnknownTopic};
