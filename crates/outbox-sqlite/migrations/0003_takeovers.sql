-- How often entries were taken over from a worker whose lease ended, since an attempt was settled as
-- failed.

ALTER TABLE outbox_claims ADD COLUMN takeovers INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox_returned ADD COLUMN takeovers INTEGER NOT NULL DEFAULT 0;
