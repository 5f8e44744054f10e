-- The people in the data: about whom nothing is told, who was told about whom, and what is answered again from what was
-- bought before. Nobody stands here in clear: digests are keyed hashes, and the key is not in this file
-- (gateway/core/subject.py).

CREATE TABLE suppressions (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('phone', 'email', 'name')),
  hint TEXT NOT NULL CHECK (length(hint) <= 40), -- enough for the operator to tell them apart, too little to call
  note TEXT NOT NULL CHECK (length(note) <= 200),
  key_id INTEGER NOT NULL, -- which key it was made with
  at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE suppressed (
  digest BLOB NOT NULL CHECK (length(digest) = 16),
  suppression_id TEXT NOT NULL REFERENCES suppressions (id) ON DELETE CASCADE,
  PRIMARY KEY (digest, suppression_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX suppressed_of_suppression ON suppressed (suppression_id);

-- Raised by every change of the list, so that a gateway sees with one look whether to read it again.
CREATE TABLE suppression_version (version INTEGER NOT NULL) STRICT;
INSERT INTO suppression_version (version) VALUES (0);

-- One row an answer that told of somebody. Who was told stands in its charge.
CREATE TABLE accesses (
  charge_id TEXT PRIMARY KEY REFERENCES charges (id),
  at_ms INTEGER NOT NULL,
  people INTEGER NOT NULL CHECK (people >= 0),
  key_id INTEGER NOT NULL,
  digests BLOB NOT NULL CHECK (length(digests) % 16 = 0) -- of whom, one after the other
) STRICT, WITHOUT ROWID;
CREATE INDEX accesses_by_time ON accesses (at_ms);

CREATE TRIGGER accesses_are_history BEFORE UPDATE ON accesses
BEGIN SELECT RAISE(ABORT, 'who was told is history'); END;

-- Answers to be given again. `question` is a keyed hash of who asked for what.
CREATE TABLE answers (
  question BLOB PRIMARY KEY CHECK (length(question) = 16),
  charge_id TEXT NOT NULL REFERENCES charges (id), -- that it was bought on
  body BLOB NOT NULL CHECK (length(body) > 0),
  expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_by_expiry ON answers (expires_ms);

-- Erasing. A result that was erased stays as an empty one until its time is over. What a ticket, a job or an event has
-- of a person may be taken out of it, and nothing else of it may be changed.
DROP TRIGGER tickets_keep_terms;
CREATE TRIGGER tickets_keep_terms BEFORE UPDATE OF
  id, charge_id, party, agent_id, category, created_ms ON tickets
BEGIN SELECT RAISE(ABORT, 'what a ticket says stays as it was written'); END;
CREATE TRIGGER tickets_keep_words BEFORE UPDATE OF subject, body ON tickets
WHEN (NEW.subject <> OLD.subject AND NEW.subject <> '[erased]') OR (NEW.body <> OLD.body AND NEW.body <> '[erased]')
BEGIN SELECT RAISE(ABORT, 'what a ticket says stays as it was written'); END;
DROP TRIGGER ticket_answers_are_history;
CREATE TRIGGER ticket_answers_are_history BEFORE UPDATE ON ticket_answers
WHEN NEW.ticket_id <> OLD.ticket_id OR NEW.number <> OLD.number OR NEW.at_ms <> OLD.at_ms
  OR (NEW.body <> OLD.body AND NEW.body <> '[erased]')
BEGIN SELECT RAISE(ABORT, 'answers are history'); END;

DROP TRIGGER jobs_keep_terms;
CREATE TRIGGER jobs_keep_terms BEFORE UPDATE OF
  id, operation, charge_id, party, agent_id, request_id, deadline_ms, resells, created_ms ON jobs
BEGIN SELECT RAISE(ABORT, 'the terms of a job stay as they were made'); END;
CREATE TRIGGER jobs_keep_callback BEFORE UPDATE OF callback_url ON jobs
WHEN NEW.callback_url IS NOT OLD.callback_url AND (NEW.callback_url IS NOT NULL OR OLD.ended_ms IS NULL)
BEGIN SELECT RAISE(ABORT, 'whom a job is told to stays until it has ended'); END;
DROP TRIGGER jobs_keep_retry_of;
CREATE TRIGGER jobs_keep_retry_of BEFORE UPDATE OF retry_of ON jobs
BEGIN SELECT RAISE(ABORT, 'the terms of a job stay as they were made'); END;
CREATE TRIGGER jobs_keep_idempotency_key BEFORE UPDATE OF idempotency_key ON jobs
WHEN NEW.idempotency_key IS NOT NULL OR OLD.ended_ms IS NULL
BEGIN SELECT RAISE(ABORT, 'the terms of a job stay as they were made'); END;
CREATE INDEX jobs_with_callback ON jobs (expires_ms) WHERE callback_url IS NOT NULL OR idempotency_key IS NOT NULL;
