use outbox_core::error::BoxError;
use outbox_core::id::Entropy;
use outbox_redis::{RedisOptions, RedisStore, TimeSource};
use outbox_redis_harness::Shared;
use tokio::sync::OnceCell;

/// The server that all cases share, started when the first of them runs.
#[derive(Default)]
pub(crate) struct Server(OnceCell<Shared>);

/// A place on the server that no other case uses.
#[derive(Clone)]
pub(crate) struct Place {
    url: String,
    prefix: String,
}

impl Server {
    pub(crate) async fn place(&self) -> Result<Place, BoxError> {
        let shared = self.0.get_or_try_init(Shared::start).await?;
        Ok(Place {
            url: shared.url().to_owned(),
            prefix: format!("kit-{:016x}", Entropy::from_system().next_u64()),
        })
    }
}

impl Place {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A store on moments that cases make up.
    pub(crate) async fn store(&self) -> Result<RedisStore, BoxError> {
        let options = RedisOptions::new(&self.url)
            .prefix(&self.prefix)
            .time_source(TimeSource::Caller);
        Ok(RedisStore::open_with(options).await?)
    }
}
