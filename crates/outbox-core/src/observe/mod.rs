//! What can be seen of the work.

mod reports;

pub(crate) use reports::{ReportDesk, tell};
