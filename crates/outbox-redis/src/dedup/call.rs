//! The scripts of the cache, and what each is told.

use std::time::Duration;

use outbox_core::error::Result;
use outbox_core::id::MessageId;
use outbox_core::ports::ClaimToken;

use super::layout::Places;
use crate::keys::Keys;
use crate::link::{Arg, Script, Texts};

/// What shows a claim: its id and its token.
pub(super) type Proof = (MessageId, ClaimToken);

/// What is done to ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Claim,
    Complete,
    Extend,
    Release,
    Record,
    Look,
}

macro_rules! script {
    ($head:literal, $folder:literal, $name:literal) => {{
        static SCRIPT: Script = Script::new(concat!(
            $head,
            include_str!("../scripts/moment.lua"),
            include_str!(concat!("../scripts/", $folder, "/ids.lua")),
            include_str!(concat!("../scripts/", $folder, "/", $name, ".lua")),
        ));
        &SCRIPT
    }};
}

macro_rules! scripts {
    ($act:expr, $folder:literal) => {
        match $act {
            Act::Claim => script!("", $folder, "claim"),
            // What was claimed takes no more to speak of when it is extended, and less once it is done:
            // a full server may do both.
            Act::Complete => script!("#!lua flags=allow-oom\n", $folder, "complete"),
            Act::Extend => script!("#!lua flags=allow-oom\n", $folder, "extend"),
            Act::Release => script!("", $folder, "release"),
            Act::Record => script!("", $folder, "record"),
            Act::Look => script!("", $folder, "look"),
        }
    };
}

/// One call of a script: its keys and its arguments, in the making.
pub(super) struct Call<'a> {
    names: &'a Keys,
    places: Places,
    pub(super) keys: Vec<String>,
    pub(super) args: Vec<Arg>,
    texts: Texts,
}

impl<'a> Call<'a> {
    /// A call that is told nothing but the moment yet.
    pub(super) fn new(names: &'a Keys, moment: Arg, places: Places) -> Self {
        let edge = |at: Option<i64>| at.map_or(Arg::from_static_str(""), Arg::Integer);
        let period = places.period();
        let mut call = Self {
            names,
            places,
            keys: Vec::new(),
            texts: Texts::default(),
            args: vec![
                moment,
                edge(period.map(|period| period.start())),
                edge(period.map(|period| period.end())),
                Arg::Integer(0),
            ],
        };
        if let Places::Sets(period) = places {
            call.count(period.live());
            call.keys.extend(period.sets(names));
        }
        call
    }

    /// The script that does `act` where the ids are.
    pub(super) fn script(&self, act: Act) -> &'static Script {
        match self.places {
            Places::Sets(_) => scripts!(act, "dedup/sets"),
            _ => scripts!(act, "dedup"),
        }
    }

    /// Says how many buckets each id has, or how many sets there are.
    fn count(&mut self, count: u64) {
        if let Some(place) = self.args.get_mut(3) {
            *place = number(count);
        }
    }

    /// Adds `ids`, with the key of each and every bucket that it may be in.
    pub(super) fn everywhere(&mut self, ids: &[MessageId]) {
        if let Places::Buckets(period, _) = self.places {
            self.count(period.live());
        }
        for id in ids {
            self.own(*id);
            if let Places::Buckets(period, shards) = self.places {
                let at = (*id, shards);
                let buckets = (0..period.live()).map(|place| period.bucket(self.names, place, at));
                self.keys.extend(buckets);
            }
        }
        self.ids(ids.iter());
    }

    /// Adds what claimed ids are to be remembered for and where, and for each of them its key, its
    /// bucket, and what shows the claim.
    pub(super) fn towards(&mut self, claims: &[Proof], ttl: Duration) -> Result<()> {
        self.lasting(ttl)?;
        let bucket = match self.places {
            Places::Buckets(period, shards) => {
                self.count(1);
                Some((period, shards, period.place_for(ttl)?))
            }
            _ => None,
        };
        for (id, _) in claims {
            self.own(*id);
            if let Some((period, shards, place)) = bucket {
                let bucket = period.bucket(self.names, place, (*id, shards));
                self.keys.push(bucket);
            }
        }
        self.runs(claims);
        Ok(())
    }

    /// Adds what shows claims.
    pub(super) fn held(&mut self, claims: &[Proof]) {
        claims.iter().for_each(|(id, _)| self.own(*id));
        self.runs(claims);
    }

    /// Adds claims in runs of those that have the same token, each behind it and their number.
    fn runs(&mut self, claims: &[Proof]) {
        for run in claims.chunk_by(|(_, one), (_, next)| one == next) {
            if let Some((_, token)) = run.first() {
                self.token(*token);
            }
            self.args.push(number(run.len() as u64));
            self.ids(run.iter().map(|(id, _)| id));
        }
    }

    /// Adds a lease; where claims lie with others that end as they do, also which those are.
    pub(super) fn lease(&mut self, lease: Duration) -> Result<()> {
        match self.places {
            Places::Sets(_) => self.lasting(lease),
            _ => {
                self.args.push(millis(lease));
                Ok(())
            }
        }
    }

    /// Adds a time to live, which of the live places that means, from 1, and when that one ends.
    pub(super) fn lasting(&mut self, ttl: Duration) -> Result<()> {
        self.args.push(millis(ttl));
        match self.places.period() {
            Some(period) => {
                let place = period.place_for(ttl)?;
                self.args.push(number(place + 1));
                self.args.push(Arg::Integer(period.end_of(place)));
            }
            None => self
                .args
                .extend([Arg::from_static_str(""), Arg::from_static_str("")]),
        }
        Ok(())
    }

    /// Names the key of an id's own, where it has one.
    fn own(&mut self, id: MessageId) {
        if !matches!(self.places, Places::Sets(_)) {
            self.keys.push(format!("{}:id:{id}", self.names));
        }
    }

    /// Adds ids as fields of buckets, or members of sets; nothing where each has a key of its own alone.
    fn ids<'i>(&mut self, ids: impl Iterator<Item = &'i MessageId>) {
        if self.places != Places::Own {
            let texts = &mut self.texts;
            self.args.extend(ids.map(|id| texts.bytes(id.as_bytes())));
        }
    }

    /// Adds a token as scripts compare it.
    pub(super) fn token(&mut self, token: ClaimToken) {
        self.args.push(self.texts.text(token.0));
    }
}

/// A time as scripts take it, in whole milliseconds, rounded up.
fn millis(time: Duration) -> Arg {
    let millis = time.as_micros().div_ceil(1_000);
    // A hundred years and more are for ever, and a script's numbers are exact up to here.
    number(u64::try_from(millis).unwrap_or(u64::MAX).min(1 << 42))
}

fn number(count: u64) -> Arg {
    Arg::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}
