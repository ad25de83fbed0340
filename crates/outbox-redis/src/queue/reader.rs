use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Fault;
use crate::link::Link;
use crate::store::RedisStore;

/// The most idle connections that are kept.
const KEPT: usize = 64;

/// Connections for those who read and wait: one each, because a command that waits on the server
/// holds up whatever is behind it.
pub(super) struct Readers {
    store: RedisStore,
    idle: Mutex<Vec<Link>>,
}

/// A connection that one reader has to himself.
pub(super) struct Reader {
    link: Link,
    readers: Arc<Readers>,
    /// Whether nothing is on its way: else it may still wait for something that nobody hears.
    whole: bool,
}

impl Readers {
    pub(super) fn of(store: &RedisStore) -> Self {
        Self {
            store: store.clone(),
            idle: Mutex::default(),
        }
    }

    /// An idle connection, or a new one.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Reader, Fault> {
        self.store.link()?;
        let idle = self.idle().pop();
        let link = match idle {
            Some(link) => link,
            None => self.store.connect().await?,
        };
        Ok(Reader {
            link,
            readers: Arc::clone(self),
            whole: true,
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        for link in self.idle().drain(..) {
            link.abandon();
        }
    }
}

impl Reader {
    /// Has `work` use the connection; it is kept only if the work comes to its end.
    pub(super) async fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&Link) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.whole = false;
        let result = work(&self.link).await;
        self.whole = match &result {
            Ok(_) => true,
            Err(fault) => fault.word().is_some(),
        };
        result
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut idle = self.readers.idle();
        let open = self.readers.store.link().is_ok();
        if self.whole && open && idle.len() < KEPT {
            idle.push(self.link.clone());
        } else {
            self.link.abandon();
        }
    }
}
