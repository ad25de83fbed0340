//! Real Redis servers for the tests of this workspace.
//!
//! [`Shared`] is one server that many tests use side by side, each under a key prefix of its own: the
//! one that `OUTBOX_TEST_REDIS_URL` names, else a container, else a local `redis-server`, else an
//! error that says what to do. [`RedisServer`] is a test's own, to be killed, restarted, frozen and
//! filled, or a Sentinel; [`RedisCluster`] is three of them that share all slots; [`Proxy`] stands
//! between a client and a server and spoils what goes through; [`Wire`] speaks to a server without
//! any driver.

mod cluster;
mod container;
mod proxy;
mod server;
mod shared;
mod wire;

pub use cluster::RedisCluster;
pub use proxy::{Fault, Proxy};
pub use server::{DURABLE, RedisServer, SERVER_VARIABLE, free_port};
pub use shared::{Shared, URL_VARIABLE};
pub use wire::{Answer, Wire, encode};

/// Whatever went wrong; a test has failed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
