-- The embedded queue, deduplication, inbox and rate limits. Moments are microseconds since
-- 1970-01-01T00:00:00Z.

CREATE TABLE outbox_queues (
    queue INTEGER PRIMARY KEY,
    name  TEXT    NOT NULL UNIQUE,
    -- the places of the last entry that was handed out, and of the last one that was enqueued
    head  INTEGER NOT NULL,
    tail  INTEGER NOT NULL,
    -- entries that are not settled
    depth INTEGER NOT NULL DEFAULT 0,
    -- the number of the last handing-out
    token INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Entries that were never given back: above its queue's head they wait, below they are claimed.
CREATE TABLE outbox_entries (
    -- queue * 2^48 + a number that is never used again, so that a queue's entries lie together
    place       INTEGER PRIMARY KEY,
    enqueued_at INTEGER NOT NULL,
    -- the message's own sequence and epoch, and the message itself, packed
    body        BLOB    NOT NULL
) STRICT;

-- Runs of entries that were handed out together.
CREATE TABLE outbox_claims (
    queue      INTEGER NOT NULL,
    token      INTEGER NOT NULL,
    low        INTEGER NOT NULL,
    high       INTEGER NOT NULL,
    owner      BLOB    NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (queue, token, low)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_claims_expiry ON outbox_claims (queue, expires_at);

-- Entries that were handed out and given back: each of them stands for itself from then on.
CREATE TABLE outbox_returned (
    place           INTEGER PRIMARY KEY,
    queue           INTEGER NOT NULL,
    -- 0 while it waits until due_at; else the number of its handing-out to owner until due_at
    token           INTEGER NOT NULL DEFAULT 0,
    owner           BLOB,
    due_at          INTEGER NOT NULL,
    enqueued_at     INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    first_failed_at INTEGER,
    -- a JSON array of the last failures, oldest first
    history         TEXT    NOT NULL,
    body            BLOB    NOT NULL
) STRICT;
CREATE INDEX outbox_returned_waiting ON outbox_returned (queue, due_at) WHERE token = 0;
CREATE INDEX outbox_returned_held ON outbox_returned (queue, due_at) WHERE token > 0;

-- Ids that a queue has seen within its deduplication window, by the place of their entry.
CREATE TABLE outbox_enqueued (
    place       INTEGER PRIMARY KEY,
    queue       INTEGER NOT NULL,
    id          BLOB    NOT NULL,
    enqueued_at INTEGER NOT NULL,
    UNIQUE (queue, id)
) STRICT;

-- Of an entry of a queue: its number there; seq and epoch are those of its message.
ALTER TABLE outbox_quarantine ADD COLUMN place INTEGER;

-- Short numbers for the names of deduplication caches and of the inboxes' consumers.
CREATE TABLE outbox_scopes (
    scope INTEGER PRIMARY KEY,
    name  TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE outbox_processed (
    scope      INTEGER NOT NULL,
    id         BLOB    NOT NULL,
    -- of the one who is at it; NULL once it is done
    token      INTEGER,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (scope, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_processed_expiry ON outbox_processed (scope, expires_at);

CREATE TABLE outbox_inbox (
    scope      INTEGER NOT NULL,
    id         BLOB    NOT NULL,
    handled_at INTEGER NOT NULL,
    PRIMARY KEY (scope, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_inbox_age ON outbox_inbox (scope, handled_at);

-- Fixed windows: what was taken in the window that began at start.
CREATE TABLE outbox_windows (
    name  TEXT    NOT NULL,
    start INTEGER NOT NULL,
    taken INTEGER NOT NULL,
    PRIMARY KEY (name, start)
) STRICT, WITHOUT ROWID;

-- Steady rates: when all permits that were taken will have been earned back.
CREATE TABLE outbox_debts (
    name       TEXT    PRIMARY KEY,
    debt_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
