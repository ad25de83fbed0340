//! How a program ends: with a message that says what to do, and with an exit code of its own for
//! each kind of failure.

use std::process::ExitCode;

use outbox::OutboxError;

/// What `--help` says about exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  all work is done
  1  work is left, and nothing is lost: the message says what to do
  2  settings or input that cannot be used: nothing was done
  3  all work is done but that of bad rows of the input, which were told";

/// Why a program did not do all that it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Work is left; the text says what, why, and what to do.
    #[error("{0}")]
    Incomplete(String),
    /// Settings or input that cannot be used; nothing was done.
    #[error("{0}")]
    Unusable(String),
    /// Some rows of the input gave no task; all others were dealt with.
    #[error("{0} rows gave no task (see above); all others were dealt with")]
    BadRows(usize),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Incomplete(_) => 1,
            Self::Unusable(_) => 2,
            Self::BadRows(_) => 3,
        }
    }
}

impl From<OutboxError> for Failure {
    fn from(error: OutboxError) -> Self {
        match error {
            OutboxError::Config(problems) => Self::Unusable(problems.to_string()),
            other => Self::Incomplete(other.to_string()),
        }
    }
}

/// Tells a failure, and gives the program its exit code.
pub(crate) fn exit(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
