//! Messages: what is appended ([`NewMessage`]) and what is told ([`Message`]).

mod limits;
mod new;
mod parts;
mod stored;

pub use limits::Limits;
pub use new::{JSON, NewMessage};
pub use parts::{Aggregate, Headers, Kind, MessageBody, RetryOverride};
pub use stored::Message;
