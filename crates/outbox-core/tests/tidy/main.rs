//! The house rules, held as data: floors, names, sizes, and texts that agree with the code.
//!
//! Each check fails with one sentence a breach, which names the file and the rule.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod contract;
mod floors;
mod glossary;
mod names;
mod sizes;
mod source;
mod texts;

/// Fails with all breaches at once.
fn assert_tidy(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n  {}\n", breaches.join("\n  "));
}
