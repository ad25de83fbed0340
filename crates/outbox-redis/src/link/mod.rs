//! The one seam between this crate and its driver: nothing else sends a command.
//!
//! Every command is sent at most once and under a time limit of the driver's own, because a limit
//! around the driver leaves the command in its queue. Scripts go by `EVALSHA` and, where the server
//! does not know them, by `EVAL`: never by the driver's own functions for scripts, transactions or
//! pipelines, which send again what may have taken effect.

mod line;
mod reply;
mod script;
mod texts;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fred::interfaces::ClientLike;
use fred::types::config::Options;
use fred::types::{Builder, ClusterHash, CustomCommand};

pub(crate) use fred::types::Value as Arg;
pub(crate) use reply::Reply;
pub(crate) use script::Script;
pub(crate) use texts::Texts;
use tokio::runtime::Handle;
use tokio::time::sleep;

use self::line::Line;
use crate::error::{Answer, Fault};

/// How much longer than the server the driver waits for a command that blocks.
const BLOCK_MARGIN: Duration = Duration::from_millis(500);

/// How long nobody tries to replace a line after that has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// One connection to a server, or one to each node of a cluster; shared by cloning.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    timeout: Duration,
    /// The time limit of one who is in a hurry, and does not conclude from a silence that long that
    /// the connection is dead.
    hurry: Option<Duration>,
}

/// What all clones of a link have.
struct Shared {
    line: RwLock<Line>,
    /// What makes another line where this one falls silent; nothing where its holder breaks it off.
    builder: Option<Builder>,
    /// Whether the line is being replaced, or asked after, because it fell silent.
    reviving: AtomicBool,
    closed: AtomicBool,
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
    /// Connects as `builder` says, and fails at once where that cannot be done. What falls silent is
    /// to be abandoned.
    pub(crate) async fn connect(builder: &Builder, timeout: Duration) -> Result<Self, Fault> {
        Ok(Self::new(Line::open(builder).await?, None, timeout))
    }

    /// As [`Link::connect`], and connects anew by itself where it falls silent.
    pub(crate) async fn lasting(builder: &Builder, timeout: Duration) -> Result<Self, Fault> {
        let line = Line::open(builder).await?;
        Ok(Self::new(line, Some(builder.clone()), timeout))
    }

    fn new(line: Line, builder: Option<Builder>, timeout: Duration) -> Self {
        let shared = Shared {
            line: RwLock::new(line),
            builder,
            reviving: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            timeout,
            hurry: None,
        }
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
        self.shared.closed.store(true, Ordering::SeqCst);
        self.line().quit().await;
    }

    /// Closes the connection once what was sent is answered, without waiting for that.
    pub(crate) fn close_soon(&self) {
        let link = self.clone();
        spawn(async move { link.quit().await });
    }

    /// Closes the connection without regard to what it waits for.
    pub(crate) fn abandon(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.line().break_off();
    }

    fn line(&self) -> Line {
        let line = self.shared.line.read();
        line.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces a line that did not answer in time, once another one is connected. Replies come in
    /// order, so that nothing more is to be expected of it; and its driver may not see the end of a
    /// connection whose other side is gone without a word, or may itself have come to an end. One
    /// who is in a hurry asks first.
    fn revive(&self, silent: Line) {
        let lasting = self.shared.builder.is_some() && self.line().is(&silent);
        if !lasting || self.shared.reviving.swap(true, Ordering::AcqRel) {
            return;
        }
        let link = self.clone();
        tokio::spawn(async move {
            if link.hurry.is_none() || !link.answers(&silent).await {
                link.replace(&silent).await;
            }
            link.shared.reviving.store(false, Ordering::Release);
        });
    }

    /// Whether the line answers those who are in no hurry.
    async fn answers(&self, line: &Line) -> bool {
        let client = line.client().with_options(&once(self.timeout));
        client.ping::<()>(None).await.is_ok()
    }

    async fn replace(&self, silent: &Line) {
        let Some(builder) = &self.shared.builder else {
            return;
        };
        let Ok(fresh) = Line::open(builder).await else {
            // The driver goes on trying by itself, or the next silence is met in the same way.
            sleep(PAUSE).await;
            return;
        };
        let mut line = self.shared.line.write();
        let line = line
            .as_deref_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut());
        // It may be closed by now, or replaced by one who was as quick.
        if self.shared.closed.load(Ordering::SeqCst) || !line.is(silent) {
            fresh.break_off();
            return;
        }
        *line = fresh;
        silent.break_off();
        tracing::warn!("a connection to Redis did not answer in time, and was replaced");
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
        if !self.line().client().is_clustered() {
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
        let line = self.line();
        let client = line.client().with_options(&once(sending.timeout));
        match client.custom_raw(command, args).await.map_err(Fault::from) {
            Ok(frame) => Reply::new(frame).map_err(|text| Fault::from(Answer(text))),
            Err(fault) => {
                if fault.unanswered() || line.has_ended() {
                    self.revive(line);
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
