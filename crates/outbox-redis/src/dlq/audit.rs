use outbox_core::error::OutboxError;
use outbox_core::time::Timestamp;
use outbox_dlq::{Action, ActionId, ActionKind, AuditRecord};

use super::pick::too_short;
use super::port::RedisQuarantine;
use super::scripts;
use crate::error::Fault;
use crate::link::{Arg, Reply};

/// A step of an action as scripts are told, to be recorded in the step itself.
pub(super) fn step(kind: ActionKind, action: &Action, what: &str, now: Timestamp) -> Vec<Arg> {
    vec![
        Arg::from_static_str(kind.word()),
        Arg::from(action.id.to_string()),
        Arg::from(action.by.as_str()),
        Arg::from(action.reason.as_str()),
        Arg::from(what),
        Arg::Integer(now.as_micros()),
    ]
}

impl RedisQuarantine {
    /// The records behind number `after`.
    pub(super) async fn records(&self, after: u64, max: usize) -> Result<Vec<AuditRecord>, Fault> {
        let number = |number: u64| Arg::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let args = vec![number(after), number(max as u64)];
        let reply = self.run(&scripts::AUDIT, None, args).await?;
        reply.list()?.map(record).collect()
    }
}

fn record(reply: Reply) -> Result<AuditRecord, Fault> {
    let mut parts = reply.list()?;
    let mut next = || parts.next().ok_or_else(too_short);
    let number = |reply: Reply| Ok::<_, Fault>(reply.number()?.unsigned_abs());
    let wrong = |what: String| Fault::Told(OutboxError::codec("a record of the audit", what));
    let place = number(next()?)?;
    let word = next()?.text()?;
    let kind = ActionKind::of(&word).ok_or_else(|| wrong(format!("no action `{word}`")))?;
    let id = u64::from_str_radix(&next()?.text()?, 16);
    Ok(AuditRecord {
        number: place,
        kind,
        action: Action {
            id: ActionId(id.map_err(|error| wrong(error.to_string()))?),
            by: next()?.text()?,
            reason: next()?.text()?,
        },
        what: next()?.text()?,
        letters: number(next()?)?,
        began_at: Timestamp::from_micros(next()?.number()?),
        ended_at: Timestamp::from_micros(next()?.number()?),
    })
}
