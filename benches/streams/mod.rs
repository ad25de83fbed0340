//! What goes through Redis. The limit is a hand-written client on a plain socket: one thread, no
//! driver, no leases, on the same server.

mod crews;
mod drain;
mod enqueue;
mod idle;
mod relay;
mod server;
mod wire;

use crate::Item;

pub(crate) const ITEMS: &[Item] = &[
    ("P5", relay::to_stream),
    ("P6", enqueue::batches_of_500),
    ("P7", drain::no_op),
    ("P9", relay::commit_to_handler),
    ("P10", idle::processor),
    ("P11", drain::a_million),
    ("P14", drain::with_all_guarantees),
    ("S-workers", crews::of_workers),
];
