//! The worker and its consumer, over memory ports on virtual time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod again;
mod batches;
mod crew;
#[path = "../fixture/mod.rs"]
mod fixture;
mod handling;
mod idle;
mod layers;
mod lease;
mod stage;
mod takeovers;
