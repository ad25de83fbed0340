#![cfg_attr(feature = "sqlite", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "sqlite"),
    doc = "The transactional outbox without a backend: turn on the feature `sqlite` for one."
)]
//!
//! # What is where
//! Everything of [`outbox_core`] stands here under the same names: [`message`] and [`delivery`] are
//! what travels, [`ports`] what backends provide, [`produce`], [`relay`] and [`consume`] what
//! works, [`publish`] where messages go, [`policy`] when they are tried again, [`observe`] what can
//! be seen of it, [`mod@env`] what the environment sets, and [`memory`] what tests stand on.

pub use outbox_core::*;

/// The embedded backends: outbox, queue, deduplication and rate limits in one SQLite file.
#[cfg(feature = "sqlite")]
pub use outbox_sqlite as sqlite;

/// The snippets of the documentation, compiled and run as tests.
#[cfg(all(doctest, feature = "sqlite"))]
mod texts {
}
