//! What goes wrong with a server, told in the caller's terms: which server, whether trying again may
//! help, and what somebody has to do.

use fred::error::{Error as DriverError, ErrorKind};
use outbox_core::error::{OutboxError, PublishError, Result, Transience};

/// The name of this backend in errors.
pub(crate) const BACKEND: &str = "redis";

/// First words of answers after which the same command may succeed later.
const TRANSIENT_WORDS: &[&str] = &[
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOGROUP",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
];

/// An answer of `ERR` that is about the moment, not about the command.
const TOO_MANY_CLIENTS: &str = "max number of clients";

/// What is in the driver's error where a server is reached whose certificate is not accepted.
const BAD_CERTIFICATE: &str = "InvalidCertificate";

/// What the driver says of a command that another node of a cluster is to be asked.
const REDIRECTED: &str = "Too many redirections";

/// What servers answer of a command in a script that they would refuse with `NOPERM` outside of one.
const NOT_PERMITTED_IN_SCRIPTS: &[&str] = &[
    "The user executing the script can't",
    "ACL failure in script",
];

/// What the server answered instead of a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Answer(pub(crate) String);

impl Answer {
    /// The first word, as `NOPERM`: the only part that servers agree on.
    pub(crate) fn word(&self) -> &str {
        let told = |text: &&str| self.0.contains(*text);
        if NOT_PERMITTED_IN_SCRIPTS.iter().any(told) {
            return "NOPERM";
        }
        self.0.split_whitespace().next().unwrap_or_default()
    }

    fn is_transient(&self) -> bool {
        TRANSIENT_WORDS.contains(&self.word()) || self.0.contains(TOO_MANY_CLIENTS)
    }
}

/// Anything that can go wrong inside this crate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The server answered with an error.
    #[error(transparent)]
    Server(#[from] Answer),
    /// The driver failed, or could not reach the server.
    #[error(transparent)]
    Driver(DriverError),
    /// Already told in the caller's terms.
    #[error(transparent)]
    Told(#[from] OutboxError),
    /// A reply of another shape than the command has.
    #[error("{wanted} was expected, and the reply is {found}")]
    Reply {
        /// What the reply should have been.
        wanted: &'static str,
        /// What it is.
        found: String,
    },
    /// The server would throw keys away when its memory is full.
    #[error(
        "its maxmemory-policy is {0}, but only `noeviction` loses nothing; set it, or open with \
         Eviction::Warn"
    )]
    Evicts(String),
    /// The server is too old, or another one than this crate is for.
    #[error("it does not have the command {0}; Redis 7.0 or newer, or Valkey, is needed")]
    Missing(&'static str),
}

impl From<DriverError> for Fault {
    fn from(error: DriverError) -> Self {
        let answer = Answer(error.details().to_owned());
        let word = answer.word();
        let told = word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase());
        if told && *error.kind() != ErrorKind::IO {
            Self::Server(answer)
        } else {
            Self::Driver(error)
        }
    }
}

impl Fault {
    /// The first word of the server's answer, where it answered.
    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Self::Server(answer) => Some(answer.word()),
            _ => None,
        }
    }

    /// Whether the stream or its group is gone: what was in it was lost, and it has to be made anew.
    pub(crate) fn lost_group(&self) -> bool {
        matches!(self.word(), Some("NOGROUP" | "UNBLOCKED"))
    }

    /// Whether a node of a cluster sent the command to another one, and did nothing.
    pub(crate) fn redirected(&self) -> bool {
        matches!(self, Self::Driver(error) if error.details().contains(REDIRECTED))
    }

    /// Whether the driver gave up waiting, and the command may have taken effect. One that found too
    /// many waiting already was not sent, and tells nothing of the connection.
    pub(crate) fn unanswered(&self) -> bool {
        matches!(self, Self::Driver(error) if *error.kind() == ErrorKind::Timeout)
    }

    fn transience(&self) -> Transience {
        let again = match self {
            Self::Server(answer) => answer.is_transient(),
            Self::Driver(error) => is_about_the_way(error),
            Self::Told(error) => error.is_transient(),
            Self::Reply { .. } | Self::Evicts(_) | Self::Missing(_) => false,
        };
        if again {
            Transience::Transient
        } else {
            Transience::Permanent
        }
    }
}

/// Whether the driver failed on its way to the server or back; what it does not know by name, as
/// `Failed to route command`, is of that kind.
fn is_about_the_way(error: &DriverError) -> bool {
    if error.details().contains(BAD_CERTIFICATE) {
        return false;
    }
    matches!(
        error.kind(),
        ErrorKind::IO
            | ErrorKind::Timeout
            | ErrorKind::Canceled
            | ErrorKind::Backpressure
            | ErrorKind::Cluster
            | ErrorKind::Routing
            | ErrorKind::Sentinel
            | ErrorKind::Unknown
    )
}

/// A fault with the operation and the server that it happened at.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", self.diagnosis())]
pub(crate) struct Failed {
    operation: &'static str,
    place: String,
    #[source]
    fault: Fault,
}

