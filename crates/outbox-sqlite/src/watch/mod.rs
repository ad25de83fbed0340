//! Notices commits that this store did not make: on the caller's own connections, and in other
//! processes.
//!
//! Where the operating system tells that the `-wal` file was written, nothing is asked until then.
//! That comes before the commit can be seen, so the database's own counter of foreign commits is
//! then asked until it moves.

mod bell;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use outbox_core::signal::Wake;
use sqlx::sqlite::SqliteConnection;
use tokio::runtime::Runtime;

use crate::connect::{Role, connect};
use crate::error::Fault;
use crate::options::SqliteOptions;
use bell::{Bell, Silencer};

/// The first and the longest pause between two looks at the counter.
const PAUSES: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(4));
/// How often it is looked at before a ring counts as false: about two seconds, so that a commit may
/// take its time on a slow disk.
const LOOKS: u32 = 500;
/// How long it sleeps after a commit; what comes meanwhile is noticed together.
const REST: Duration = Duration::from_millis(1);

/// Watches a file until it is dropped.
pub(crate) struct Watcher {
    stopped: Arc<AtomicBool>,
    thread: Thread,
    silencer: Silencer,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.silencer.silence();
        self.thread.unpark();
    }
}

impl Watcher {
    /// Begins to watch on a thread of its own, because a commit must not wait for a busy runtime to
    /// be noticed. The first notice comes as soon as it watches: what was committed before it was
    /// looking is looked for then.
    pub(crate) fn start(options: &SqliteOptions, wake: Wake) -> std::io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let (bell, silencer) = Bell::hang(&options.path);
        let options = options.clone();
        let watch = Watch {
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            wake,
            bell,
            stopped: Arc::clone(&stopped),
        };
        let thread = std::thread::Builder::new()
            .name("outbox-sqlite-watch".to_owned())
            .spawn(move || {
                if let Err(error) = watch.run(&options) {
                    tracing::warn!(%error, "commits of others are noticed by the safety poll only");
                }
            })?;
        Ok(Self {
            stopped,
            thread: thread.thread().clone(),
            silencer,
        })
    }
}

struct Watch {
    runtime: Runtime,
    wake: Wake,
    bell: Bell,
    stopped: Arc<AtomicBool>,
}

impl Watch {
    fn run(mut self, options: &SqliteOptions) -> Result<(), Fault> {
        let mut connection = self.runtime.block_on(connect(options, Role::Reader))?;
        let mut version = self.version(&mut connection)?;
        self.wake.notify();
        while self.bell.wait() && !self.is_stopped() {
            let before = version;
            version = self.await_change(&mut connection, before)?;
            if version != before {
                self.wake.notify();
                self.bell.praise();
                std::thread::park_timeout(REST);
            }
        }
        Ok(())
    }

    /// The counter, once it differs from `before` or there is no hope that it will.
    fn await_change(&self, connection: &mut SqliteConnection, before: i64) -> Result<i64, Fault> {
        let (mut pause, longest) = PAUSES;
        for _ in 0..self.bell.looks(LOOKS) {
            let version = self.version(connection)?;
            if version != before || self.is_stopped() {
                return Ok(version);
            }
            std::thread::park_timeout(pause);
            pause = longest.min(pause * 2);
        }
        Ok(before)
    }

    /// SQLite's counter of the commits that other connections made.
    fn version(&self, connection: &mut SqliteConnection) -> Result<i64, Fault> {
        let version = sqlx::query_scalar("PRAGMA data_version").fetch_one(connection);
        Ok(self.runtime.block_on(version)?)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
