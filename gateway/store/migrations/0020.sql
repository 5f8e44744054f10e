-- Wallets by network: one that its contract has proven counts on the contract's network only, one that has signed with
-- its key, or was put here by the operator, counts everywhere and has no network. See gateway/store/wallets.py.

-- What refers to a wallet by its address alone does so no longer. Nothing on disk depends on that rule, so it is
-- rewritten, as in 0014 and 0017.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, ' REFERENCES wallets (address)', '')
WHERE type = 'table' AND name IN ('registrations', 'allowances', 'wallet_recoveries');
PRAGMA writable_schema = RESET;

CREATE TABLE wallets_by_network (
  address TEXT NOT NULL CHECK (length(address) = 42 AND address NOT GLOB '*[^0-9a-fx]*'), -- lower case
  network TEXT NOT NULL, -- '': on every one
  agent_id TEXT NOT NULL REFERENCES agents (id),
  role TEXT NOT NULL CHECK (role IN ('mint', 'linked')),
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (address, network)
) STRICT, WITHOUT ROWID;
INSERT INTO wallets_by_network (address, network, agent_id, role, at_ms)
SELECT w.address, CASE r.contract WHEN 1 THEN r.network ELSE '' END, w.agent_id, w.role, w.at_ms
FROM wallets w LEFT JOIN registrations r ON r.address = w.address;

