//! A simulated world: the shipped relay, workers and producers in one thread, on virtual time, over
//! ports that fail as real ones do. One seed decides everything.
//!
//! Calls fail before their effect and after it, are slow, hang, take effect when their caller is
//! gone, and take only a part of a batch. Publishers panic and answer nonsense, rows and entries become
//! unreadable. Topics go to destinations that are away at different times, and some worlds send
//! everything to two places. Processes die at any of their awaits and begin anew, stand still until
//! their leases are gone and run on, and have clocks that jump. After every step the rules of the
//! contract are checked, and once the faults have stopped, everything has to end well:
//!
//! - nothing committed is lost, and nothing that was not committed is seen;
//! - each ordering key keeps its order, and nothing comes before its time;
//! - one lease lives at a time, and a stale token changes nothing;
//! - outbox, queue and quarantine hold each message in one place;
//! - with an inbox each effect exists once, and nothing is acknowledged before it is handled;
//! - attempts are counted, an outage costs none, and only the hopeless are quarantined;
//! - a commit wakes at once, an idle world is quiet, memory is bounded, and a stop ends.
//!
//! Simulate a handler of your own, with as many seeds as you have time for:
//!
//! ```
//! use std::sync::Arc;
//! use outbox_core::HandlerError;
//! use outbox_core::delivery::Delivery;
//! use outbox_core::testing::World;
//!
//! let handler = |delivery: Delivery| async move {
//!     assert!(!delivery.message.payload.is_empty());
//!     Ok::<(), HandlerError>(())
//! };
//! for seed in 0..5 {
//!     let outcome = World::new(seed).handler(Arc::new(handler)).run();
//!     println!("{} messages handled", outcome.unwrap().handled);
//! }
//! ```

mod config;
mod handler;
mod ledger;
mod outbox;
mod process;
mod produce;
mod publisher;
mod queue;
mod relying;
mod run;
mod step;
mod sweep;
mod trouble;
mod verdict;

use std::sync::Arc;

pub use config::{FaultRates, Guard, Scenario};
pub use step::{Ending, Number, Step};
pub use sweep::{Sweep, sweep};
pub use verdict::{Outcome, Violation};

use crate::ports::Handler;
use run::Parts;

/// A simulated world, about to be run.
pub struct World {
    seed: u64,
    config: Scenario,
    handler: Option<Arc<dyn Handler>>,
}

impl World {
    /// A world in which everything is drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(seed, Scenario::drawn(seed))
    }

    /// A world of your own settings, in which `seed` decides what happens.
    #[must_use]
    pub fn of(seed: u64, config: Scenario) -> Self {
        Self {
            seed,
            config,
            handler: None,
        }
    }

    /// Has every delivery handled by `handler` before the world's own effect is committed.
    #[must_use]
    pub fn handler(mut self, handler: Arc<dyn Handler>) -> Self {
        self.handler = Some(handler);
        self
    }

    /// Runs the world to its end, on a runtime of its own: call it outside of any.
    ///
    /// # Errors
    /// A [`Violation`] where a rule was broken.
    pub fn run(self) -> Result<Outcome, Violation> {
        let seed = self.seed;
        let violation = |rule, how, trace| Violation {
            seed,
            rule,
            how,
            trace,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| violation("a world begins", error.to_string(), Vec::new()))?;
        runtime.block_on(async {
            let parts = Parts::new(seed, self.config, self.handler);
            let parts = parts
                .map(Arc::new)
                .map_err(|error| violation("a world begins", error.to_string(), Vec::new()))?;
            let ended = parts.run().await;
            let ledger = parts.ledger();
            let recovered =
                ended.map_err(|breach| violation(breach.rule, breach.how, ledger.trace()))?;
            let (messages, handled, quarantined) = ledger.read(ledger::Books::census);
            let (crashes, faults) = parts.struck();
            Ok(Outcome {
                seed,
                messages,
                handled,
                quarantined,
                crashes,
                faults,
                calls: ledger.calls(),
                lasted: parts.age(),
                recovered,
                fingerprint: ledger.fingerprint(),
                trace: ledger.trace(),
            })
        })
    }
}
