use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::Builder;
use tokio::task::AbortHandle;

use super::spawn;
use crate::error::Fault;

/// A client of the driver, and the task that drives its connections.
#[derive(Clone)]
pub(super) struct Line {
    client: Client,
    driver: AbortHandle,
}

/// A connection in the making, which is closed where nobody waits for it any more.
struct Connecting(Option<Client>);

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            spawn(async move {
                client.quit().await.ok();
            });
        }
    }
}

impl Line {
    /// Connects as `builder` says, and fails at once where that cannot be done.
    pub(super) async fn open(builder: &Builder) -> Result<Self, Fault> {
        let client = builder.build()?;
        let mut connecting = Connecting(Some(client.clone()));
        let driver = client.init().await?.abort_handle();
        connecting.0 = None;
        Ok(Self { client, driver })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether both are the same one.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.driver.id() == other.driver.id()
    }

    /// Whether the driver does nothing more: what is sent to it waits for ever.
    pub(super) fn has_ended(&self) -> bool {
        self.driver.is_finished()
    }

    /// Closes the connections once what was sent is answered, or the driver gives up on that.
    pub(super) async fn quit(&self) {
        // A server that is gone has closed them already.
        self.client.quit().await.ok();
        self.break_off();
    }

    /// Closes the connections at once: whoever waits for an answer is told that there will be none.
    pub(super) fn break_off(&self) {
        self.driver.abort();
    }
}
