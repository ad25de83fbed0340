//! Messages as bytes, for backends that keep each as one value.
//!
//! A [`body`] is a message without its place in an outbox; a [`frame`] is a body with the sequence
//! and the epoch that it came with. Both tell their own length, so that many of them can be handed
//! over as one value and cut apart, and a damaged one spoils none of its neighbours.

pub mod body;
mod bytes;
pub mod frame;

pub use bytes::Damage;
