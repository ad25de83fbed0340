use crate::error::Fault;
use crate::link::{Arg, Link, Reply};
use crate::options::Eviction;

/// Commands that came with Redis 7.0, or that everything here rests on.
const NEEDED: &[&str] = &["EVALSHA", "XADD", "XREADGROUP", "XAUTOCLAIM", "EXPIRETIME"];

/// The only policy under which a full server refuses to write and throws nothing away.
const NO_EVICTION: &str = "noeviction";

/// Asks whether the server answers, knows what this crate needs, and keeps what it is given.
pub(crate) async fn probe(link: &Link, eviction: Eviction, place: &str) -> Result<(), Fault> {
    link.command("PING", None, Vec::new()).await?;
    let commands = allowed(know_commands(link).await, "COMMAND INFO", place)?;
    if let Some(Some(missing)) = commands {
        return Err(Fault::Missing(missing));
    }
    let policy = allowed(eviction_policy(link).await, "INFO memory", place)?;
    match policy.flatten() {
        Some(policy) if policy != NO_EVICTION => refuse(policy, eviction, place),
        _ => Ok(()),
    }
}

/// The first needed command that the server does not have.
async fn know_commands(link: &Link) -> Result<Option<&'static str>, Fault> {
    let names = NEEDED.iter().map(|name| Arg::from_static_str(name));
    let args = std::iter::once(Arg::from_static_str("INFO")).chain(names);
    let known = link.command("COMMAND", None, args.collect()).await?;
    let missing = known.list()?.position(is_unknown);
    Ok(missing.and_then(|place| NEEDED.get(place).copied()))
}

/// A command that is not known is nothing, or an empty list.
fn is_unknown(command: Reply) -> bool {
    command.is_null() || command.list().is_ok_and(|list| list.len() == 0)
}

/// The server's `maxmemory-policy`, where it tells one.
async fn eviction_policy(link: &Link) -> Result<Option<String>, Fault> {
    let args = vec![Arg::from_static_str("memory")];
    let info = link.command("INFO", None, args).await?.text()?;
    let policy = info
        .lines()
        .find_map(|line| line.strip_prefix("maxmemory_policy:"));
    Ok(policy.map(|policy| policy.trim().to_owned()))
}

/// What was found out; `None`, and a warning, where this user may not ask.
fn allowed<T>(
    answer: Result<T, Fault>,
    command: &'static str,
    place: &str,
) -> Result<Option<T>, Fault> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(fault) if fault.word() == Some("NOPERM") => {
            tracing::warn!(
                server = place,
                command,
                "not permitted, so the server is not checked"
            );
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

fn refuse(policy: String, eviction: Eviction, place: &str) -> Result<(), Fault> {
    match eviction {
        Eviction::Refuse => Err(Fault::Evicts(policy)),
        Eviction::Warn => {
            tracing::warn!(
                server = place,
                policy,
                "maxmemory-policy is not noeviction: a full server loses messages"
            );
            Ok(())
        }
    }
}