impl Failed {
    pub(crate) fn new(operation: &'static str, place: &str, fault: Fault) -> Self {
        Self {
            operation,
            place: place.to_owned(),
            fault,
        }
    }

    fn diagnosis(&self) -> String {
        let place = &self.place;
        match &self.fault {
            Fault::Server(answer) => match answer.word() {
                "NOAUTH" | "WRONGPASS" => format!("{place} refuses the user or the password"),
                "NOPERM" => format!("{place} does not permit this user what is needed"),
                "WRONGTYPE" => format!("{place} holds a key of another type under a name of ours"),
                "OOM" => format!("the memory of {place} is full"),
                "READONLY" => format!("{place} is a replica"),
                "LOADING" => format!("{place} is still loading its data"),
                "MISCONF" => format!("{place} cannot save to its disk"),
                _ => format!("{place} answers an error"),
            },
            Fault::Driver(error) if error.details().contains(BAD_CERTIFICATE) => {
                format!("{place} shows a certificate that is not accepted")
            }
            Fault::Driver(error) => match error.kind() {
                ErrorKind::IO | ErrorKind::Routing => format!("{place} cannot be reached"),
                ErrorKind::Timeout => format!("{place} does not answer in time"),
                ErrorKind::Auth => format!("{place} refuses the user or the password"),
                ErrorKind::Sentinel => format!("{place} names no primary"),
                _ => place.clone(),
            },
            _ => place.clone(),
        }
    }
}

impl From<Failed> for OutboxError {
    fn from(failed: Failed) -> Self {
        match failed.fault {
            Fault::Told(error) => error,
            _ => Self::Backend {
                backend: BACKEND,
                operation: failed.operation,
                transience: failed.fault.transience(),
                source: Box::new(failed),
            },
        }
    }
}

/// Says of a fault where it happened, in the terms of the ports.
pub(crate) trait At<T> {
    /// The answer of a port that stores something.
    fn at(self, operation: &'static str, place: &str) -> Result<T>;
}

impl<T> At<T> for Result<T, Fault> {
    fn at(self, operation: &'static str, place: &str) -> Result<T> {
        self.map_err(|fault| Failed::new(operation, place, fault).into())
    }
}

/// One answer for each of `count` messages that could not be sent: whatever is wrong with a server
/// is not their fault, so that it costs none of them an attempt.
pub(crate) fn unavailable<T>(failed: Failed, count: usize) -> Vec<Result<T, PublishError>> {
    let shared = std::sync::Arc::new(failed);
    let each = || Err(PublishError::unavailable(std::sync::Arc::clone(&shared)));
    std::iter::repeat_with(each).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &'static str) -> Fault {
        Fault::from(DriverError::new(ErrorKind::Unknown, text))
    }

    fn told(fault: Fault) -> (bool, String) {
        let error = Failed::new("settle", "redis.example:6379", fault);
        let error = OutboxError::from(error);
        (error.is_transient(), error.to_string())
    }

    #[test]
    fn answers_are_told_apart_by_their_first_word() {
        let cases = [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                true,
                "memory",
            ),
            (
                "READONLY You can't write against a read only replica.",
                true,
                "replica",
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                true,
                "loading",
            ),
            (
                "NOGROUP No such key 'q' or consumer group 'g'",
                true,
                "NOGROUP",
            ),
            ("ERR max number of clients reached", true, "clients"),
            (
                "NOPERM User x has no permissions to run the 'xadd' command",
                false,
                "'xadd'",
            ),
            (
                "ERR The user executing the script can't run this command or subcommand (GET key)",
                false,
                "does not permit",
            ),
            (
                "WRONGPASS invalid username-password pair",
                false,
                "password",
            ),
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                false,
                "type",
            ),
            ("ERR unknown command 'XAUTOCLAIM'", false, "XAUTOCLAIM"),
        ];
        for (text, transient, part) in cases {
            let (again, told) = told(answered(text));
            assert_eq!(again, transient, "{text}");
            assert!(
                told.contains(part) && told.contains("redis.example"),
                "{told}"
            );
        }
    }

    #[test]
    fn whoever_is_not_reached_may_be_reached_later() {
        for kind in [ErrorKind::IO, ErrorKind::Timeout, ErrorKind::Backpressure] {
            assert!(told(DriverError::new(kind, "no luck").into()).0);
        }
        let cut_off = DriverError::new(ErrorKind::Unknown, "Too many failed write attempts.");
        assert!(told(cut_off.into()).0);
        let parse = DriverError::new(ErrorKind::Parse, "no luck");
        assert!(!told(parse.into()).0);
    }

    #[test]
    fn a_lost_group_is_recognised_in_both_of_its_forms() {
        assert!(answered("NOGROUP No such key").lost_group());
        assert!(answered("UNBLOCKED the stream key no longer exists").lost_group());
        assert!(!answered("OOM").lost_group());
    }
}
