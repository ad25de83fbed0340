use std::sync::atomic::Ordering;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::{join, join_all};
use outbox_core::delivery::{Delivery, Unreadable};
use outbox_core::id::WorkerId;
use outbox_core::lease::EntryId;
use outbox_core::ports::{DequeueReport, DequeueRequest};
use outbox_core::time::Timestamp;

use super::entry::Entry;
use super::lull::{Before, Lull};
use super::settle::{Runs, places_in, receipt};
use super::stats::moment_in;
use super::waiting::Waiting;
use super::{RedisQueue, consumer, lost, micros, millis, number, owner_bytes, scripts};
use crate::error::Fault;
use crate::link::{Arg, Reply};
use crate::reader::Reader;

/// The most entries that are read at once.
pub(super) const READ: usize = 1_000;

/// The entries of one part of a read of many.
const PART: usize = 125;

/// The most entries that one who was woken takes in one step with their lease: the server needs
/// longer for each of them than where they are read and leased one after the other.
const FEW: usize = 16;

/// An entry, and what was found in it.
pub(super) struct Opened {
    id: EntryId,
    found: Found,
}

enum Found {
    /// A delivery, but for its token.
    Ours(Delivery),
    /// What came back for another group.
    OfAnother,
    Malformed(Unreadable),
}

impl RedisQueue {
    pub(super) async fn take(&self, request: &DequeueRequest) -> Result<DequeueReport, Fault> {
        self.note_group().await?;
        let mut reader = Reader::of(&self.0.store).await?;
        let mut waiting = Waiting::new(request);
        let mut woken = false;
        let mut known = match request.wait.is_zero() {
            true => None,
            false => self.0.lulls.take(request.owner),
        };
        loop {
            let lull = match known.take() {
                Some(lull) => self.go_on(lull, &waiting).await?,
                None => {
                    let report = match woken {
                        true => self.take_few(&waiting).await?,
                        false => self.read_and_lease(&mut reader, &waiting).await?,
                    };
                    if !report.deliveries.is_empty() || !report.unreadable.is_empty() {
                        return Ok(report);
                    }
                    reader.renew().await?;
                    Lull::of(self.look(request.owner, waiting.now()).await?)
                }
            };
            if lull.look.moved {
                woken = false;
                continue;
            }
            let pause = waiting.pause(&lull.look, self.0.config.grace);
            let Some(pause) = pause else {
                return Ok(waiting.nothing(&lull.look));
            };
            woken = waiting
                .during(self.wait(&mut reader, &lull.look, pause))
                .await?;
            if woken || !lull.is_quiet() {
                continue;
            }
            let lull = lull.goes_on();
            if waiting.is_over() {
                let report = waiting.nothing(&lull.look);
                self.0.lulls.put(request.owner, lull);
                return Ok(report);
            }
            known = Some(lull);
        }
    }

    /// What is known at the begin of another wait, where nothing ended the last one.
    async fn go_on(&self, lull: Lull, waiting: &Waiting<'_>) -> Result<Lull, Fault> {
        match lull.before() {
            Before::Nothing => {}
            Before::Gone => self.forget_now_and_then().await?,
            // What came meanwhile ends the wait behind the place that is told.
            Before::All => {
                return Ok(Lull::of(
                    self.look(waiting.request.owner, waiting.now()).await?,
                ));
            }
        }
        Ok(lull)
    }

    /// Takes the little that probably has come for one who waited.
    async fn take_few(&self, waiting: &Waiting<'_>) -> Result<DequeueReport, Fault> {
        let (request, now) = (waiting.request, waiting.now());
        let args = vec![
            owner_bytes(request.owner),
            consumer(request.owner),
            micros(request.lease),
            number(request.max.clamp(1, FEW)),
        ];
        let reply = self.run_repairing(&scripts::TAKE, Some(now), args).await?;
        let mut parts = reply.list()?;
        let mut next = || parts.next().ok_or_else(too_short);
        let token = token_in(next()?)?;
        let entries = Entry::list(next()?)?;
        let next_expiry = moment_in(next()?)?;
        let server_now = moment_in(next()?)?.unwrap_or(now);
        let opened = self.open_all(entries, request.owner);
        let mut report = self.hand_out(opened, (request.owner, token), now).await?;
        report.next_expiry = waiting.in_callers_time(next_expiry, server_now);
        Ok(report)
    }

