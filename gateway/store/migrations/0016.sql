-- Leads that agents have asked about, as keyed hashes, and the recoveries of agents that have lost their token.

-- Kept for ninety days and no longer than needed; the key is not in this file (gateway/core/lead.py).
CREATE TABLE leads (
  agent_id TEXT NOT NULL REFERENCES agents (id),
  digest BLOB NOT NULL CHECK (length(digest) = 16),
  key_id INTEGER NOT NULL, -- which key it was made with
  asked_day INTEGER NOT NULL CHECK (asked_day >= 0), -- days since 1970, UTC
  PRIMARY KEY (agent_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX leads_by_day ON leads (asked_day);

-- Written when the transfer is proven, not before: anybody may ask for a challenge. One deposit proves one recovery.
CREATE TABLE wallet_recoveries (
  id_hash BLOB PRIMARY KEY CHECK (length(id_hash) = 32), -- of the id that its challenge was given
  agent_id TEXT NOT NULL REFERENCES agents (id),
  address TEXT NOT NULL REFERENCES wallets (address),
  deposit_id TEXT NOT NULL UNIQUE REFERENCES deposits (id),
  wrong_tries INTEGER NOT NULL CHECK (wrong_tries BETWEEN 0 AND 3),
  last_wrong_ms INTEGER,
  proven_ms INTEGER NOT NULL,
  done_ms INTEGER,
  token_id TEXT UNIQUE REFERENCES tokens (id), -- that it was done with
  CHECK ((wrong_tries = 0) = (last_wrong_ms IS NULL)),
  CHECK ((done_ms IS NULL) = (token_id IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX wallet_recoveries_of_agent ON wallet_recoveries (agent_id, last_wrong_ms);

CREATE TRIGGER wallet_recoveries_stay BEFORE DELETE ON wallet_recoveries
BEGIN SELECT RAISE(ABORT, 'recoveries stay'); END;
CREATE TRIGGER wallet_recoveries_keep_terms BEFORE UPDATE OF id_hash, agent_id, address, proven_ms ON wallet_recoveries
BEGIN SELECT RAISE(ABORT, 'the terms of a recovery stay as they were made'); END;
CREATE TRIGGER wallet_recoveries_are_done_once BEFORE UPDATE ON wallet_recoveries WHEN OLD.done_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a recovery is done once'); END;
CREATE TRIGGER wallet_recoveries_count_on BEFORE UPDATE OF wrong_tries ON wallet_recoveries
WHEN NEW.wrong_tries < OLD.wrong_tries
BEGIN SELECT RAISE(ABORT, 'tries are not given back'); END;
