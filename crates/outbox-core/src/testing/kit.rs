use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::error::{BoxError, error_text};

/// How long a case may run before it counts as hung.
const CASE_TIME: Duration = Duration::from_secs(120);

/// What a case answers; a failed assertion counts as failed too.
pub type CaseResult = Result<(), BoxError>;

/// A running case.
pub type CaseFuture<'a> = Pin<Box<dyn Future<Output = CaseResult> + Send + 'a>>;

/// What a case needs of a backend, as a condition on its capabilities `C`.
pub struct Requirement<C> {
    /// The need in words, as `needs transactions`; shown where it is not met.
    pub what: &'static str,
    /// Whether a backend with these capabilities meets it.
    pub met: fn(&C) -> bool,
}

impl<C> Requirement<C> {
    /// Every backend qualifies.
    pub const NOTHING: Self = Self {
        what: "needs nothing",
        met: |_| true,
    };
}

impl<C> Clone for Requirement<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Requirement<C> {}

/// One behaviour that a port's contract promises, and how to prove it with a harness `H`.
pub struct Case<H: ?Sized, C> {
    /// The behaviour, as a sentence in snake case.
    pub name: &'static str,
    /// The section of the contract that the case proves, as `4.2`.
    pub contract: &'static str,
    /// What it needs; where a backend cannot do it, the case shows as ignored.
    pub requires: Requirement<C>,
    /// Proves the behaviour.
    pub run: for<'a> fn(&'a H) -> CaseFuture<'a>,
}

impl<H: ?Sized, C> Clone for Case<H, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: ?Sized, C> Copy for Case<H, C> {}

/// A [`Case`] that is named as the async function which proves it.
macro_rules! case {
    ($contract:literal, $name:ident) => {
        $crate::testing::kit::case!($contract, $name, $crate::testing::kit::Requirement::NOTHING)
    };
    ($contract:literal, $name:ident, $requires:expr) => {
        $crate::testing::kit::Case {
            name: stringify!($name),
            contract: $contract,
            requires: $requires,
            run: |harness| Box::pin($name(harness)),
        }
    };
}
pub(super) use case;

/// The cases that a backend is to pass, collected port by port and run as one test binary.
pub struct Kit {
    backend: String,
    trials: Vec<Trial>,
}

impl Kit {
    /// An empty kit for the backend of this name, which starts the name of every trial.
    pub fn new(backend: impl Into<String>) -> Self {
        Self {
            backend: backend.into(),
            trials: Vec::new(),
        }
    }

    /// Adds `cases` of `port`, to be proved with `harness` as far as `capabilities` allow.
    #[must_use]
    pub fn with<H, C>(
        mut self,
        port: &str,
        harness: Arc<H>,
        capabilities: &C,
        cases: impl IntoIterator<Item = Case<H, C>>,
    ) -> Self
    where
        H: ?Sized + Send + Sync + 'static,
        C: 'static,
    {
        for case in cases {
            let name = format!("{}::{port}::{}", self.backend, case.name);
            let trial = if (case.requires.met)(capabilities) {
                let harness = Arc::clone(&harness);
                Trial::test(name, move || prove(&case, &*harness))
            } else {
                not_applicable(name, case.requires.what)
            };
            self.trials.push(trial.with_kind(case.contract));
        }
        self
    }

    /// How many cases the kit holds, those that do not apply among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.trials.len()
    }

    /// Whether the kit holds no case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trials.is_empty()
    }

    /// Runs the cases that the process' arguments select, prints what became of each, and answers
    /// the code for the process to end with.
    #[must_use]
    pub fn run(self) -> ExitCode {
        libtest_mimic::run(&Arguments::from_args(), self.trials).exit_code()
    }
}

/// Flagged, so that lists and runners know without running it; and ignored even where it is run.
fn not_applicable(name: String, why: &'static str) -> Trial {
    Trial::ignorable_test(name, move || Ok(Completion::ignored_with(why))).with_ignored_flag(true)
}

/// Each case has a runtime of its own, so that nothing of one lives on in the next.
fn prove<H: ?Sized, C>(case: &Case<H, C>, harness: &H) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let limited = async { tokio::time::timeout(CASE_TIME, (case.run)(harness)).await };
    match runtime.block_on(limited) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error_text(&*error, usize::MAX).into()),
        Err(_) => Err(format!("still running after {CASE_TIME:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Harness;

    async fn succeeds(_: &Harness) -> CaseResult {
        Ok(())
    }

    async fn fails(_: &Harness) -> CaseResult {
        Err("two and two is five".into())
    }

    const NEEDS_WINGS: Requirement<bool> = Requirement {
        what: "needs wings",
        met: |winged| *winged,
    };

    fn conclusion(arguments: &[&str]) -> libtest_mimic::Conclusion {
        let case = case!("1", succeeds, NEEDS_WINGS);
        let kit = Kit::new("test").with("port", Arc::new(Harness), &false, [case]);
        let arguments = ["kit", "--quiet"].iter().chain(arguments);
        libtest_mimic::run(&Arguments::from_iter(arguments), kit.trials)
    }

    #[test]
    fn a_case_that_does_not_apply_is_ignored_even_where_it_is_asked_for() {
        for arguments in [&[][..], &["--ignored"], &["--include-ignored"]] {
            let end = conclusion(arguments);
            assert_eq!((end.num_passed, end.num_ignored), (0, 1), "{arguments:?}");
        }
    }

    #[test]
    fn a_case_that_answers_an_error_has_failed() {
        let proved = |case: Case<Harness, bool>| prove(&case, &Harness);
        let failed = proved(case!("1", fails)).unwrap_err();
        assert_eq!(failed.message(), Some("two and two is five"));
        assert!(proved(case!("1", succeeds)).is_ok());
    }
}
