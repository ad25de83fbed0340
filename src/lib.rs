#![cfg_attr(feature = "sqlite", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "sqlite"),
    doc = "The transactional outbox without a backend: turn on the feature `sqlite` for one."
)]
//!
//! # What is where
//! This crate only re-exports. Everything of [`outbox_core`] stands here under the same names:
//! [`message`] and [`delivery`] are what travels, [`ports`] what backends provide, [`produce`],
//! [`relay`] and [`consume`] what works, [`publish`] where messages go, [`policy`] when they are
//! tried again, [`observe`] what can be seen of it, [`mod@env`] what the environment sets, and
//! [`memory`] what tests stand on. Each backend is a module behind a feature of its name, and so are
//! dead letters (`dlq`).

pub use outbox_core::{
    HandlerError, OutboxError, PublishError, Result, consume, delivery, env, error, id, lease,
    memory, message, observe, packed, policy, ports, produce, publish, relay, report, signal,
    status, time,
};

#[cfg(feature = "dlq")]
pub use outbox_dlq as dlq;
#[cfg(feature = "redis")]
pub use outbox_redis as redis;
#[cfg(feature = "sqlite")]
pub use outbox_sqlite as sqlite;

/// The snippets of the documentation, compiled and run as tests.
#[cfg(all(doctest, feature = "sqlite"))]
mod texts {
    macro_rules! text {
        ($name:ident, $path:literal) => {
            #[doc = include_str!($path)]
            struct $name;
        };
    }
    text!(Configuration, "../docs/configuration.md");
    #[cfg(all(feature = "dlq", feature = "redis"))]
    text!(DeadLetters, "../docs/dead-letters.md");
    text!(Operations, "../docs/operations.md");
    text!(Testing, "../docs/testing.md");
    text!(WritingABackend, "../docs/writing-a-backend.md");
}
