use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::BoxError;

/// What a [`Proxy`] does to what goes through it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Passes everything on.
    #[default]
    None,
    /// Passes requests on, and throws replies away: what was asked for happens, and nobody hears.
    SwallowReplies,
    /// Passes so many pieces of replies on, from now on and of each connection, and is then
    /// [`Fault::SwallowReplies`]; a small reply is one piece.
    SwallowRepliesAfter(usize),
    /// As [`Fault::SwallowReplies`], and ends the connection as soon as there is a reply.
    CutAtReply,
    /// Throws everything away; connections stay open: the other side is gone without a word.
    HalfOpen,
    /// Passes everything on so much later.
    Delay(Duration),
    /// Ends new connections at once.
    Refuse,
}

/// A TCP proxy on a loopback port of its own, between a client and a server on this machine.
pub struct Proxy {
    port: u16,
    fault: Arc<watch::Sender<Fault>>,
    cut: Arc<watch::Sender<u64>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Stands before the server on the loopback port `target`.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn before(target: u16) -> Result<Self, BoxError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let fault = Arc::new(watch::Sender::new(Fault::None));
        let cut = Arc::new(watch::Sender::new(0));
        let task = tokio::spawn(accept(
            listener,
            target,
            Arc::clone(&fault),
            Arc::clone(&cut),
        ));
        Ok(Self {
            port,
            fault,
            cut,
            task,
        })
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port at which it is reached.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it does from now on, to the connections that there are, too; one that has lost something
    /// passes nothing on in that direction any more.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.cut.send_modify(|times| *times += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: u16,
    fault: Arc<watch::Sender<Fault>>,
    cut: Arc<watch::Sender<u64>>,
) {
    let mut links = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *fault.borrow() == Fault::Refuse {
            continue;
        }
        let (fault, mut cut) = (fault.subscribe(), cut.subscribe());
        links.spawn(async move {
            tokio::select! {
                _ = cut.changed() => {}
                _ = connect(client, target, fault) => {}
            }
        });
        while links.try_join_next().is_some() {}
    }
}

async fn connect(
    client: TcpStream,
    target: u16,
    fault: watch::Receiver<Fault>,
) -> Result<(), BoxError> {
    let server = TcpStream::connect(("127.0.0.1", target)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        end = pass(from_client, to_server, Way::There, fault.clone()) => end,
        end = pass(from_server, to_client, Way::Back, fault) => end,
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    fault: watch::Receiver<Fault>,
) -> Result<(), BoxError> {
    let mut bytes = vec![0; 1 << 16];
    let (mut lost, mut passed) = (false, 0);
    loop {
        let length = from.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        let now = *fault.borrow();
        match (now, way) {
            (Fault::HalfOpen, _) | (Fault::SwallowReplies, Way::Back) => lost = true,
            (Fault::SwallowRepliesAfter(pieces), Way::Back) => {
                lost |= passed == pieces;
                passed += 1;
            }
            (Fault::CutAtReply, Way::Back) => return Ok(()),
            (Fault::Delay(time), _) => sleep(time).await,
            _ => {}
        }
        // Bytes after a gap would be taken for what was lost; no network does that.
        if !lost {
            to.write_all(&bytes[..length]).await?;
        }
    }
}
