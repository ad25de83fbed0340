-- Whether the last failure of a message let its key go on: then it holds up its key no more, however
-- it comes to wait again.

ALTER TABLE outbox_messages ADD COLUMN aside INTEGER NOT NULL DEFAULT 0;
