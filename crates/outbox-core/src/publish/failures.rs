use std::fmt;
use std::time::Duration;

use crate::error::PublishError;

/// What one of several destinations answered instead of taking a message.
#[derive(Debug, thiserror::Error)]
#[error("{destination}: {error}")]
pub struct DestinationError {
    /// The destination's name.
    pub destination: String,
    /// Its answer.
    #[source]
    pub error: PublishError,
}

/// What several destinations answered instead of taking the same message.
#[derive(Debug)]
pub struct DestinationErrors(pub Vec<DestinationError>);

impl fmt::Display for DestinationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, failure) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}{failure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DestinationErrors {}

/// One answer to a message from those of its destinations that did not take it; at least one.
///
/// What may still be delivered comes before what never will: a refusal decides only once every
/// other destination has the message, so that quarantining it leaves no work undone. An
/// unavailable destination decides before a failed one, so that waiting costs no attempt.
/// `pick_wait` chooses between the waits that unavailable destinations named.
pub(super) fn combine(
    failures: Vec<DestinationError>,
    pick_wait: impl FnOnce(Vec<Option<Duration>>) -> Option<Duration>,
) -> PublishError {
    let errors = || failures.iter().map(|failure| &failure.error);
    let fenced = errors().filter_map(|error| match error {
        PublishError::Fenced { seen } => Some(*seen),
        _ => None,
    });
    if let Some(seen) = fenced.max() {
        return PublishError::Fenced { seen };
    }
    let waits: Vec<_> = errors().filter_map(named_wait).collect();
    let any = |kind| errors().any(|error| error.kind() == kind);
    let (failed, held_back) = (any("failed"), any("held-back"));
    let source = DestinationErrors(failures).into();
    match (waits.is_empty(), failed, held_back) {
        (false, ..) => PublishError::Unavailable {
            retry_after: pick_wait(waits),
            source,
        },
        (true, true, _) => PublishError::Failed(source),
        (true, false, true) => PublishError::HeldBack,
        (true, false, false) => PublishError::Refused(source),
    }
}

fn named_wait(error: &PublishError) -> Option<Option<Duration>> {
    match error {
        PublishError::Unavailable { retry_after, .. } => Some(*retry_after),
        _ => None,
    }
}

/// The wait for those who need all destinations: the longest that was named.
pub(super) fn longest(waits: Vec<Option<Duration>>) -> Option<Duration> {
    waits.into_iter().flatten().max()
}

/// The wait for those who need any destination: the shortest, none where one named no time.
pub(super) fn shortest(waits: Vec<Option<Duration>>) -> Option<Duration> {
    waits.into_iter().min().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn combined(errors: Vec<PublishError>) -> PublishError {
        let named = |error| DestinationError {
            destination: "d".to_owned(),
            error,
        };
        combine(errors.into_iter().map(named).collect(), longest)
    }

    fn unavailable(seconds: u64) -> PublishError {
        PublishError::Unavailable {
            retry_after: Some(Duration::from_secs(seconds)),
            source: "away".into(),
        }
    }

    #[test]
    fn what_may_still_be_delivered_decides_before_a_refusal() {
        let refused = || PublishError::refused("never");
        let failed = || PublishError::failed("once");
        let kind = |errors| combined(errors).kind();
        assert_eq!(kind(vec![refused(), refused()]), "refused");
        assert_eq!(kind(vec![refused(), PublishError::HeldBack]), "held-back");
        assert_eq!(kind(vec![PublishError::HeldBack, failed()]), "failed");
        assert_eq!(
            kind(vec![failed(), unavailable(1), refused()]),
            "unavailable"
        );
    }

    #[test]
    fn a_newer_epoch_anywhere_makes_the_relay_stale() {
        let errors = vec![unavailable(1), PublishError::Fenced { seen: 7 }];
        assert!(matches!(combined(errors), PublishError::Fenced { seen: 7 }));
    }

    #[test]
    fn waits_are_the_longest_for_all_and_the_shortest_for_any() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(longest(vec![seconds(2), None, seconds(5)]), seconds(5));
        assert_eq!(shortest(vec![seconds(5), seconds(2)]), seconds(2));
        assert_eq!(shortest(vec![seconds(5), None]), None);
    }

    #[test]
    fn every_failed_destination_is_named() {
        let text = combined(vec![unavailable(1), PublishError::refused("never")]).to_string();
        assert!(text.contains("d: destination unavailable: away"), "{text}");
        assert!(text.contains("d: message refused: never"), "{text}");
    }
}
