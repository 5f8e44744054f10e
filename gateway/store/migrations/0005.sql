-- Jobs: work that was handed over. Each has one charge, and ends in the transaction that ends the charge's hold.

CREATE TABLE jobs (
  id TEXT PRIMARY KEY,
  operation TEXT NOT NULL,
  charge_id TEXT NOT NULL UNIQUE REFERENCES charges (id),
  party TEXT NOT NULL,
  agent_id TEXT REFERENCES agents (id),
  payload BLOB NOT NULL, -- what was asked: emptied when the job ends
  request_id TEXT NOT NULL,
  deadline_ms INTEGER NOT NULL,
  callback_url TEXT,
  resells TEXT REFERENCES charges (id),
  state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
  attempt INTEGER NOT NULL CHECK (attempt >= 0),
  cancelling INTEGER NOT NULL CHECK (cancelling IN (0, 1)),
  phase TEXT NOT NULL,
  rounds INTEGER NOT NULL CHECK (rounds >= 0),
  error_code TEXT,
  error TEXT,
  lease_owner TEXT,
  lease_until_ms INTEGER,
  created_ms INTEGER NOT NULL,
  started_ms INTEGER,
  ended_ms INTEGER,
  expires_ms INTEGER,
  untold INTEGER NOT NULL DEFAULT 0 CHECK (untold IN (0, 1)), -- 1: it has ended; its callback waits for its payment
  CHECK ((state = 'running') = (lease_owner IS NOT NULL) AND (state = 'running') = (lease_until_ms IS NOT NULL)),
  CHECK ((state IN ('completed', 'failed', 'cancelled')) = (ended_ms IS NOT NULL)),
  CHECK ((ended_ms IS NULL) = (expires_ms IS NULL)),
  CHECK (ended_ms IS NULL OR length(payload) = 0),
  CHECK ((error_code IS NULL) = (state NOT IN ('failed', 'cancelled')))
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_queued ON jobs (party, id) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (party, lease_until_ms) WHERE state = 'running';
CREATE INDEX jobs_of_party ON jobs (party, started_ms);
CREATE INDEX jobs_untold ON jobs (id) WHERE untold = 1;
CREATE INDEX jobs_by_expiry ON jobs (expires_ms) WHERE expires_ms IS NOT NULL;

CREATE TRIGGER jobs_stay BEFORE DELETE ON jobs
BEGIN SELECT RAISE(ABORT, 'jobs stay'); END;
CREATE TRIGGER jobs_keep_terms BEFORE UPDATE OF
  id, operation, charge_id, party, agent_id, request_id, deadline_ms, callback_url, resells, created_ms ON jobs
BEGIN SELECT RAISE(ABORT, 'the terms of a job stay as they were made'); END;
CREATE TRIGGER jobs_end_once BEFORE UPDATE OF state ON jobs WHEN OLD.ended_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a job ends once'); END;

-- Who may ask about a job and cancel it: SHA-256 of poll bearers.
CREATE TABLE job_tokens (
  hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
  job_id TEXT NOT NULL REFERENCES jobs (id),
  at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX job_tokens_of_job ON job_tokens (job_id);

-- What a job's work has bought. A row precedes each purchase, so that one whose answer was lost is known.
CREATE TABLE job_hops (
  job_id TEXT NOT NULL REFERENCES jobs (id),
  key TEXT NOT NULL,
  asked INTEGER NOT NULL CHECK (asked >= 1), -- how often: above 1, it may have been paid for twice
  asked_ms INTEGER NOT NULL,
  outcome BLOB,
  PRIMARY KEY (job_id, key)
) STRICT, WITHOUT ROWID;
