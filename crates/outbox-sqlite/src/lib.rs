//! SQLite backends.
