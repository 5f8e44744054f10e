-- What a question can take, written before it is asked: where its answer is lost and it is never asked again, that is
-- what it counts with. Several askings of one hop add up.
ALTER TABLE job_hops ADD COLUMN cost_micros INTEGER NOT NULL DEFAULT 0 CHECK (cost_micros >= 0);
