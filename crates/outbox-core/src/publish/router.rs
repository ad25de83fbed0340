use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::runs::{Answer, HeldKeys, publish_runs};
use crate::error::PublishError;
use crate::message::Message;
use crate::ports::Publisher;
use crate::signal::Wake;
use crate::status::Ordering;

/// Sends each topic to a publisher of its own.
///
/// A topic that nobody was named for goes to the default publisher; without one it is refused, with
/// [`UnknownTopic`] as the cause, and so rests in quarantine until it has a route.
///
/// ```
/// use outbox_core::publish::{EventBus, TopicRouter};
/// use std::sync::Arc;
///
/// let orders = Arc::new(EventBus::new("orders-bus"));
/// let rest = Arc::new(EventBus::new("rest-bus"));
/// let router = TopicRouter::new("router").route("orders", orders).otherwise(rest);
/// ```
pub struct TopicRouter {
    name: String,
    routes: HashMap<String, Arc<dyn Publisher>>,
    default: Arc<dyn Publisher>,
}

impl TopicRouter {
    /// A router without routes, named `name`.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            default: Arc::new(Nowhere { name: name.clone() }),
            routes: HashMap::new(),
            name,
        }
    }

    /// Sends exactly `topic` to `publisher`; replaces an earlier route of that topic.
    #[must_use]
    pub fn route(mut self, topic: impl Into<String>, publisher: Arc<dyn Publisher>) -> Self {
        self.routes.insert(topic.into(), publisher);
        self
    }

    /// Sends every other topic to `publisher`.
    #[must_use]
    pub fn otherwise(mut self, publisher: Arc<dyn Publisher>) -> Self {
        self.default = publisher;
        self
    }

    fn publisher(&self, message: &Message) -> &dyn Publisher {
        let routed = self.routes.get(&message.topic);
        routed.unwrap_or(&self.default).as_ref()
    }
}

#[async_trait]
impl Publisher for TopicRouter {
    fn name(&self) -> &str {
        &self.name
    }

    fn destination<'a>(&'a self, message: &'a Message) -> Cow<'a, str> {
        self.publisher(message).destination(message)
    }

    fn routes(&self) -> bool {
        true
    }

    fn ordering(&self) -> Ordering {
        let routed = self.routes.values().map(|publisher| publisher.ordering());
        let default = self.default.ordering();
        routed.fold(default, Ordering::min)
    }

    /// The least of those that it routes to; 1 where two of them may have a destination of the same
    /// name, since neither knows what is under way at the other.
    fn pipeline_depth(&self) -> usize {
        let mut names = HashMap::new();
        let mut depth = self.default.pipeline_depth();
        for publisher in self.routes.values().chain([&self.default]) {
            let known = names.insert(publisher.name(), publisher);
            if publisher.routes() || known.is_some_and(|known| !Arc::ptr_eq(known, publisher)) {
                return 1;
            }
            depth = depth.min(publisher.pipeline_depth());
        }
        depth
    }

    fn rooms(&self) -> Vec<(String, Wake)> {
        let publishers = self.routes.values().chain([&self.default]);
        publishers.flat_map(|publisher| publisher.rooms()).collect()
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        publish_runs(messages, |message| self.publisher(message)).await
    }
}

/// A topic that a [`TopicRouter`] has no route for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no route for topic `{topic}` in {router}")]
pub struct UnknownTopic {
    /// The topic.
    pub topic: String,
    /// The router's name.
    pub router: String,
}

/// Where topics without a route go: it refuses them all.
struct Nowhere {
    name: String,
}

impl Nowhere {
    fn refuse(&self, message: &Message) -> Answer {
        Err(PublishError::refused(UnknownTopic {
            topic: message.topic.clone(),
            router: self.name.clone(),
        }))
    }
}

#[async_trait]
impl Publisher for Nowhere {
    fn name(&self) -> &str {
        &self.name
    }

    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Answer> {
        let mut held = HeldKeys::default();
        let answer = |message| {
            let behind = held.holds(message);
            let answer = if behind {
                Err(PublishError::HeldBack)
            } else {
                self.refuse(message)
            };
            held.note(message, &answer);
            answer
        };
        messages.iter().map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::fakes::{Sink, kinds, message};

    fn router(orders: &Arc<Sink>) -> TopicRouter {
        TopicRouter::new("router").route("orders", Arc::clone(orders) as Arc<dyn Publisher>)
    }

    #[tokio::test]
    async fn each_topic_goes_to_its_publisher_and_the_rest_to_the_default() {
        let (orders, rest) = (Sink::new("orders"), Sink::new("rest"));
        let router = router(&orders).otherwise(Arc::clone(&rest) as Arc<dyn Publisher>);
        let messages = [message(1, "orders", None), message(2, "bills", None)];
        assert_eq!(kinds(&router.publish(&messages).await), ["ok", "ok"]);
        assert_eq!((orders.taken(), rest.taken()), (vec![1], vec![2]));
        let destinations: Vec<_> = messages.iter().map(|m| router.destination(m)).collect();
        assert_eq!(destinations, ["orders", "rest"]);
    }

    #[tokio::test]
    async fn a_topic_without_a_route_is_refused_by_name() {
        let router = router(&Sink::new("orders"));
        let bill = message(1, "bills", None);
        assert_eq!(router.destination(&bill), "router");
        let answers = router.publish(&[bill]).await;
        let text = answers[0].as_ref().unwrap_err().to_string();
        assert_eq!(
            text,
            "message refused: no route for topic `bills` in router"
        );
    }

    #[tokio::test]
    async fn a_key_that_crosses_topics_stops_at_its_first_failure() {
        let orders = Sink::new("orders");
        let messages = [
            message(1, "bills", Some("k")),
            message(2, "orders", Some("k")),
            message(3, "orders", Some("other")),
            message(4, "bills", Some("k")),
        ];
        let answers = router(&orders).publish(&messages).await;
        assert_eq!(kinds(&answers), ["refused", "held-back", "ok", "held-back"]);
        assert_eq!(orders.taken(), [3]);
    }

    #[test]
    fn a_router_keeps_no_more_order_than_its_weakest_publisher() {
        let unordered: Arc<dyn Publisher> = Arc::new(Sink::unordered("heap"));
        let sink = Sink::new("orders");
        assert_eq!(router(&sink).ordering(), Ordering::PerKey);
        let router = router(&sink).otherwise(unordered);
        assert_eq!(router.ordering(), Ordering::None);
    }

    #[test]
    fn calls_rely_on_each_other_only_where_one_publisher_has_all_of_them() {
        let depth = |names: [&str; 3]| {
            let [orders, bills, rest] = names.map(|name| Sink::new(name) as Arc<dyn Publisher>);
            let router = TopicRouter::new("router").route("orders", orders);
            let router = router.route("bills", bills).otherwise(rest);
            router.pipeline_depth()
        };
        assert_eq!(depth(["a", "b", "c"]), 3);
        assert_eq!(depth(["a", "b", "a"]), 1);
        let shared = Sink::new("a") as Arc<dyn Publisher>;
        let router = || TopicRouter::new("router").otherwise(Arc::clone(&shared));
        assert_eq!(router().route("x", Arc::clone(&shared)).pipeline_depth(), 3);
        let nested = router().route("x", Arc::new(router()));
        assert_eq!(nested.pipeline_depth(), 1);
    }
}
