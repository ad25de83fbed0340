use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::ports::Publisher;
use crate::signal::WakeListener;

/// The signals of destinations that took nothing and may take something again.
pub(super) struct Rooms(Vec<(String, WakeListener)>);

impl Rooms {
    pub(super) fn of(publisher: &dyn Publisher) -> Self {
        let rooms = publisher.rooms().into_iter();
        Self(rooms.map(|(name, wake)| (name, wake.listen())).collect())
    }

    /// Waits for the signal of a destination among those that `wait` for one; which it is.
    pub(super) async fn signalled(&mut self, wait: &[String]) -> String {
        let asked = self.0.iter_mut().filter(|(name, _)| wait.contains(name));
        let signals = asked.map(|(name, listener)| async move {
            listener.notified().await;
            name.clone()
        });
        let mut signals: FuturesUnordered<_> = signals.collect();
        match signals.next().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }
}
