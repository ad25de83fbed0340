//! What a processor and a redrive do in the course of time, on virtual time.
#![allow(clippy::unwrap_used)]

mod fixture;
mod processor;
mod redrive;
mod room;
