use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

use crate::BoxError;

/// The variable that names another image, as `valkey/valkey:8`.
const IMAGE_VARIABLE: &str = "OUTBOX_TEST_REDIS_IMAGE";

/// The image of the oldest version that is supported; `scripts/redis-image.sh` makes one of this
/// name where no registry is reached.
const IMAGE: &str = "redis:7.0";

/// A server in a container, which is removed when this is dropped.
pub(crate) struct RedisContainer {
    container: ContainerAsync<GenericImage>,
}

impl RedisContainer {
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let image = std::env::var(IMAGE_VARIABLE).unwrap_or_else(|_| IMAGE.to_owned());
        let (name, tag) = image.split_once(':').ok_or("an image is name:tag")?;
        let image = GenericImage::new(name, tag)
            .with_exposed_port(6379.tcp())
            .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
            .with_cmd(["redis-server", "--save", "", "--protected-mode", "no"]);
        Ok(Self {
            container: image.start().await?,
        })
    }

    /// Where it is reached: always on the loopback, whatever the engine calls its host.
    pub(crate) async fn url(&self) -> Result<String, BoxError> {
        let port = self.container.get_host_port_ipv4(6379.tcp()).await?;
        Ok(format!("redis://127.0.0.1:{port}"))
    }
}
