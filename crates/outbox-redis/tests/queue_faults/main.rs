//! The queue on servers that are killed, filled, emptied and cut off: nothing that they still have is
//! lost or doubled, and what they lost is told.

mod batches;
mod connection;
mod groups;
mod idle;
mod input;
mod loss;
mod memory;
mod model;
mod scene;
