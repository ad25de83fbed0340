-- Dead letters: counting failures, understanding what rests in quarantine, and sending it back.
-- Moments are microseconds since 1970-01-01T00:00:00Z.

-- How often a message was sent back from quarantine, wherever it is.
ALTER TABLE outbox_messages ADD COLUMN redrives INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox_returned ADD COLUMN redrives INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox_quarantine ADD COLUMN redrives INTEGER NOT NULL DEFAULT 0;

-- What groups like failures; NULL until somebody asks for it.
ALTER TABLE outbox_quarantine ADD COLUMN fingerprint TEXT;
-- Of what was read in from elsewhere: the name of its place there, which is no place here.
ALTER TABLE outbox_quarantine ADD COLUMN imported_place TEXT;

-- In the order in which messages stood in what they left.
DROP INDEX outbox_quarantine_origin;
CREATE INDEX outbox_quarantine_position ON outbox_quarantine (origin, ifnull(place, seq), entry);
CREATE INDEX outbox_quarantine_fingerprint ON outbox_quarantine (fingerprint, entry);
DROP INDEX outbox_quarantine_age;
CREATE INDEX outbox_quarantine_age ON outbox_quarantine (quarantined_at, entry);

-- Messages that fail, and how often: the heap of dead letters.
CREATE TABLE outbox_failures (
    origin          TEXT    NOT NULL,
    id              BLOB    NOT NULL,
    failures        INTEGER NOT NULL,
    first_failed_at INTEGER NOT NULL,
    last_failed_at  INTEGER NOT NULL,
    error_kind      TEXT    NOT NULL,
    error           TEXT    NOT NULL,
    -- of the one who drained it, until when
    claim           INTEGER NOT NULL DEFAULT 0,
    claimed_until   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (origin, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_failures_count ON outbox_failures (failures);
CREATE INDEX outbox_failures_first ON outbox_failures (first_failed_at);
CREATE INDEX outbox_failures_last ON outbox_failures (last_failed_at);

-- What operators did.
CREATE TABLE outbox_audit (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    -- the same in all steps of an action
    action   INTEGER NOT NULL UNIQUE,
    -- 'redrive', 'discard' or 'import'
    kind     TEXT    NOT NULL,
    done_by  TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    -- which dead letters were meant
    what     TEXT    NOT NULL,
    letters  INTEGER NOT NULL,
    began_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL
) STRICT;
