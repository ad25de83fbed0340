//! Notices commits that this store did not make: on the caller's own connections, and in other
//! processes.
//!
//! Where the operating system tells that the `-wal` file was written, nothing is asked until then.
//! That comes before the commit can be seen, so the database's own counter of foreign commits is
//! then asked until it moves. It may have moved for one commit while another is written already that
//! can be seen only later, without a sound: so it is asked now and then for a while.

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
use bell::{Bell, Ring, Silencer};

/// The first and the longest pause between two looks at the counter.
const PAUSES: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(4));
/// How often it is looked at before a ring counts as false: about two seconds, so that a commit may
/// take its time on a slow disk.
const LOOKS: u32 = 500;
/// How long it sleeps after a commit; what comes meanwhile is noticed together.
const REST: Duration = Duration::from_millis(1);
/// The first and the longest pause between two looks after a commit, while nothing rings, and how
/// often it is looked: about two seconds as well.
const ECHO_PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));
const ECHOES: u32 = 36;

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
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_io().enable_time().build()?;
        let (bell, silencer) = {
            let _inside = runtime.enter();
            Bell::hang(&options.path)
        };
        let options = options.clone();
        let watch = Watch {
            runtime,
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
    fn run(self, options: &SqliteOptions) -> Result<(), Fault> {
        let connection = self.runtime.block_on(connect(options, Role::Reader))?;
        keep_watch(&mut Post {
            connection,
            watch: self,
        })
    }
}

/// A watch with a connection to look with.
struct Post {
    watch: Watch,
    connection: SqliteConnection,
}

/// What is watched, and who is told.
trait Watched {
    /// Waits until it rings, or for so long.
    fn wait(&mut self, most: Option<Duration>) -> Ring;
    /// SQLite's counter of the commits that other connections made.
    fn version(&mut self) -> Result<i64, Fault>;
    /// How often to look after a ring at most.
    fn looks(&self) -> u32;
    fn rest(&mut self, pause: Duration);
    /// Tells of a commit.
    fn tell(&mut self);
    fn is_over(&self) -> bool;
}

impl Watched for Post {
    fn wait(&mut self, most: Option<Duration>) -> Ring {
        self.watch.bell.wait(&self.watch.runtime, most)
    }

    fn version(&mut self) -> Result<i64, Fault> {
        let version = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut self.connection);
        Ok(self.watch.runtime.block_on(version)?)
    }

    fn looks(&self) -> u32 {
        self.watch.bell.looks(LOOKS)
    }

    fn rest(&mut self, pause: Duration) {
        std::thread::park_timeout(pause);
    }

    fn tell(&mut self) {
        self.watch.wake.notify();
        self.watch.bell.praise();
    }

    fn is_over(&self) -> bool {
        self.watch.stopped.load(Ordering::Relaxed)
    }
}

fn keep_watch(watched: &mut impl Watched) -> Result<(), Fault> {
    let mut version = watched.version()?;
    watched.tell();
    let (shortest, longest) = ECHO_PAUSES;
    // How often it is still looked without a ring, and the next pause before that: at first for what was
    // written before it was watched.
    let (mut echoes, mut pause) = (ECHOES, shortest);
    loop {
        let ring = watched.wait((echoes > 0).then_some(pause));
        if ring == Ring::Over || watched.is_over() {
            return Ok(());
        }
        let before = version;
        if ring == Ring::Rang {
            version = await_change(watched, before)?;
            echoes = 0;
        } else {
            version = watched.version()?;
            echoes -= 1;
            pause = longest.min(pause * 2);
        }
        if version != before {
            watched.tell();
            watched.rest(REST);
            (echoes, pause) = (ECHOES, shortest);
        }
    }
}

/// The counter, once it differs from `before` or there is no hope that it will.
fn await_change(watched: &mut impl Watched, before: i64) -> Result<i64, Fault> {
    let (mut pause, longest) = PAUSES;
    for _ in 0..watched.looks() {
        let version = watched.version()?;
        if version != before || watched.is_over() {
            return Ok(version);
        }
        watched.rest(pause);
        pause = longest.min(pause * 2);
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rings for the first commit alone, or for none, and each can be seen from its wait on.
    struct Commits {
        rings: bool,
        seen_from: [u32; 2],
        waits: u32,
        told: u32,
    }

    impl Watched for Commits {
        fn wait(&mut self, most: Option<Duration>) -> Ring {
            self.waits += 1;
            match most {
                _ if self.rings && self.waits == self.seen_from[0] => Ring::Rang,
                None => Ring::Over,
                Some(_) => Ring::Silent,
            }
        }

        fn version(&mut self) -> Result<i64, Fault> {
            let seen = self.seen_from.iter().filter(|from| self.waits >= **from);
            Ok(seen.count() as i64)
        }

        fn looks(&self) -> u32 {
            LOOKS
        }

        fn rest(&mut self, _: Duration) {}

        fn tell(&mut self) {
            self.told += 1;
        }

        fn is_over(&self) -> bool {
            false
        }
    }

    /// How often it was told of something, the begin included.
    fn told(rings: bool, seen_from: [u32; 2]) -> u32 {
        let mut commits = Commits {
            rings,
            seen_from,
            waits: 0,
            told: 0,
        };
        keep_watch(&mut commits).unwrap();
        assert!(commits.waits <= seen_from[1] + ECHOES + 1, "it ends");
        commits.told
    }

    #[test]
    fn a_commit_that_is_seen_after_the_one_that_rang_with_it_is_told() {
        for seen_from in [2, 20, ECHOES] {
            assert_eq!(told(true, [1, seen_from]), 3);
        }
    }

    #[test]
    fn a_commit_that_was_written_before_the_watch_and_is_seen_later_is_told() {
        for seen_from in [1, 20, ECHOES] {
            assert_eq!(told(false, [seen_from, seen_from]), 2);
        }
    }
}
