use crate::delivery::Quarantined;

/// What came of taking a message out that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is out: the caller has it now.
    Moved(Box<Quarantined>),
    /// Somebody may be sending or handling it right now.
    InFlight,
    /// It is not there: done, or in quarantine already.
    Gone,
}
