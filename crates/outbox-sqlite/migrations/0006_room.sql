-- The most unsettled entries that a queue takes, as whoever opened it last has set it; NULL until then.

ALTER TABLE outbox_queues ADD COLUMN high_water INTEGER;