-- Whoever has proven a contract's wallet here may have another one at the same address elsewhere.
CREATE TABLE registrations_by_network (
  address TEXT NOT NULL,
  network TEXT NOT NULL, -- that it was proven on
  contract INTEGER NOT NULL CHECK (contract IN (0, 1)),
  counts_on TEXT NOT NULL CHECK (counts_on = CASE contract WHEN 1 THEN network ELSE '' END), -- as its wallet does
  granted_micros INTEGER NOT NULL CHECK (granted_micros BETWEEN 0 AND 1000000000000000),
  credit_id TEXT UNIQUE REFERENCES credits (id),
  withheld TEXT CHECK (withheld IN ('off', 'budget_spent', 'shared_funds', 'unknown_funds', 'linked')),
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (address, counts_on),
  FOREIGN KEY (address, counts_on) REFERENCES wallets_by_network (address, network),
  CHECK ((granted_micros = 0) = (credit_id IS NULL)),
  CHECK ((granted_micros = 0) = (withheld IS NOT NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO registrations_by_network
  (address, network, contract, counts_on, granted_micros, credit_id, withheld, at_ms)
SELECT address, network, contract, CASE contract WHEN 1 THEN network ELSE '' END, granted_micros, credit_id, withheld,
  at_ms FROM registrations;

-- Of what a contract has stated, what was signed for on other networks is none.
CREATE TABLE allowances_by_network (
  address TEXT NOT NULL,
  network TEXT NOT NULL, -- '': of payments on every one
  limit_micros INTEGER NOT NULL CHECK (limit_micros BETWEEN 1 AND 1000000000000000),
  drawn_micros INTEGER NOT NULL CHECK (drawn_micros BETWEEN 0 AND limit_micros),
  signature BLOB NOT NULL,
  nonce TEXT NOT NULL,
  since_ms INTEGER NOT NULL,
  PRIMARY KEY (address, network)
) STRICT, WITHOUT ROWID;
INSERT INTO allowances_by_network (address, network, limit_micros, drawn_micros, signature, nonce, since_ms)
SELECT a.address, w.network, a.limit_micros,
  CASE w.network WHEN '' THEN a.drawn_micros ELSE (
    SELECT coalesce(sum(CASE c.state WHEN 'held' THEN c.held_micros WHEN 'released' THEN 0 WHEN 'unpaid' THEN 0
      ELSE c.captured_micros END), 0)
    FROM charges c WHERE c.payer = a.address AND c.source = 'signature' AND c.created_ms > a.since_ms
      AND substr(c.asset, 1, length(w.network) + 1) = w.network || '/'
  ) END, a.signature, a.nonce, a.since_ms
FROM allowances a JOIN wallets_by_network w ON w.address = a.address;

DROP TRIGGER allowances_of_ended_charges;
DROP TABLE allowances;
DROP TABLE registrations;
DROP TABLE wallets;
ALTER TABLE wallets_by_network RENAME TO wallets;
ALTER TABLE registrations_by_network RENAME TO registrations;
ALTER TABLE allowances_by_network RENAME TO allowances;

CREATE INDEX wallets_of_agent ON wallets (agent_id, at_ms);
CREATE UNIQUE INDEX wallets_mint_once ON wallets (agent_id) WHERE role = 'mint';
CREATE INDEX registrations_granted ON registrations (at_ms, granted_micros) WHERE granted_micros > 0;

-- As in 0010 and 0011.
CREATE TRIGGER wallets_stay BEFORE DELETE ON wallets
BEGIN SELECT RAISE(ABORT, 'wallets stay with their agent'); END;
CREATE TRIGGER wallets_keep BEFORE UPDATE ON wallets
BEGIN SELECT RAISE(ABORT, 'wallets stay with their agent'); END;
CREATE TRIGGER registrations_stay BEFORE DELETE ON registrations
BEGIN SELECT RAISE(ABORT, 'registrations are history'); END;
CREATE TRIGGER registrations_are_history BEFORE UPDATE ON registrations
BEGIN SELECT RAISE(ABORT, 'registrations are history'); END;
CREATE TRIGGER allowances_stay BEFORE DELETE ON allowances
BEGIN SELECT RAISE(ABORT, 'an allowance is stated anew, not dropped'); END;

-- A payment draws on whatever was stated for its network and for all, and its end gives back to the same.
CREATE TRIGGER allowances_of_ended_charges AFTER UPDATE OF state ON charges
WHEN NEW.source = 'signature' AND NEW.state <> OLD.state AND NEW.state IN ('captured', 'released', 'unpaid')
BEGIN
  UPDATE allowances SET drawn_micros = drawn_micros
      - CASE OLD.state WHEN 'held' THEN OLD.held_micros ELSE OLD.captured_micros END
      + CASE NEW.state WHEN 'captured' THEN NEW.captured_micros ELSE 0 END
    WHERE address = NEW.payer AND network IN ('', substr(NEW.asset, 1, instr(NEW.asset, '/') - 1))
      AND since_ms < NEW.created_ms;
END;

-- What deposits come to, told without walking through them: how many stand (what was paid for a call is none), and their
-- bonus. Of each party, and of all together under '*'. Moved with each deposit, in its own statement.
CREATE TABLE deposit_sums (
  party TEXT PRIMARY KEY,
  standing INTEGER NOT NULL CHECK (standing >= 0),
  bonus_micros INTEGER NOT NULL CHECK (bonus_micros >= 0)
) STRICT, WITHOUT ROWID;
INSERT INTO deposit_sums (party, standing, bonus_micros)
SELECT d.party, sum(NOT EXISTS (SELECT 1 FROM settlements s JOIN charges c ON c.id = s.subject
    WHERE s.id = d.settlement_id AND c.operation <> 'balance/topup/x402')), sum(d.bonus_micros)
FROM deposits d WHERE d.state = 'credited' GROUP BY d.party;
INSERT INTO deposit_sums (party, standing, bonus_micros)
SELECT '*', coalesce(sum(standing), 0), coalesce(sum(bonus_micros), 0) FROM deposit_sums;

CREATE TRIGGER deposits_stand AFTER UPDATE OF state ON deposits WHEN OLD.state = 'seen' AND NEW.state = 'credited'
BEGIN
  INSERT INTO deposit_sums (party, standing, bonus_micros) VALUES (NEW.party, 0, 0) ON CONFLICT (party) DO NOTHING;
  UPDATE deposit_sums SET bonus_micros = bonus_micros + NEW.bonus_micros,
    standing = standing + NOT EXISTS (SELECT 1 FROM settlements s JOIN charges c ON c.id = s.subject
      WHERE s.id = NEW.settlement_id AND c.operation <> 'balance/topup/x402')
  WHERE party IN (NEW.party, '*');
END;
CREATE TRIGGER deposits_fall AFTER UPDATE OF state ON deposits WHEN OLD.state = 'credited' AND NEW.state = 'withdrawn'
BEGIN
  UPDATE deposit_sums SET bonus_micros = bonus_micros - NEW.bonus_micros,
    standing = standing - NOT EXISTS (SELECT 1 FROM settlements s JOIN charges c ON c.id = s.subject
      WHERE s.id = NEW.settlement_id AND c.operation <> 'balance/topup/x402')
  WHERE party IN (NEW.party, '*');
END;
DROP INDEX deposits_matched;

-- Wallets that came to an agent while deposits from their address were nobody's: the watcher credits those, and takes
-- the wallet off. Nobody else's deposits are walked through for it.
CREATE TABLE linked_senders (
  address TEXT NOT NULL,
  network TEXT NOT NULL, -- that the wallet counts on
  PRIMARY KEY (address, network),
  FOREIGN KEY (address, network) REFERENCES wallets (address, network)
) STRICT, WITHOUT ROWID;
INSERT INTO linked_senders (address, network)
SELECT w.address, w.network FROM wallets w
WHERE EXISTS (SELECT 1 FROM deposits d WHERE d.sender = w.address AND d.state = 'seen');

CREATE TRIGGER wallets_have_sent AFTER INSERT ON wallets
WHEN EXISTS (SELECT 1 FROM deposits d WHERE d.sender = NEW.address AND d.state = 'seen')
BEGIN INSERT INTO linked_senders (address, network) VALUES (NEW.address, NEW.network); END;
