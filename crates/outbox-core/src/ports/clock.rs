pub use crate::time::Clock;
