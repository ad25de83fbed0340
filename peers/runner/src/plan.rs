//! What is compared: the items, and who takes part in each with which settings.

/// One comparison.
pub(crate) struct Item {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) count: u64,
    /// How many tasks are written before they are drained; all where there is none.
    pub(crate) wave: Option<u64>,
    /// Ours first.
    pub(crate) sides: Vec<Side>,
}

impl Item {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.id.eq_ignore_ascii_case(name)
    }
}

/// Who takes part, and how.
pub(crate) struct Side {
    pub(crate) who: Who,
    pub(crate) how: &'static str,
    pub(crate) arguments: &'static [&'static str],
    pub(crate) place: Place,
    /// Whether the relay sends to a Redis.
    pub(crate) broker: bool,
    /// How many times as fast we want to be, end to end.
    pub(crate) target: Option<f64>,
}

/// The libraries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Ours,
    ApalisSqlite,
    ApalisRedis,
    OxideOutbox,
}

impl Who {
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Ours => "peers-ours",
            Self::ApalisSqlite => "peers-apalis-sqlite",
            Self::ApalisRedis => "peers-apalis-redis",
            Self::OxideOutbox => "peers-oxide-outbox",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::ApalisSqlite => "apalis-sqlite",
            Self::ApalisRedis => "apalis-redis",
            Self::OxideOutbox => "oxide-outbox",
        }
    }
}

/// Where tasks are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    File,
    Redis,
    Postgres,
}

/// All items.
pub(crate) fn plan(short: bool) -> Vec<Item> {
    vec![
        embedded_with_settings("Q2000", "embedded queue, 2,000 tasks", 2_000),
        embedded(
            "Q20000",
            "embedded queue, 20,000 tasks",
            if short { 5_000 } else { 20_000 },
        ),
        redis_queue(if short { 10_000 } else { 50_000 }),
        outbox_to_nowhere(if short { 5_000 } else { 20_000 }),
        outbox_to_redis(if short { 5_000 } else { 20_000 }),
    ]
}

fn embedded(id: &'static str, what: &'static str, count: u64) -> Item {
    Item {
        id,
        what,
        count,
        wave: None,
        sides: vec![
            side(Who::Ours, "SQLite, FULL", &["queue"], Place::File),
            side(Who::ApalisSqlite, "tuned, FULL", &["queue"], Place::File).want(20.0),
        ],
    }
}

/// With what makes apalis-sqlite faster or slower; the greater item takes too long for that.
fn embedded_with_settings(id: &'static str, what: &'static str, count: u64) -> Item {
    let mut item = embedded(id, what, count);
    item.sides.extend([
        side(
            Who::ApalisSqlite,
            "defaults, FULL",
            &["queue", "--settings=default"],
            Place::File,
        ),
        side(
            Who::ApalisSqlite,
            "tuned, OFF: no wait for the disk",
            &["queue", "--durable=system"],
            Place::File,
        ),
    ]);
    item
}

/// In waves of 5,000: apalis-redis fails when some 8,000 are pending.
fn redis_queue(count: u64) -> Item {
    Item {
        id: "R",
        what: "Redis queue, in waves of 5,000 tasks",
        count,
        wave: Some(5_000),
        sides: vec![
            side(Who::Ours, "Redis", &["queue"], Place::Redis),
            side(Who::ApalisRedis, "tuned", &["queue"], Place::Redis).want(2.0),
            side(
                Who::ApalisRedis,
                "defaults",
                &["queue", "--settings=default"],
                Place::Redis,
            ),
        ],
    }
}

fn outbox_to_nowhere(count: u64) -> Item {
    Item {
        id: "O",
        what: "outbox and relay to a publisher that does nothing",
        count,
        wave: None,
        sides: vec![
            side(Who::Ours, "SQLite, FULL", &["relay"], Place::File),
            side(
                Who::OxideOutbox,
                "PostgreSQL, tuned",
                &["relay"],
                Place::Postgres,
            )
            .want(5.0),
            side(
                Who::OxideOutbox,
                "PostgreSQL, defaults",
                &["relay", "--settings=default"],
                Place::Postgres,
            ),
        ],
    }
}

fn outbox_to_redis(count: u64) -> Item {
    Item {
        id: "OR",
        what: "outbox and relay to a stream of Redis",
        count,
        wave: None,
        sides: vec![
            side(Who::Ours, "SQLite, FULL", &["relay"], Place::File).with_broker(),
            side(
                Who::OxideOutbox,
                "PostgreSQL, tuned, XADD",
                &["relay"],
                Place::Postgres,
            )
            .with_broker()
            .want(5.0),
        ],
    }
}

fn side(who: Who, how: &'static str, arguments: &'static [&'static str], place: Place) -> Side {
    Side {
        who,
        how,
        arguments,
        place,
        broker: false,
        target: None,
    }
}

impl Side {
    fn want(self, target: f64) -> Self {
        Self {
            target: Some(target),
            ..self
        }
    }

    fn with_broker(self) -> Self {
        Self {
            broker: true,
            ..self
        }
    }
}
