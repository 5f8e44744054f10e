-- Which wallet belongs to which agent: the one it was registered with, and those it has linked since.

CREATE TABLE wallets (
  address TEXT PRIMARY KEY CHECK (length(address) = 42 AND address NOT GLOB '*[^0-9a-fx]*'), -- lower case
  agent_id TEXT NOT NULL REFERENCES agents (id),
  role TEXT NOT NULL CHECK (role IN ('mint', 'linked')),
  at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX wallets_of_agent ON wallets (agent_id, at_ms);
CREATE UNIQUE INDEX wallets_mint_once ON wallets (agent_id) WHERE role = 'mint';

CREATE TRIGGER wallets_stay BEFORE DELETE ON wallets
BEGIN SELECT RAISE(ABORT, 'wallets stay with their agent'); END;
CREATE TRIGGER wallets_keep BEFORE UPDATE ON wallets
BEGIN SELECT RAISE(ABORT, 'wallets stay with their agent'); END;