    async fn read_and_lease(
        &self,
        reader: &mut Reader,
        waiting: &Waiting<'_>,
    ) -> Result<DequeueReport, Fault> {
        match self.read_entries(reader, waiting.request).await? {
            entries if entries.is_empty() => Ok(DequeueReport::default()),
            entries => self.lease(entries, waiting).await,
        }
    }

    /// Reads what nobody has read, without waiting.
    async fn read_entries(
        &self,
        reader: &mut Reader,
        request: &DequeueRequest,
    ) -> Result<Vec<Entry>, Fault> {
        match self.read_group(reader, request).await {
            Err(fault) if lost(&fault) => {
                self.repair(&fault).await?;
                self.read_group(reader, request).await
            }
            other => other,
        }
    }

    /// Reads in parts where there is probably much: the driver looks at a reply from its start again
    /// each time that a piece of it arrives, and takes a part apart while the server reads the next.
    async fn read_group(
        &self,
        reader: &mut Reader,
        request: &DequeueRequest,
    ) -> Result<Vec<Entry>, Fault> {
        let most = request.max.clamp(1, READ);
        let parts = match self.0.plenty.load(Ordering::Relaxed) {
            true => most.div_ceil(PART).min(self.0.store.commands()),
            false => 1,
        };
        let part = most.div_ceil(parts);
        let mut entries = Vec::with_capacity(most);
        let read = async |link: &crate::link::Link| {
            let starts = (0..most).step_by(part);
            let parts =
                starts.map(|from| self.read_part(link, request.owner, part.min(most - from)));
            let mut fault = None;
            for read in join_all(parts).await {
                match read {
                    Ok(read) => entries.extend(read),
                    Err(new) => fault = fault.or(Some(new)),
                }
            }
            fault.map_or(Ok(()), Err)
        };
        match reader.with(read).await {
            // What was read is not to wait until others take it over.
            Err(fault) if !entries.is_empty() => {
                tracing::warn!(%fault, read = entries.len(), "not all that was there was read");
            }
            other => other?,
        }
        // As they stand in the stream, wherever a cluster sent the parts.
        entries.sort_by_key(|entry| entry.id);
        let full = entries.len() == most;
        self.0.plenty.store(full, Ordering::Relaxed);
        Ok(entries)
    }

    async fn read_part(
        &self,
        link: &crate::link::Link,
        owner: WorkerId,
        count: usize,
    ) -> Result<Vec<Entry>, Fault> {
        let stream = self.0.parts.stream();
        let args = vec![
            Arg::from_static_str("GROUP"),
            Arg::from(self.0.config.group.as_str()),
            consumer(owner),
            Arg::from_static_str("COUNT"),
            number(count),
            Arg::from_static_str("STREAMS"),
            Arg::from(stream),
            Arg::from_static_str(">"),
        ];
        let reply = link.command("XREADGROUP", Some(stream), args).await?;
        // A list of streams, each with its name and its entries: with one stream, the second piece.
        let mut pieces = reply.list()?;
        let Some(first) = pieces.next() else {
            return Ok(Vec::new());
        };
        let entries = match pieces.next() {
            Some(entries) => Some(entries),
            None => first.list()?.nth(1),
        };
        entries.map_or(Ok(Vec::new()), Entry::list)
    }

