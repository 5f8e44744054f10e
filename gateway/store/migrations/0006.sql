-- Webhooks -----------------------------------------------------------------------------------------------------

-- The outbox: one event to be told to one url, written in the transaction that ends what it tells of. `owner` is whose
-- secrets sign it: an agent, or a job that nobody's account has submitted. `host` is the url's, to spare it by.
-- A try is counted when its lease is taken, before anything is sent. A replay by the operator counts tries anew.
CREATE TABLE webhooks (
  id TEXT PRIMARY KEY CHECK (id <> '' AND id NOT GLOB '*[^0-9a-z_]*'), -- no dots: they divide what is signed
  event_type TEXT NOT NULL,
  owner TEXT NOT NULL,
  subject TEXT NOT NULL,
  url TEXT NOT NULL,
  host TEXT NOT NULL,
  body BLOB NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
  attempts INTEGER NOT NULL CHECK (attempts >= 0),
  replays INTEGER NOT NULL CHECK (replays >= 0),
  next_attempt_ms INTEGER NOT NULL,
  tried_ms INTEGER, -- when the last try began
  last_status INTEGER CHECK (last_status BETWEEN 100 AND 999),
  last_error TEXT CHECK (length(last_error) BETWEEN 1 AND 40), -- a word of ours, never what the receiver said
  created_ms INTEGER NOT NULL,
  ended_ms INTEGER,
  lease_owner TEXT,
  lease_until_ms INTEGER,
  CHECK ((state = 'pending') = (ended_ms IS NULL)),
  CHECK ((lease_owner IS NULL) = (lease_until_ms IS NULL)),
  CHECK (state = 'pending' OR lease_owner IS NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhooks_due ON webhooks (next_attempt_ms) WHERE state = 'pending';
CREATE INDEX webhooks_leased ON webhooks (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX webhooks_tried ON webhooks (tried_ms) WHERE tried_ms IS NOT NULL;
CREATE INDEX webhooks_ended ON webhooks (state, ended_ms) WHERE ended_ms IS NOT NULL;
CREATE INDEX webhooks_of_subject ON webhooks (subject, id);

CREATE TRIGGER webhooks_stay_until_ended BEFORE DELETE ON webhooks WHEN OLD.state = 'pending'
BEGIN SELECT RAISE(ABORT, 'an event is told or given up, not dropped'); END;
CREATE TRIGGER webhooks_keep_terms BEFORE UPDATE OF
  id, event_type, owner, subject, url, host, body, created_ms ON webhooks
BEGIN SELECT RAISE(ABORT, 'the terms of an event stay as they were made'); END;
CREATE TRIGGER webhooks_stay_ended BEFORE UPDATE ON webhooks
WHEN OLD.state <> 'pending' AND NOT (NEW.state = 'pending' AND NEW.replays = OLD.replays + 1)
BEGIN SELECT RAISE(ABORT, 'an ended event stays as it is, but for a replay'); END;
CREATE TRIGGER webhooks_replay_ended BEFORE UPDATE OF replays ON webhooks
WHEN OLD.state = 'pending' AND NEW.replays <> OLD.replays
BEGIN SELECT RAISE(ABORT, 'only an ended event is replayed'); END;

-- What events are signed with, for as long as it is in force. They sign, so they are kept as they are, not as hashes.
CREATE TABLE webhook_secrets (
  owner TEXT NOT NULL,
  secret TEXT NOT NULL CHECK (substr(secret, 1, 6) = 'whsec_' AND length(secret) = 50),
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER, -- NULL: the current one
  PRIMARY KEY (owner, secret)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX webhook_secrets_current ON webhook_secrets (owner) WHERE expires_ms IS NULL;
CREATE INDEX webhook_secrets_by_expiry ON webhook_secrets (expires_ms) WHERE expires_ms IS NOT NULL;

CREATE TRIGGER webhook_secrets_keep_terms BEFORE UPDATE OF owner, secret, created_ms ON webhook_secrets
BEGIN SELECT RAISE(ABORT, 'a secret is replaced by another one'); END;
CREATE TRIGGER webhook_secrets_only_end BEFORE UPDATE OF expires_ms ON webhook_secrets
WHEN OLD.expires_ms IS NOT NULL AND (NEW.expires_ms IS NULL OR NEW.expires_ms > OLD.expires_ms)
BEGIN SELECT RAISE(ABORT, 'a replaced secret ends no later than was said'); END;
