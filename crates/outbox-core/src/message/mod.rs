//! Messages: what is appended ([`NewMessage`]) and what is told ([`Message`]).

mod headers;
mod limits;
mod new;
mod parts;
mod stored;

pub use headers::Headers;
pub use limits::Limits;
pub use new::{JSON, NewMessage};
pub use parts::{Aggregate, Kind, MessageBody, RetryOverride};
pub use stored::Message;
