use async_trait::async_trait;
use bytes::Bytes;
use outbox_core::error::{ConfigError, OutboxError, Result};
use outbox_core::id::MessageId;
use outbox_core::time::Timestamp;
use outbox_dlq::{DlqEntry, DlqHeap, DrainRequest, Failure, HeapStats, Subject};

use crate::error::{At, Fault};
use crate::keys::check_text;
use crate::link::{Arg, Reply, Script};
use crate::store::RedisStore;

/// How many bytes of a subject are the id of its message.
const ID: usize = 16;

macro_rules! script {
    ($name:literal) => {
        script!("", $name)
    };
    ($name:literal, even_when_full) => {
        script!("#!lua flags=allow-oom\n", $name)
    };
    ($flags:literal, $name:literal) => {
        Script::new(concat!(
            $flags,
            include_str!("../scripts/moment.lua"),
            include_str!("../scripts/dlq/heap/prelude.lua"),
            include_str!(concat!("../scripts/dlq/heap/", $name, ".lua"))
        ))
    };
}

static CONCLUDE: Script = script!("conclude", even_when_full);
static DRAIN: Script = script!("drain", even_when_full);
static FORGET: Script = script!("forget", even_when_full);
static PURGE: Script = script!("purge", even_when_full);
static RECORD: Script = script!("record");
static STATS: Script = script!("stats", even_when_full);

/// The heap of dead letters on a Redis server, shared by all who open it by its name.
///
/// One heap counts for one quarantine: for a queue, name it as the queue, and where several groups read
/// that, as the queue and the group. Each call is one script. Whether a claim is over is decided by the
/// server's clock. Nothing is counted on a server whose memory is full.
///
/// ```no_run
/// # async fn example() -> outbox_core::Result<()> {
/// use outbox_dlq::DlqHeap;
/// use outbox_redis::{RedisDlqHeap, RedisStore};
///
/// let store = RedisStore::open("redis://127.0.0.1").await?;
/// let heap = RedisDlqHeap::new(&store, "tasks")?;
/// println!("{} messages fail", heap.stats(outbox_core::time::Timestamp::EPOCH).await?.entries);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RedisDlqHeap {
    store: RedisStore,
    keys: [String; 6],
}

impl RedisDlqHeap {
    /// The heap of this name; from 1 to 255 bytes without braces.
    ///
    /// # Errors
    /// [`OutboxError::Config`] where the name cannot be used.
    pub fn new(store: &RedisStore, name: &str) -> Result<Self> {
        let mut error = ConfigError::default();
        check_text(&mut error, "name", name);
        error.into_result()?;
        let keys = store.keys(name);
        let parts = ["entries", "count", "first", "last", "claimed", "token"];
        Ok(Self {
            store: store.clone(),
            keys: parts.map(|part| keys.part(&format!("heap:{part}"))),
        })
    }

    async fn run(&self, script: &'static Script, args: Vec<Arg>) -> Result<Reply, Fault> {
        let keys = self.keys.each_ref().map(String::as_str);
        self.store.link()?.run(script, &keys, args).await
    }

    async fn drain(&self, request: &DrainRequest) -> Result<Vec<DlqEntry>, Fault> {
        let since = request.failing_since;
        let args = vec![
            self.store.moment(request.now),
            Arg::Integer(i64::from(request.threshold)),
            since.map_or(Arg::from_static_str(""), micros),
            Arg::Integer(i64::try_from(request.max).unwrap_or(i64::MAX)),
            Arg::Integer(i64::try_from(request.lease.as_micros()).unwrap_or(i64::MAX)),
        ];
        let mut parts = self.run(&DRAIN, args).await?.list()?;
        let claim = parts.next().map_or(Ok(0), count)?;
        let entries = parts.next().unwrap_or(Reply::NOTHING).list()?;
        let entries = entries.map(|reply| entry(reply, claim));
        let mut drained = entries.collect::<Result<Vec<_>, Fault>>()?;
        drained.sort_by_key(|entry| std::cmp::Reverse(entry.failures));
        Ok(drained)
    }

    /// Ends claims as `how` says.
    async fn conclude(&self, how: &'static str, drained: &[DlqEntry]) -> Result<u64, Fault> {
        if drained.is_empty() {
            return Ok(0);
        }
        let mut args = vec![Arg::from_static_str(how)];
        for entry in drained {
            args.push(name(&entry.subject));
            args.push(Arg::Integer(entry.claim.cast_signed()));
        }
        count(self.run(&CONCLUDE, args).await?)
    }

