//! The relay, over memory ports on virtual time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

#[path = "../fixture/mod.rs"]
mod fixture;
mod full;
mod lease;
mod order;
mod outage;
mod pace;
mod rely;
mod sending;
mod spy;
mod unanswered;
mod wake;

use outbox_core::PublishError;

fn flaky(
    failures: u32,
) -> impl Fn(&outbox_core::message::Message, u32) -> Result<(), PublishError> {
    move |_, seen| {
        if seen <= failures {
            Err(PublishError::failed("flaky"))
        } else {
            Ok(())
        }
    }
}
