-- What a failed job had asked for, while its operator may have it done again: as another job, which is paid for anew.

CREATE TABLE retries (
  job_id TEXT PRIMARY KEY REFERENCES jobs (id),
  payload BLOB NOT NULL,
  expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX retries_by_expiry ON retries (expires_ms);

ALTER TABLE jobs ADD COLUMN retry_of TEXT REFERENCES jobs (id);
ALTER TABLE jobs ADD COLUMN idempotency_key TEXT; -- it was handed over with, by its agent
CREATE UNIQUE INDEX jobs_retried_once ON jobs (retry_of) WHERE retry_of IS NOT NULL;
CREATE TRIGGER jobs_keep_retry_of BEFORE UPDATE OF retry_of, idempotency_key ON jobs
BEGIN SELECT RAISE(ABORT, 'the terms of a job stay as they were made'); END;
