use crate::error::Fault;
use crate::link::Link;
use crate::store::RedisStore;

/// A connection that one reader has to himself: a command that waits on the server holds up whatever
/// is behind it.
pub(crate) struct Reader {
    link: Link,
    store: RedisStore,
    /// Whether nothing is on its way, and never was lost: else it may still wait for something that
    /// nobody hears.
    whole: bool,
}

impl Reader {
    /// An idle connection of the store, or a new one.
    pub(crate) async fn of(store: &RedisStore) -> Result<Self, Fault> {
        let link = match store.take_idle()? {
            Some(link) => link,
            None => store.connect().await?,
        };
        Ok(Self {
            link,
            store: store.clone(),
            whole: true,
        })
    }

    /// Has `work` use the connection, which is kept only if the work comes to its end; it is broken
    /// off where the store is closed.
    pub(crate) async fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&Link) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let whole = std::mem::replace(&mut self.whole, false);
        let result = tokio::select! {
            result = work(&self.link) => result,
            fault = self.store.closing() => Err(fault),
        };
        self.whole = whole
            && match &result {
                Ok(_) => true,
                Err(fault) => fault.word().is_some(),
            };
        result
    }

    /// Takes another connection where this one may have fallen silent.
    pub(crate) async fn renew(&mut self) -> Result<(), Fault> {
        if !self.whole {
            *self = Self::of(&self.store).await?;
        }
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.whole || !self.store.give_idle(&self.link) {
            self.link.abandon();
        }
    }
}
