use std::time::Duration;

use crate::error::{PublishError, error_text};
use crate::id::Entropy;
use crate::message::Message;
use crate::ports::{Outcome, Settlement};
use crate::report::Fate;
use crate::status::{AttemptRecord, ERROR_TEXT_BYTES};
use crate::time::Timestamp;

use super::RelayConfig;
use super::lane::Held;

/// What one publish call came to.
pub(super) enum Answer {
    /// The publisher answered, one result a message.
    Results(Vec<Result<(), PublishError>>),
    /// It panicked, or answered another number of results.
    Broken(String),
    /// It hung until its timeout.
    Hung(String),
}

/// The circumstances under which results are judged.
pub(super) struct Court<'a> {
    pub(super) config: &'a RelayConfig,
    pub(super) entropy: &'a Entropy,
    /// Where untried messages go: back in their place, or aside until their destination is back.
    pub(super) put_back: Outcome,
    pub(super) started: Timestamp,
    pub(super) now: Timestamp,
}

/// One message of a call.
pub(super) struct One<'a> {
    pub(super) message: &'a Message,
    pub(super) held: Held,
}

/// What becomes of one message.
pub(super) struct Verdict {
    pub(super) settlement: Settlement,
    pub(super) fate: Fate,
    pub(super) error: Option<(String, String)>,
}

impl Court<'_> {
    /// Judges one message by its result.
    pub(super) fn judge(&self, one: &One<'_>, result: Result<(), PublishError>) -> Verdict {
        match result {
            Ok(()) => verdict(one, Outcome::Published, Fate::Done),
            Err(error) => self.judge_error(one, &error),
        }
    }

    fn judge_error(&self, one: &One<'_>, error: &PublishError) -> Verdict {
        let failure = self.failure(error.kind(), error_text(error, ERROR_TEXT_BYTES));
        match error {
            PublishError::Refused(_) => self.quarantine(one, failure),
            PublishError::Failed(_) => self.retry(one, failure),
            PublishError::Unavailable { .. }
            | PublishError::HeldBack
            | PublishError::Fenced { .. } => {
                let mut verdict = self.put_back(one);
                verdict.error = Some((failure.kind, failure.error));
                verdict
            }
        }
    }

    /// Judges a message whose call broke. It is charged only where it was alone in the call and its
    /// destination was known to be alive: otherwise another may be to blame.
    pub(super) fn judge_broken(&self, one: &One<'_>, alone: bool, problem: &str) -> Verdict {
        if alone {
            return self.retry(one, self.failure("broken", problem.to_owned()));
        }
        let mut verdict = self.put_back(one);
        verdict.error = Some(("broken".to_owned(), problem.to_owned()));
        verdict
    }

    /// Puts a message back untried.
    pub(super) fn put_back(&self, one: &One<'_>) -> Verdict {
        verdict(one, self.put_back.clone(), Fate::Deferred)
    }

    fn retry(&self, one: &One<'_>, failure: AttemptRecord) -> Verdict {
        let overrides = one.message.retry.as_ref();
        let Some(delay) = self
            .config
            .retry
            .next_delay(one.held.attempt, overrides, self.entropy)
        else {
            return self.quarantine(one, failure);
        };
        let error = Some((failure.kind.clone(), failure.error.clone()));
        let on_failure = self.config.on_failure;
        let outcome = Outcome::Retry {
            due_at: self.now + delay,
            failure,
            on_failure,
        };
        Verdict {
            error,
            ..verdict(one, outcome, Fate::Retried)
        }
    }

    fn quarantine(&self, one: &One<'_>, failure: AttemptRecord) -> Verdict {
        let error = Some((failure.kind.clone(), failure.error.clone()));
        let outcome = Outcome::Quarantine {
            failure,
            on_failure: self.config.on_failure,
        };
        Verdict {
            error,
            ..verdict(one, outcome, Fate::Quarantined)
        }
    }

    fn failure(&self, kind: &str, error: String) -> AttemptRecord {
        let duration: Duration = self.now.since(self.started);
        AttemptRecord {
            at: self.started,
            duration,
            kind: kind.to_owned(),
            error,
        }
    }
}

fn verdict(one: &One<'_>, outcome: Outcome, fate: Fate) -> Verdict {
    Verdict {
        settlement: Settlement {
            token: one.held.token,
            outcome,
        },
        fate,
        error: None,
    }
}
