//! The OWM examples, run as programs: what they tell, what they leave in the file, and how they end.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each test uses its part")]
mod support;

mod flow;
mod input;
#[cfg(feature = "redis")]
mod redis;
mod scene;
