//! How messages and batches become bytes, and come back.
//!
//! A row keeps its message as one [packed body](outbox_core::packed): reading a column costs as much as reading twenty
//! bytes, and a batch of self-delimiting bodies can be handed over as one value. A batch on its way
//! in is one hand-made [`jsonb`] object, so that one statement takes it, whatever its size.

pub(crate) mod jsonb;
