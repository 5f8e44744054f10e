-- Sessions: several calls of one agent about one thing. What a call has found is kept with the end of its charge, and
-- the next one goes on from there.

CREATE TABLE sessions (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL REFERENCES agents (id),
  key_id TEXT REFERENCES usage_keys (id), -- the usage key that it was begun with
  operation TEXT NOT NULL,
  subject BLOB NOT NULL CHECK (length(subject) = 32),
  working TEXT REFERENCES charges (id), -- the call that was the last to go on with it
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_expiry ON sessions (expires_ms);
CREATE INDEX sessions_of_charge ON sessions (working) WHERE working IS NOT NULL;
CREATE INDEX sessions_of_agent ON sessions (agent_id);

CREATE TRIGGER sessions_keep BEFORE UPDATE OF id, agent_id, key_id, operation, subject, created_ms ON sessions
BEGIN SELECT RAISE(ABORT, 'a session stays with its agent and its subject'); END;

CREATE TABLE session_turns (
  charge_id TEXT PRIMARY KEY REFERENCES charges (id),
  session_id TEXT NOT NULL REFERENCES sessions (id),
  cost_micros INTEGER NOT NULL CHECK (cost_micros >= 0), -- of what was charged for: nothing of a miss
  state BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_turns_of_session ON session_turns (session_id, charge_id);
