-- The embedded queue, deduplication, inbox and rate limits. Moments are microseconds since
-- 1970-01-01T00:00:00Z.

CREATE TABLE outbox_queues (
    queue  INTEGER PRIMARY KEY,
    name   TEXT    NOT NULL UNIQUE,
    -- rows up to here were handed out, or set aside
    cursor INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE outbox_entries (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    queue        INTEGER NOT NULL,
    id           BLOB    NOT NULL,
    -- 0 ready, 1 waiting for due_at
    state        INTEGER NOT NULL DEFAULT 0,
    due_at       INTEGER NOT NULL,
    enqueued_at  INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    failure      TEXT,
    body         BLOB    NOT NULL
) STRICT;
CREATE INDEX outbox_entries_ready ON outbox_entries (queue, seq) WHERE state = 0;
CREATE INDEX outbox_entries_waiting ON outbox_entries (queue, due_at) WHERE state = 1;

-- Ranges of entries that are handed out.
CREATE TABLE outbox_claims (
    token      INTEGER PRIMARY KEY AUTOINCREMENT,
    queue      INTEGER NOT NULL,
    low        INTEGER NOT NULL,
    high       INTEGER NOT NULL,
    owner      BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_claims_expiry ON outbox_claims (queue, expires_at);

-- Ids that a queue has seen within its deduplication window.
CREATE TABLE outbox_enqueued (
    queue       INTEGER NOT NULL,
    id          BLOB    NOT NULL,
    enqueued_at INTEGER NOT NULL,
    PRIMARY KEY (queue, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_enqueued_age ON outbox_enqueued (enqueued_at);

CREATE TABLE outbox_processed (
    scope      TEXT    NOT NULL,
    id         BLOB    NOT NULL,
    -- of the one who is at it; NULL once it is done
    token      INTEGER,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (scope, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_processed_expiry ON outbox_processed (expires_at);

CREATE TABLE outbox_inbox (
    consumer   TEXT    NOT NULL,
    id         BLOB    NOT NULL,
    handled_at INTEGER NOT NULL,
    PRIMARY KEY (consumer, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_inbox_age ON outbox_inbox (handled_at);

CREATE TABLE outbox_rate_limits (
    name   TEXT    PRIMARY KEY,
    -- fixed windows: when the window began, and what was taken in it
    window INTEGER,
    taken  INTEGER,
    -- GCRA: the theoretical arrival time of the next request
    arrival INTEGER
) STRICT, WITHOUT ROWID;
