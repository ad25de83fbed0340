use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::BoxError;
use crate::wire::{Answer, Wire};

/// How long a server may take to answer after it was started, loading its data included.
const START_TIME: Duration = Duration::from_secs(20);

/// Arguments of a server that keeps what it has acknowledged when it is killed. With its default
/// `appendfsync everysec` it does not: it answers before it has written anything, for up to two
/// seconds, as long as the disk is still busy with what it was given before.
pub const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// The variable that names a program in the place of `redis-server`, as `/usr/bin/valkey-server`.
pub const SERVER_VARIABLE: &str = "OUTBOX_TEST_REDIS_SERVER";

/// What a server is told that has to be told more than arguments can, in its folder.
const CONFIG_FILE: &str = "redis.conf";

/// The greatest port that is used: a node of a cluster listens 10,000 above its own, too.
const GREATEST_PORT: u16 = 55_000;

/// A `redis-server` process of a test's own, on a free loopback port and in a folder of its own,
/// killed when this is dropped. It keeps nothing on disk unless its arguments say so.
pub struct RedisServer {
    child: Child,
    port: u16,
    args: Vec<String>,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server with further arguments, as [`DURABLE`], and waits until it
    /// answers.
    ///
    /// # Errors
    /// Where there is no `redis-server`, or it does not answer in time.
    pub async fn start(args: &[&str]) -> Result<Self, BoxError> {
        Self::start_in(tempfile::tempdir()?, args).await
    }

    /// A Sentinel that watches the primary on `port` under the name `main` and needs no other's
    /// consent; it takes the primary for dead after half a second.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub async fn sentinel(port: u16) -> Result<Self, BoxError> {
        // It waits for its disk at each change of its configuration, and gives up watching for half
        // a minute where that took two seconds: in memory, where there is such a folder.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let config = format!(
            "sentinel monitor main 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 2000\n"
        );
        std::fs::write(folder.path().join(CONFIG_FILE), config)?;
        Self::start_in(folder, &["--sentinel"]).await
    }

    async fn start_in(folder: TempDir, args: &[&str]) -> Result<Self, BoxError> {
        let port = free_port().await?;
        let args: Vec<_> = args.iter().map(ToString::to_string).collect();
        let child = spawn(port, folder.path(), &args)?;
        let mut server = Self {
            child,
            port,
            args,
            folder,
        };
        server.answers().await?;
        Ok(server)
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The loopback port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder, with its append-only file or snapshot where it writes one.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new connection to it.
    ///
    /// # Errors
    /// Where it is not reached.
    pub async fn wire(&self) -> Result<Wire, BoxError> {
        Wire::connect(self.port).await
    }

    /// Kills it at once (`SIGKILL`), as a crash would; what is on its disk stays.
    ///
    /// # Errors
    /// Where the process cannot be killed.
    pub async fn kill(&mut self) -> Result<(), BoxError> {
        Ok(self.child.kill().await?)
    }

    /// Starts it again on the same port and folder, after it was killed.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub async fn restart(&mut self) -> Result<(), BoxError> {
        self.child.kill().await.ok();
        let until = Instant::now() + START_TIME;
        loop {
            self.child = spawn(self.port, self.folder.path(), &self.args)?;
            let answers = self.answers().await;
            // Somebody's connection may go out by its port while it is away.
            let ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if answers.is_ok() || !ended || Instant::now() > until {
                return answers;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops its clock (`SIGSTOP`): connections stay open, and nothing answers.
    ///
    /// # Errors
    /// Where the signal cannot be sent.
    pub async fn freeze(&self) -> Result<(), BoxError> {
        self.signal("STOP").await
    }

    /// Lets it go on after [`RedisServer::freeze`].
    ///
    /// # Errors
    /// Where the signal cannot be sent.
    pub async fn thaw(&self) -> Result<(), BoxError> {
        self.signal("CONT").await
    }

    async fn signal(&self, name: &str) -> Result<(), BoxError> {
        let pid = self.child.id().ok_or("the server is not running")?;
        let pid = pid.to_string();
        // The shell's own: small systems have no program of that name.
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])
            .status()
            .await?;
        status
            .success()
            .then_some(())
            .ok_or_else(|| "kill failed".into())
    }

    async fn answers(&mut self) -> Result<(), BoxError> {
        let until = Instant::now() + START_TIME;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("redis-server ended with {status}").into());
            }
            if let Ok(mut wire) = self.wire().await
                && wire.command(&["PING"]).await.is_ok_and(|told| is_up(&told))
            {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("redis-server does not answer after {START_TIME:?}").into());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Whether a server that has its data answered to `PING`, be it that it refuses. A connection to a port
/// where nobody listens may come to itself, and then answers with the question.
fn is_up(answer: &Answer) -> bool {
    match answer {
        Answer::Error(_) => !answer.is_error("LOADING"),
        other => other.text().as_deref() == Some("PONG"),
    }
}

fn spawn(port: u16, folder: &Path, args: &[String]) -> Result<Child, BoxError> {
    let config = folder.join(CONFIG_FILE);
    let program = program();
    let child = Command::new(&program)
        .args(config.exists().then_some(config))
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--loglevel", "warning", "--dir"])
        .arg(folder)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    child.map_err(|error| format!("{} cannot be started: {error}", program.display()).into())
}

/// What is started as a server: what the environment names, as another version or Valkey.
fn program() -> PathBuf {
    std::env::var_os(SERVER_VARIABLE).map_or_else(|| PathBuf::from("redis-server"), PathBuf::from)
}

/// A loopback port that nobody listens on now; a rival may still be faster.
///
/// # Errors
/// Where none can be had.
pub async fn free_port() -> Result<u16, BoxError> {
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        if port <= GREATEST_PORT {
            return Ok(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_came_to_itself_is_no_server() {
        let text = |text: &str| Answer::Text(text.into());
        assert!(is_up(&text("PONG")));
        assert!(is_up(&Answer::Error("NOAUTH".to_owned())));
        assert!(!is_up(&Answer::Error("LOADING".to_owned())));
        assert!(!is_up(&Answer::List(vec![text("PING")])));
    }
}
