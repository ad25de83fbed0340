//! The scripts of the cache, and what each is told.

use std::time::Duration;

use bytes::Bytes;
use outbox_core::error::Result;
use outbox_core::id::MessageId;

use super::layout::Period;
use crate::keys::Keys;
use crate::link::{Arg, Script};

macro_rules! script {
    ($name:literal) => {
        script!($name, "")
    };
    ($name:literal, $head:literal) => {
        Script::new(concat!(
            $head,
            include_str!("../scripts/moment.lua"),
            include_str!("../scripts/dedup/ids.lua"),
            include_str!(concat!("../scripts/dedup/", $name, ".lua")),
        ))
    };
}

pub(super) static CLAIM: Script = script!("claim");
/// A claim takes more memory than what is left of it once it is done: a full server may complete.
pub(super) static COMPLETE: Script = script!("complete", "#!lua flags=allow-oom\n");
pub(super) static EXTEND: Script = script!("extend");
pub(super) static RELEASE: Script = script!("release");
pub(super) static RECORD: Script = script!("record");
pub(super) static LOOK: Script = script!("look");

/// One call of a script: its keys and its arguments, in the making.
pub(super) struct Call<'a> {
    names: &'a Keys,
    period: Option<Period>,
    pub(super) keys: Vec<String>,
    pub(super) args: Vec<Arg>,
}

impl<'a> Call<'a> {
    /// A call that is told nothing but the moment yet.
    pub(super) fn new(names: &'a Keys, moment: Arg, period: Option<Period>) -> Self {
        let edge = |at: Option<i64>| at.map_or(Arg::from_static_str(""), Arg::Integer);
        let args = vec![
            moment,
            edge(period.map(|period| period.start())),
            edge(period.map(|period| period.end())),
            Arg::Integer(0),
        ];
        Self {
            names,
            period,
            keys: Vec::new(),
            args,
        }
    }

    /// Says how many buckets each id has.
    fn buckets(&mut self, count: u64) {
        if let Some(place) = self.args.get_mut(3) {
            *place = number(count);
        }
    }

    /// Names for each of `ids` its own key and every bucket that it may be in.
    pub(super) fn everywhere(&mut self, ids: &[MessageId]) {
        let live = self.period.map_or(0, |period| period.live());
        self.buckets(live);
        for id in ids {
            self.own(*id);
            if let Some(period) = self.period {
                let buckets = (0..live).map(|place| period.bucket(self.names, place, *id));
                self.keys.extend(buckets);
            }
        }
    }

    /// Names for each of `ids` its own key and the bucket that it goes to for `ttl`, and adds that
    /// time and when the bucket ends.
    pub(super) fn towards(
        &mut self,
        ids: impl Iterator<Item = MessageId>,
        ttl: Duration,
    ) -> Result<()> {
        self.args.push(millis(ttl));
        let Some(period) = self.period else {
            self.args.push(Arg::from_static_str(""));
            ids.for_each(|id| self.own(id));
            return Ok(());
        };
        self.buckets(1);
        let place = period.place_for(ttl)?;
        self.args.push(Arg::Integer(period.end_of(place)));
        for id in ids {
            self.own(id);
            self.keys.push(period.bucket(self.names, place, id));
        }
        Ok(())
    }

    /// Adds the time to live, which of the live buckets that means, from 1, and when it ends.
    pub(super) fn lasting(&mut self, ttl: Duration) -> Result<()> {
        self.args.push(millis(ttl));
        let place = self.period.map(|period| period.place_for(ttl));
        match (self.period, place.transpose()?) {
            (Some(period), Some(place)) => {
                self.args.push(number(place + 1));
                self.args.push(Arg::Integer(period.end_of(place)));
            }
            _ => self
                .args
                .extend([Arg::from_static_str(""), Arg::from_static_str("")]),
        }
        Ok(())
    }

    /// Names the key of an id's own.
    pub(super) fn own(&mut self, id: MessageId) {
        self.keys.push(self.names.part(&format!("id:{id}")));
    }

    pub(super) fn add(&mut self, arg: Arg) {
        self.args.push(arg);
    }
}

/// A time as scripts take it, in whole milliseconds, rounded up.
pub(super) fn millis(time: Duration) -> Arg {
    let millis = time.as_micros().div_ceil(1_000);
    // A hundred years and more are for ever, and a script's numbers are exact up to here.
    number(u64::try_from(millis).unwrap_or(u64::MAX).min(1 << 42))
}

fn number(count: u64) -> Arg {
    Arg::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

/// An id as a field of a bucket.
pub(super) fn field(id: MessageId) -> Arg {
    Arg::Bytes(Bytes::copy_from_slice(id.as_bytes()))
}