    async fn counted(&self, now: Timestamp) -> Result<HeapStats, Fault> {
        let reply = self.run(&STATS, vec![self.store.moment(now)]).await?;
        let mut parts = reply.list()?;
        let mut next = || parts.next().ok_or_else(too_short);
        Ok(HeapStats {
            entries: count(next()?)?,
            claimed: count(next()?)?,
            oldest: match next()?.text()?.as_str() {
                "" => None,
                text => Some(Timestamp::from_micros(
                    text.parse().map_err(|_| too_short())?,
                )),
            },
        })
    }

    async fn purge_old(&self, before: Timestamp, max: usize, now: Timestamp) -> Result<u64, Fault> {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let args = vec![self.store.moment(now), micros(before), Arg::Integer(max)];
        count(self.run(&PURGE, args).await?)
    }
}

fn micros(moment: Timestamp) -> Arg {
    Arg::Integer(moment.as_micros())
}

/// What a subject is called in the heap.
fn name(subject: &Subject) -> Arg {
    let mut name = subject.id.as_bytes().to_vec();
    name.extend_from_slice(subject.origin.to_string().as_bytes());
    Arg::Bytes(name.into())
}

fn subject(name: &Bytes) -> Result<Subject, Fault> {
    let (id, origin) = name.split_first_chunk::<ID>().ok_or_else(too_short)?;
    let origin = String::from_utf8_lossy(origin).parse();
    let wrong = |error| Fault::Told(OutboxError::codec("an origin of dead letters", error));
    Ok(Subject {
        origin: origin.map_err(wrong)?,
        id: MessageId::from_bytes(*id),
    })
}

fn entry(reply: Reply, claim: u64) -> Result<DlqEntry, Fault> {
    let mut parts = reply.list()?;
    let mut next = || parts.next().ok_or_else(too_short);
    let moment = |reply: Reply| Ok::<_, Fault>(Timestamp::from_micros(reply.number()?));
    let text = |reply: Reply| Ok::<_, Fault>(String::from_utf8_lossy(&reply.bytes()?).into_owned());
    Ok(DlqEntry {
        subject: subject(&next()?.bytes()?)?,
        failures: u32::try_from(next()?.number()?).unwrap_or(u32::MAX),
        first_failed_at: moment(next()?)?,
        last_failed_at: moment(next()?)?,
        kind: text(next()?)?,
        error: text(next()?)?,
        claim,
    })
}

fn count(reply: Reply) -> Result<u64, Fault> {
    Ok(u64::try_from(reply.number()?).unwrap_or(0))
}

fn too_short() -> Fault {
    Fault::Reply {
        wanted: "what a heap keeps",
        found: "something shorter".to_owned(),
    }
}

#[async_trait]
impl DlqHeap for RedisDlqHeap {
    async fn record_failures(&self, failures: &[Failure]) -> Result<()> {
        let record = async {
            let mut args = Vec::with_capacity(4 * failures.len());
            for failure in failures {
                args.push(name(&failure.subject));
                args.push(micros(failure.at));
                args.push(Arg::from(failure.kind.as_str()));
                args.push(Arg::from(failure.error.as_str()));
            }
            match args.is_empty() {
                true => Ok(()),
                false => self.run(&RECORD, args).await.map(drop),
            }
        };
        record.await.at("count failures", self.store.address())
    }

    async fn record_successes(&self, subjects: &[Subject]) -> Result<()> {
        let forget = async {
            match subjects {
                [] => Ok(()),
                _ => {
                    let names = subjects.iter().map(name).collect();
                    self.run(&FORGET, names).await.map(drop)
                }
            }
        };
        forget.await.at("forget failures", self.store.address())
    }

    async fn drain_exceeded(&self, request: &DrainRequest) -> Result<Vec<DlqEntry>> {
        let drained = self.drain(request).await;
        drained.at("drain failures", self.store.address())
    }

    async fn confirm(&self, drained: &[DlqEntry]) -> Result<u64> {
        let ended = self.conclude("confirm", drained).await;
        ended.at("confirm drained failures", self.store.address())
    }

    async fn release(&self, drained: &[DlqEntry]) -> Result<u64> {
        let ended = self.conclude("release", drained).await;
        ended.at("release drained failures", self.store.address())
    }

    async fn purge(&self, before: Timestamp, max: usize, now: Timestamp) -> Result<u64> {
        let purged = self.purge_old(before, max, now).await;
        purged.at("purge failures", self.store.address())
    }

    async fn stats(&self, now: Timestamp) -> Result<HeapStats> {
        let counted = self.counted(now).await;
        counted.at("count failures", self.store.address())
    }
}
