-- The outbox. Moments are microseconds since 1970-01-01T00:00:00Z.

-- Always empty: what a row's guard refers to can never be committed.
CREATE TABLE outbox_none (id INTEGER PRIMARY KEY) STRICT;

CREATE TABLE outbox_messages (
    -- AUTOINCREMENT, because a number that is used again after a deletion would be skipped.
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           BLOB    NOT NULL UNIQUE,
    -- 0 ready, 1 waiting for due_at, 2 parked behind its key, 3 published, 4 waiting for due_at
    -- without holding up its key
    state        INTEGER NOT NULL DEFAULT 0,
    due_at       INTEGER NOT NULL,
    ordering_key TEXT,
    attempts     INTEGER NOT NULL DEFAULT 0,
    -- set where the row waits
    topic        TEXT,
    first_failed_at INTEGER,
    settled_at   INTEGER,
    -- 1 between the two statements of an append, so that one outside any transaction fails
    guard        INTEGER REFERENCES outbox_none (id) DEFERRABLE INITIALLY DEFERRED,
    history      TEXT,
    -- the message itself, packed
    body         BLOB    NOT NULL
) STRICT;

CREATE INDEX outbox_messages_ready ON outbox_messages (seq) WHERE state = 0;
CREATE INDEX outbox_messages_waiting ON outbox_messages (topic, due_at, state)
    WHERE state IN (1, 4);
CREATE INDEX outbox_messages_blocking ON outbox_messages (ordering_key, state, seq)
    WHERE state IN (1, 2) AND ordering_key IS NOT NULL;
CREATE INDEX outbox_messages_published ON outbox_messages (settled_at) WHERE state = 3;

-- The one lease on the outbox.
CREATE TABLE outbox_lease (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    owner      BLOB,
    epoch      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
INSERT INTO outbox_lease (id, owner, epoch, expires_at) VALUES (1, NULL, 0, 0);

-- Keys whose parked messages are to become ready, a few at a time.
CREATE TABLE outbox_unparking (ordering_key TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

-- Keys that wait for an operator.
CREATE TABLE outbox_parked_keys (ordering_key TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

CREATE TABLE outbox_idempotency (
    idempotency_key TEXT PRIMARY KEY,
    message_id      BLOB    NOT NULL,
    created_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_idempotency_age ON outbox_idempotency (created_at);

-- Messages that could not be delivered, in columns that an operator can read.
CREATE TABLE outbox_quarantine (
    entry           INTEGER PRIMARY KEY AUTOINCREMENT,
    -- what it left: 'outbox', or the name of a queue
    origin          TEXT    NOT NULL,
    -- its number and lease there
    seq             INTEGER NOT NULL,
    epoch           INTEGER NOT NULL,
    -- NULL where the row could not be read: what could be is in body
    id              BLOB,
    topic           TEXT,
    kind            TEXT,
    kind_version    INTEGER,
    ordering_key    TEXT,
    content_type    TEXT,
    -- a JSON array of [name, value]
    headers         TEXT,
    payload         BLOB,
    aggregate       TEXT,
    retry           TEXT,
    created_at      INTEGER,
    due_at          INTEGER,
    attempts        INTEGER NOT NULL,
    history         TEXT,
    first_failed_at INTEGER NOT NULL,
    last_failed_at  INTEGER NOT NULL,
    error_kind      TEXT    NOT NULL,
    error           TEXT    NOT NULL,
    quarantined_at  INTEGER NOT NULL,
    body            BLOB
) STRICT;
CREATE INDEX outbox_quarantine_origin ON outbox_quarantine (origin, entry);
CREATE INDEX outbox_quarantine_topic ON outbox_quarantine (topic, entry);
CREATE INDEX outbox_quarantine_id ON outbox_quarantine (id);
CREATE INDEX outbox_quarantine_error ON outbox_quarantine (error_kind, entry);
CREATE INDEX outbox_quarantine_age ON outbox_quarantine (quarantined_at);

-- Which destination has which message.
CREATE TABLE outbox_deliveries (
    destination  TEXT    NOT NULL,
    message_id   BLOB    NOT NULL,
    delivered_at INTEGER NOT NULL,
    PRIMARY KEY (destination, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_deliveries_age ON outbox_deliveries (delivered_at);
