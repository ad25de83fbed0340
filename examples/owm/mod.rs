//! What the three programs share: the tasks and where they come from, the file that they go
//! through, the work that is done with them, and the figures that are told in the end.

pub(crate) mod broker;
pub(crate) mod cities;
pub(crate) mod embedded;
pub(crate) mod faults;
pub(crate) mod figures;
pub(crate) mod ledger;
pub(crate) mod limits;
pub(crate) mod observe;
pub(crate) mod outcome;
pub(crate) mod produce;
pub(crate) mod progress;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod settings;
pub(crate) mod task;
pub(crate) mod work;
