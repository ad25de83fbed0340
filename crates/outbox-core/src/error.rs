//! Errors whose variants answer one question: what can the caller do?

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// A boxed source of an error: always the value itself, never its text.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The answer of every port that stores something.
pub type Result<T, E = OutboxError> = std::result::Result<T, E>;

/// Whether trying the same again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transience {
    /// Busy, unreachable or timed out: the same call may succeed later.
    Transient,
    /// Full, read-only, damaged or forbidden: somebody has to act first.
    Permanent,
}

/// What went wrong in a store, a codec or a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The storage or broker behind a port failed. The effect of the call is unknown where the
    /// error is transient: repeat it only with the same ids.
    #[error("{backend}: {operation} failed ({transience:?}): {source}")]
    Backend {
        /// The backend's name, as `sqlite`.
        backend: &'static str,
        /// The port's method, or the step in it.
        operation: &'static str,
        /// Whether trying again may help.
        transience: Transience,
        /// The driver's own error.
        source: BoxError,
    },
    /// Bytes that do not hold what they should: a stored row, a header, a payload.
    #[error("cannot read or write {what}: {source}")]
    Codec {
        /// What could not be encoded or decoded.
        what: String,
        /// The codec's own error.
        source: BoxError,
    },
    /// A value over a stated limit; nothing was touched.
    #[error("{what} is {actual}, over its limit of {limit}")]
    Limit {
        /// What is limited, with its unit, as `payload bytes`.
        what: String,
        /// The value found.
        actual: u64,
        /// The greatest value allowed.
        limit: u64,
    },
    /// A configuration that cannot be used, with every problem in it.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The store holds a schema that this version does not know.
    #[error("schema {found} found, but this version supports {supported}")]
    Schema {
        /// What the store says of itself.
        found: String,
        /// What this version can work with.
        supported: String,
    },
    /// The port was closed; nothing more will succeed on it.
    #[error("closed")]
    Closed,
}

impl OutboxError {
    /// Whether trying the same again, with the same ids, may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Backend {
                transience: Transience::Transient,
                ..
            }
        )
    }

    /// A codec error about `what`.
    pub fn codec(what: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Codec {
            what: what.into(),
            source: source.into(),
        }
    }
}

/// Every problem that a configuration has, so that one round of mending is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, in the order of the settings; never empty in an error that is returned.
    pub problems: Vec<ConfigProblem>,
}

/// One unusable setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The name of the setting as its user wrote it: a variable, a flag or a field.
    pub setting: String,
    /// What is wrong with it, with the value found and what would be accepted.
    pub problem: String,
}

impl ConfigError {
    /// Notes that `setting` cannot be used.
    pub fn add(&mut self, setting: impl Into<String>, problem: impl Into<String>) {
        self.problems.push(ConfigProblem {
            setting: setting.into(),
            problem: problem.into(),
        });
    }

    /// `Ok` where no problem was noted.
    ///
    /// # Errors
    /// Itself, where at least one problem was noted.
    pub fn into_result(self) -> std::result::Result<(), Self> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(self)
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unusable configuration:")?;
        for ConfigProblem { setting, problem } in &self.problems {
            write!(f, "\n  {setting}: {problem}")?;
        }
        Ok(())
    }
}

impl StdError for ConfigError {}

/// The longest time that a full queue asks to wait: it may have room at any moment.
pub const FULL_RETRY: Duration = Duration::from_millis(100);

