//! The publisher on real servers: order, duplicates, stale relays, full streams, and servers that
//! lose what they had acknowledged.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chain;
mod loss;
mod scene;
mod sending;
