//! The one seam between this crate and its driver: nothing else sends a command.
//!
//! Every command is sent at most once and under a time limit of the driver's own, because a limit
//! around the driver leaves the command in its queue. Scripts go by `EVALSHA` and, where the server
//! does not know them, by `EVAL`: never by the driver's own functions for scripts, transactions or
//! pipelines, which send again what may have taken effect.

mod reply;
mod script;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::Options;
use fred::types::{Builder, ClusterHash, CustomCommand};

pub(crate) use fred::types::Value as Arg;
pub(crate) use reply::Reply;
pub(crate) use script::Script;
use tokio::runtime::Handle;

use crate::error::{Answer, Fault};

/// How much longer than the server the driver waits for a command that blocks.
const BLOCK_MARGIN: Duration = Duration::from_millis(500);

/// One connection to a server, or one to each node of a cluster; shared by cloning.
#[derive(Clone)]
pub(crate) struct Link {
    client: Client,
    timeout: Duration,
    /// The time limit of one who is in a hurry, and does not conclude from a silence that long that
    /// the connection is dead.
    hurry: Option<Duration>,
    /// Whether the connection is being made anew, or asked after, because it fell silent.
    reviving: Arc<AtomicBool>,
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

/// How a command is sent.
struct Sending<'a> {
    name: &'static str,
    /// The key that says which node of a cluster it goes to; any node where there is none.
    key: Option<&'a str>,
    blocking: bool,
    timeout: Duration,
}

impl Link {
    /// Connects as `builder` says, and fails at once where that cannot be done.
    pub(crate) async fn connect(builder: &Builder, timeout: Duration) -> Result<Self, Fault> {
        let client = builder.build()?;
        let mut connecting = Connecting(Some(client.clone()));
        client.init().await?;
        connecting.0 = None;
        Ok(Self {
            client,
            timeout,
            hurry: None,
            reviving: Arc::default(),
        })
    }

    /// This link, for one who waits no longer than `timeout` for any command.
    pub(crate) fn within(&self, timeout: Duration) -> Self {
        Self {
            hurry: Some(timeout.min(self.timeout)),
            ..self.clone()
        }
    }

    /// Sends a command about `key`.
    pub(crate) async fn command(
        &self,
        name: &'static str,
        key: Option<&str>,
        args: Vec<Arg>,
    ) -> Result<Reply, Fault> {
        let sending = Sending {
            name,
            key,
            blocking: false,
            timeout: self.hurry.unwrap_or(self.timeout),
        };
        self.send(sending, args).await
    }

    /// Sends a command about `key` that the server may hold for up to `block` before it answers.
    ///
    /// Nobody else's commands may go through this link meanwhile: they would wait as long.
    pub(crate) async fn blocking(
        &self,
        name: &'static str,
        key: &str,
        args: Vec<Arg>,
        block: Duration,
    ) -> Result<Reply, Fault> {
        let sending = Sending {
            name,
            key: Some(key),
            blocking: true,
            timeout: block + BLOCK_MARGIN + self.timeout,
        };
        self.send(sending, args).await
    }

    /// Runs `script` on `keys`, which lie in one slot, with `args`.
    pub(crate) async fn run(
        &self,
        script: &'static Script,
        keys: &[&str],
        args: Vec<Arg>,
    ) -> Result<Reply, Fault> {
        let known = self.evaluate("EVALSHA", script.hash(), keys, args.clone());
        match known.await {
            Err(fault) if fault.word() == Some("NOSCRIPT") => {
                self.evaluate("EVAL", script.text(), keys, args).await
            }
            other => other,
        }
    }

    /// Closes the connection once what was sent is answered.
    pub(crate) async fn quit(&self) {
        // A server that is gone has closed it already.
        self.client.quit().await.ok();
    }

    /// Closes the connection once what was sent is answered, without waiting for that.
    pub(crate) fn close_soon(&self) {
        let link = self.clone();
        spawn(async move { link.quit().await });
    }

    /// Closes the connection without regard to what it waits for, soon.
    pub(crate) fn abandon(&self) {
        let link = self.clone();
        spawn(async move {
            // A command that waits on the server would hold up the farewell.
            link.client.force_reconnection().await.ok();
            link.quit().await;
        });
    }

    /// Makes a connection anew that did not answer in time: replies come in order, so that nothing
    /// more is to be expected of it, and the driver itself sees no end of one whose other side is
    /// gone without a word as long as there is something to write. One who is in a hurry asks first.
    fn revive(&self) {
        if !self.client.is_connected() || self.reviving.swap(true, Ordering::AcqRel) {
            return;
        }
        let link = self.clone();
        tokio::spawn(async move {
            let alive = link.hurry.is_some() && link.answers().await;
            if !alive {
                // Where that fails, too, the driver goes on trying by itself.
                link.client.force_reconnection().await.ok();
            }
            link.reviving.store(false, Ordering::Release);
        });
    }

    /// Whether the connection answers those who are in no hurry.
    async fn answers(&self) -> bool {
        let client = self.client.with_options(&once(self.timeout));
        client.ping::<()>(None).await.is_ok()
    }

    async fn evaluate(
        &self,
        name: &'static str,
        script: &'static str,
        keys: &[&str],
        args: Vec<Arg>,
    ) -> Result<Reply, Fault> {
        let mut all = Vec::with_capacity(2 + keys.len() + args.len());
        all.push(Arg::from_static_str(script));
        all.push(Arg::Integer(i64::try_from(keys.len()).unwrap_or(i64::MAX)));
        all.extend(keys.iter().map(|key| Arg::from(*key)));
        all.extend(args);
        self.command(name, keys.first().copied(), all).await
    }

    /// Sends a command, once more where another node of a cluster has its slot: nothing was done
    /// then, and by now it is known which one.
    async fn send(&self, sending: Sending<'_>, args: Vec<Arg>) -> Result<Reply, Fault> {
        if !self.client.is_clustered() {
            return self.try_to_send(&sending, args).await;
        }
        match self.try_to_send(&sending, args.clone()).await {
            Err(fault) if fault.redirected() => self.try_to_send(&sending, args).await,
            other => other,
        }
    }

    async fn try_to_send(&self, sending: &Sending<'_>, args: Vec<Arg>) -> Result<Reply, Fault> {
        let slot = sending
            .key
            .map(|key| fred::util::redis_keyslot(key.as_bytes()));
        let node = slot.map_or(ClusterHash::Random, ClusterHash::Custom);
        let command = CustomCommand::new_static(sending.name, node, sending.blocking);
        let client = self.client.with_options(&once(sending.timeout));
        match client.custom_raw(command, args).await.map_err(Fault::from) {
            Ok(frame) => Reply::new(frame).map_err(|text| Fault::from(Answer(text))),
            Err(fault) => {
                if fault.timed_out() {
                    self.revive();
                }
                Err(fault)
            }
        }
    }
}

/// Sent once, and answered within `timeout` or not at all. The driver does not follow redirections:
/// to ask the node that a slot is on its way to, it takes the next reply of that connection, which
/// is somebody else's, and every reply after it goes to the wrong command.
fn once(timeout: Duration) -> Options {
    Options {
        max_attempts: Some(1),
        max_redirections: Some(0),
        timeout: Some(timeout),
        ..Options::default()
    }
}

/// Has the runtime run `work`. Without one nobody is left who could: the driver's tasks are gone, too.
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(work);
    }
}