/// Why one message was not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The destination cannot be reached or is full. Costs the message no attempt: it waits until
    /// the destination is back.
    #[error("destination unavailable: {source}")]
    Unavailable {
        /// The earliest moment that the destination named, counted from the answer.
        retry_after: Option<Duration>,
        /// The driver's own error.
        source: BoxError,
    },
    /// This message failed this time; others may pass. Costs an attempt.
    #[error("publishing failed: {0}")]
    Failed(#[source] BoxError),
    /// The destination will never take this message: it goes to quarantine at once.
    #[error("message refused: {0}")]
    Refused(#[source] BoxError),
    /// Not tried, because an earlier message of the same ordering key failed in the same call.
    /// Costs no attempt.
    #[error("held back behind a failed message of the same key")]
    HeldBack,
    /// The sink has seen a newer fencing epoch: this relay is stale and must stop.
    #[error("stale relay: the sink has seen epoch {seen}")]
    Fenced {
        /// The newest epoch that the sink has seen.
        seen: u64,
    },
}

impl PublishError {
    /// An [`PublishError::Unavailable`] that names no time.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self::Unavailable {
            retry_after: None,
            source: source.into(),
        }
    }

    /// An [`PublishError::Unavailable`] for want of room, that names [`FULL_RETRY`].
    pub fn full(source: impl Into<BoxError>) -> Self {
        Self::Unavailable {
            retry_after: Some(FULL_RETRY),
            source: source.into(),
        }
    }

    /// A [`PublishError::Failed`].
    pub fn failed(source: impl Into<BoxError>) -> Self {
        Self::Failed(source.into())
    }

    /// A [`PublishError::Refused`].
    pub fn refused(source: impl Into<BoxError>) -> Self {
        Self::Refused(source.into())
    }

    /// Whether sending the same message again may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }

    /// A short stable word for metrics and failure records.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::HeldBack => "held-back",
            Self::Fenced { .. } => "fenced",
        }
    }
}

/// Why a handler did not handle a delivery.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// It may succeed later: the delivery is retried, and the attempt counts.
    #[error("handler failed: {source}")]
    Retry {
        /// The earliest time for the next attempt; the retry policy's own delay where `None`.
        after: Option<Duration>,
        /// What the handler reports.
        source: BoxError,
    },
    /// It will never succeed: the delivery is dead-lettered at once.
    #[error("handler rejected the delivery: {0}")]
    Reject(#[source] BoxError),
}

impl HandlerError {
    /// A [`HandlerError::Retry`] after the retry policy's own delay.
    pub fn retry(source: impl Into<BoxError>) -> Self {
        Self::Retry {
            after: None,
            source: source.into(),
        }
    }

    /// A [`HandlerError::Reject`].
    pub fn reject(source: impl Into<BoxError>) -> Self {
        Self::Reject(source.into())
    }

    /// Whether another attempt may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Retry { .. })
    }

    /// A short stable word for metrics and failure records.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Reject(_) => "reject",
        }
    }
}

/// A panic that was caught in foreign code, with what it said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

impl From<Box<dyn std::any::Any + Send>> for Panicked {
    fn from(payload: Box<dyn std::any::Any + Send>) -> Self {
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "no message".to_owned()))
    }
}

/// The error and its causes in one line, outermost first, cut to `limit` bytes at a char boundary.
#[must_use]
pub fn error_text(error: &(dyn StdError + 'static), limit: usize) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text.truncate(text.floor_char_boundary(limit));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_error_tells_every_problem_at_once() {
        let mut error = ConfigError::default();
        assert_eq!(error.clone().into_result(), Ok(()));
        error.add("OUTBOX_BATCH_SIZE", "`many` is no number");
        error.add("OUTBOX_PATH", "is empty");
        let text = error.into_result().unwrap_err().to_string();
        assert!(
            text.contains("OUTBOX_BATCH_SIZE") && text.contains("OUTBOX_PATH"),
            "{text}"
        );
    }

    #[test]
    fn an_error_text_names_causes_once_and_keeps_its_limit() {
        let cause = std::io::Error::other("naïve disk");
        let error = PublishError::failed(cause);
        assert_eq!(error_text(&error, 100), "publishing failed: naïve disk");
        assert_eq!(error_text(&error, 22), "publishing failed: na");
    }

    #[test]
    fn only_a_refusal_is_final() {
        assert!(PublishError::HeldBack.is_transient());
        assert!(!PublishError::refused("no such topic").is_transient());
        assert!(!HandlerError::reject("bad payload").is_transient());
    }
}
