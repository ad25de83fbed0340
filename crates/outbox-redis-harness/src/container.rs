use std::thread::JoinHandle;

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::BoxError;

/// The variable that names another image, as `valkey/valkey:8`.
const IMAGE_VARIABLE: &str = "OUTBOX_TEST_REDIS_IMAGE";

/// The image of the oldest version that is supported; `scripts/redis-image.sh` makes one of this
/// name where no registry is reached.
const IMAGE: &str = "redis:7.0";

/// A server in a container, which is removed when this is dropped, on whatever thread that is.
pub(crate) struct RedisContainer {
    url: String,
    /// Removes the container once this is dropped.
    stop: Option<oneshot::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl RedisContainer {
    /// Starts one, kept by a thread of its own: it outlives the runtime of the test that needed it
    /// first.
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let (told, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let keeper = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(keep(told, stopped)),
                Err(error) => drop(told.send(Err(error.into()))),
            }
        });
        Ok(Self {
            url: started.await??,
            stop: Some(stop),
            keeper: Some(keeper),
        })
    }

    /// Where it is reached.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for RedisContainer {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A thread that panicked has said so.
        self.keeper.take().map(JoinHandle::join);
    }
}

async fn keep(told: oneshot::Sender<Result<String, BoxError>>, stopped: oneshot::Receiver<()>) {
    match start().await {
        Ok((container, url)) => {
            drop(told.send(Ok(url)));
            drop(stopped.await);
            // What cannot be removed is labelled as testcontainers' own.
            container.rm().await.ok();
        }
        Err(error) => drop(told.send(Err(error))),
    }
}

async fn start() -> Result<(ContainerAsync<GenericImage>, String), BoxError> {
    let image = std::env::var(IMAGE_VARIABLE).unwrap_or_else(|_| IMAGE.to_owned());
    let (name, tag) = image.split_once(':').ok_or("an image is name:tag")?;
    let image = GenericImage::new(name, tag)
        .with_exposed_port(6379.tcp())
        .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
        .with_cmd(["redis-server", "--save", "", "--protected-mode", "no"]);
    let container = image.start().await?;
    let port = container.get_host_port_ipv4(6379.tcp()).await?;
    // Always on the loopback, whatever the engine calls its host.
    Ok((container, format!("redis://127.0.0.1:{port}")))
}