    /// Leases what was read, and sets aside what cannot be read.
    async fn lease(
        &self,
        entries: Vec<Entry>,
        waiting: &Waiting<'_>,
    ) -> Result<DequeueReport, Fault> {
        let request = waiting.request;
        let args = vec![
            owner_bytes(request.owner),
            consumer(request.owner),
            micros(request.lease),
            millis(self.0.config.grace),
            self.batch_from(),
            number(entries.len()),
            Arg::Bytes(entries[0].text.clone()),
            Arg::Bytes(ids_in(&entries)),
        ];
        let now = waiting.now();
        // The messages are read while the server notes who has them.
        let hold = self.run(&scripts::HOLD, Some(now), args);
        let open = async { self.open_all(entries, request.owner) };
        let (reply, mut opened) = join(hold, open).await;
        let mut parts = reply?.list()?;
        let mut next = || parts.next().ok_or_else(too_short);
        let token = token_in(next()?)?;
        let next_expiry = moment_in(next()?)?;
        let others = places_in(next()?)?;
        let server_now = moment_in(next()?)?.unwrap_or(now);
        let mut place = 0;
        opened.retain(|_| {
            place += 1;
            others.binary_search(&(place - 1)).is_err()
        });
        let mut report = self.hand_out(opened, (request.owner, token), now).await?;
        report.next_expiry = waiting.in_callers_time(next_expiry, server_now);
        Ok(report)
    }

    /// How many entries of one read have one lease record; those that stay for other groups never do,
    /// because their removal does not show what was settled before.
    fn batch_from(&self) -> Arg {
        number(match self.0.config.fan_out {
            true => usize::MAX,
            false => self.0.config.batch_lease_from,
        })
    }

    /// Reads entries that `owner` will hold, under a token that is not known yet.
    pub(super) fn open_all(&self, entries: Vec<Entry>, owner: WorkerId) -> Vec<Opened> {
        let open = |entry: Entry| Opened {
            found: match entry.is_for_another(&self.0.config.group) {
                true => Found::OfAnother,
                false => match entry.delivery(receipt(entry.id, owner, 0)) {
                    Ok(delivery) => Found::Ours(delivery),
                    Err(problem) => Found::Malformed(entry.unreadable(&problem)),
                },
            },
            id: entry.id,
        };
        entries.into_iter().map(open).collect()
    }

    /// Hands out what `owner` holds under `token`, and sets aside what is none of ours.
    pub(super) async fn hand_out(
        &self,
        opened: Vec<Opened>,
        (owner, token): (WorkerId, u64),
        now: Timestamp,
    ) -> Result<DequeueReport, Fault> {
        let mut report = DequeueReport::default();
        report.deliveries.reserve(opened.len());
        let mut aside = Runs::default();
        let mut any_aside = false;
        for Opened { id, found } in opened {
            let receipt = receipt(id, owner, token);
            match found {
                Found::Ours(mut delivery) => {
                    delivery.receipt = receipt;
                    report.deliveries.push(delivery);
                    continue;
                }
                Found::OfAnother => aside.push("done", &receipt, []),
                Found::Malformed(told) => {
                    tracing::error!(entry = told.place, problem = told.problem, "quarantined");
                    aside.push("unreadable", &receipt, [Arg::from(told.problem.as_str())]);
                    report.unreadable.push(told);
                }
            }
            any_aside = true;
        }
        if any_aside {
            self.settle_runs(aside, now).await?;
        }
        Ok(report)
    }
}

/// The ids of entries, with spaces between them.
fn ids_in(entries: &[Entry]) -> Bytes {
    let mut ids = BytesMut::with_capacity(entries.len() * 20);
    for entry in entries {
        if !ids.is_empty() {
            ids.put_u8(b' ');
        }
        ids.extend_from_slice(&entry.text);
    }
    ids.freeze()
}

/// The token of a delivery.
pub(super) fn token_in(reply: Reply) -> Result<u64, Fault> {
    Ok(u64::try_from(reply.number()?).unwrap_or(0))
}

pub(super) fn too_short() -> Fault {
    Fault::Reply {
        wanted: "a longer list",
        found: "a shorter one".to_owned(),
    }
}
