use crate::BoxError;
use crate::container::RedisContainer;
use crate::server::RedisServer;

/// The variable that names a server for tests to share, as `redis://127.0.0.1:6379`.
pub const URL_VARIABLE: &str = "OUTBOX_TEST_REDIS_URL";

/// What to do where there is no server and none can be made.
const INSTRUCTIONS: &str = "set OUTBOX_TEST_REDIS_URL to a server that tests may write to, start \
    Docker with an image redis:7.0 in reach, or install the package redis-server; `bash \
    scripts/test.sh` does the last by itself on Debian and Ubuntu";

/// A server that many tests use side by side, each under a key prefix of its own; one that was made
/// for it goes when this is dropped.
pub struct Shared {
    url: String,
    source: String,
    /// What runs as long as this lives, where it was started for it.
    _running: Option<Box<dyn std::any::Any + Send + Sync>>,
}

impl Shared {
    /// The server that the environment names, else one in a container, else a local process.
    ///
    /// # Errors
    /// Where none can be had: what was tried, why it failed, and what to do.
    pub async fn start() -> Result<Self, BoxError> {
        if let Ok(url) = std::env::var(URL_VARIABLE) {
            return Ok(Self {
                url,
                source: format!("the server that {URL_VARIABLE} names"),
                _running: None,
            });
        }
        let no_container = match Self::in_container().await {
            Ok(shared) => return Ok(shared),
            Err(error) => error,
        };
        let server = RedisServer::start(&[]).await.map_err(|error| {
            format!("no Redis: no container ({no_container}), no process ({error}); {INSTRUCTIONS}")
        })?;
        Ok(Self {
            url: server.url(),
            source: format!("a local redis-server, because there is no container ({no_container})"),
            _running: Some(Box::new(server)),
        })
    }

    /// A server in a container, and nothing else.
    ///
    /// # Errors
    /// Where no container can be started.
    pub async fn in_container() -> Result<Self, BoxError> {
        let container = RedisContainer::start().await?;
        Ok(Self {
            url: container.url().to_owned(),
            source: "a container".to_owned(),
            _running: Some(Box::new(container)),
        })
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it comes from, in words.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}
