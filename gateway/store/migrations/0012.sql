-- Usage keys: tokens that may do a part of what their agent may, within a cap. And tokens that end when they are replaced.

CREATE TABLE usage_keys (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL REFERENCES agents (id),
  label TEXT NOT NULL CHECK (length(label) <= 100),
  scopes TEXT NOT NULL CHECK (scopes <> '' AND instr(scopes, '*') <> 1), -- in order, a blank between two
  cap_micros INTEGER CHECK (cap_micros BETWEEN 1 AND 1000000000000000),
  cap_period TEXT CHECK (cap_period IN ('total', 'day', 'week', 'month')),
  recapped INTEGER NOT NULL DEFAULT 0 CHECK (recapped IN (0, 1)), -- 1: it once had another cap
  requests_per_min INTEGER CHECK (requests_per_min >= 1),
  open_micros INTEGER NOT NULL DEFAULT 0 CHECK (open_micros >= 0), -- what its open calls hold of the balance
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER,
  revoked_ms INTEGER,
  CHECK ((cap_micros IS NULL) = (cap_period IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_keys_of_agent ON usage_keys (agent_id, id);

CREATE TRIGGER usage_keys_stay BEFORE DELETE ON usage_keys
BEGIN SELECT RAISE(ABORT, 'usage keys stay: revoke it'); END;
CREATE TRIGGER usage_keys_keep_terms BEFORE UPDATE OF id, agent_id, created_ms ON usage_keys
BEGIN SELECT RAISE(ABORT, 'a usage key stays its agent''s'); END;
CREATE TRIGGER usage_keys_stay_revoked BEFORE UPDATE OF
  label, scopes, cap_micros, cap_period, recapped, requests_per_min, expires_ms, revoked_ms ON usage_keys
WHEN OLD.revoked_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a revoked usage key stays as it is'); END;

-- What a key took of the balance, by the day (since 1970, UTC) of the capture, less what was given back of it. Every
-- period of a cap begins with a day.
CREATE TABLE key_days (
  key_id TEXT NOT NULL REFERENCES usage_keys (id),
  day INTEGER NOT NULL,
  spent_micros INTEGER NOT NULL CHECK (spent_micros >= 0),
  PRIMARY KEY (key_id, day)
) STRICT, WITHOUT ROWID;

-- Which key a charge was made with. Where it is paid from the balance the key's figures follow the charge, whoever
-- moves it: released or spent with its end, given back with a refund. (What it holds is counted beside the INSERT, not by
-- a trigger of it: with one, SQLite would prepare to look for rows that refer to every new charge.)
ALTER TABLE charges ADD COLUMN key_id TEXT REFERENCES usage_keys (id);

CREATE TRIGGER charges_keep_key BEFORE UPDATE OF key_id ON charges
BEGIN SELECT RAISE(ABORT, 'the terms of a charge stay as they were made'); END;
CREATE TRIGGER charges_ended_of_key AFTER UPDATE OF state ON charges
WHEN OLD.key_id IS NOT NULL AND OLD.source = 'balance' AND OLD.state = 'held' AND NEW.state <> 'held'
BEGIN
  UPDATE usage_keys SET open_micros = open_micros - OLD.held_micros WHERE id = OLD.key_id;
  INSERT INTO key_days (key_id, day, spent_micros) SELECT OLD.key_id, NEW.ended_ms / 86400000, NEW.captured_micros
    WHERE NEW.captured_micros > 0
    ON CONFLICT (key_id, day) DO UPDATE SET spent_micros = key_days.spent_micros + excluded.spent_micros;
END;
CREATE TRIGGER charges_refunded_of_key AFTER UPDATE OF refunded_micros ON charges
WHEN OLD.key_id IS NOT NULL AND OLD.source = 'balance' AND NEW.refunded_micros <> OLD.refunded_micros
BEGIN
  UPDATE key_days SET spent_micros = spent_micros - (NEW.refunded_micros - OLD.refunded_micros)
    WHERE key_id = OLD.key_id AND day = OLD.ended_ms / 86400000;
END;

-- Tokens of agents and of their keys, in one table: a key's token is no more than what it is looked up by. A replaced
-- token may end later than at once.
CREATE TABLE tokens_new (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL REFERENCES agents (id),
  kind TEXT NOT NULL CHECK (kind IN ('admin', 'usage')),
  hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  hint TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  revoked_ms INTEGER,
  key_id TEXT REFERENCES usage_keys (id),
  expires_ms INTEGER, -- set when another one has replaced it
  last_used_ms INTEGER, -- to the minute
  CHECK ((kind = 'usage') = (key_id IS NOT NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO tokens_new (id, agent_id, kind, hash, hint, created_ms, revoked_ms)
  SELECT id, agent_id, kind, hash, hint, created_ms, revoked_ms FROM tokens;
DROP TABLE tokens;
ALTER TABLE tokens_new RENAME TO tokens;
CREATE INDEX tokens_of_agent ON tokens (agent_id);
CREATE INDEX tokens_of_key ON tokens (key_id) WHERE key_id IS NOT NULL;

CREATE TRIGGER tokens_stay BEFORE DELETE ON tokens
BEGIN SELECT RAISE(ABORT, 'tokens stay: revoke it'); END;
CREATE TRIGGER tokens_stay_revoked BEFORE UPDATE ON tokens WHEN OLD.revoked_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a revoked token stays as it is'); END;
CREATE TRIGGER tokens_keep_terms BEFORE UPDATE OF id, agent_id, kind, hash, hint, created_ms, key_id ON tokens
BEGIN SELECT RAISE(ABORT, 'a token stays what it is'); END;
CREATE TRIGGER tokens_only_end BEFORE UPDATE OF expires_ms ON tokens
WHEN OLD.expires_ms IS NOT NULL AND (NEW.expires_ms IS NULL OR NEW.expires_ms > OLD.expires_ms)
BEGIN SELECT RAISE(ABORT, 'a replaced token ends no later than was said'); END;
