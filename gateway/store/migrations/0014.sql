-- Deposits: money that an agent has brought, by a plain transfer on chain or by an x402 payment.

-- A statement has more words. Nothing on disk depends on a CHECK, so the rule itself is rewritten, as SQLite documents
-- it (lang_altertable.html, section 8): the ledger is not copied, and its indexes and triggers stay as they are.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(
  sql, '''credit'', ''grant''', '''credit'', ''grant'', ''deposit'', ''match'', ''withdrawn'', ''repaid'''
) WHERE type = 'table' AND name = 'transfers';
-- What a party owes counts: a statement may go below zero.
UPDATE sqlite_schema SET sql = replace(sql, ' CHECK (balance_micros >= 0)', '')
WHERE type = 'table' AND name = 'movements';
PRAGMA writable_schema = RESET;

-- As in 0013, with debts as accounts of the party; what is repaid stays with it, as what is held does.
DROP TRIGGER transfers_take_away;
CREATE TRIGGER transfers_take_away AFTER INSERT ON transfers
WHEN NEW.kind <> 'hold' AND NEW.kind <> 'release' AND NEW.kind <> 'repaid' AND (
  substr(NEW.debit, -5) = ':held' OR substr(NEW.debit, -10) = ':available'
  OR substr(NEW.debit, -6) = ':bonus' OR substr(NEW.debit, -11) = ':bonus_held' OR substr(NEW.debit, -5) = ':debt'
)
BEGIN
  INSERT INTO movements (party, number, seq, balance_micros) VALUES (
    substr(NEW.debit, 1, instr(NEW.debit, ':') - 1),
    1 + coalesce((SELECT max(number) FROM movements WHERE party = substr(NEW.debit, 1, instr(NEW.debit, ':') - 1)), 0),
    NEW.seq,
    coalesce((SELECT balance_micros FROM movements WHERE party = substr(NEW.debit, 1, instr(NEW.debit, ':') - 1)
      ORDER BY number DESC LIMIT 1), 0) - NEW.amount_micros
  );
END;
DROP TRIGGER transfers_bring;
CREATE TRIGGER transfers_bring AFTER INSERT ON transfers
WHEN NEW.kind <> 'hold' AND NEW.kind <> 'release' AND NEW.kind <> 'repaid' AND (
  substr(NEW.credit, -10) = ':available' OR substr(NEW.credit, -6) = ':bonus'
  OR substr(NEW.credit, -5) = ':held' OR substr(NEW.credit, -11) = ':bonus_held' OR substr(NEW.credit, -5) = ':debt'
)
BEGIN
  INSERT INTO movements (party, number, seq, balance_micros) VALUES (
    substr(NEW.credit, 1, instr(NEW.credit, ':') - 1),
    1 + coalesce((SELECT max(number) FROM movements WHERE party = substr(NEW.credit, 1, instr(NEW.credit, ':') - 1)), 0),
    NEW.seq,
    coalesce((SELECT balance_micros FROM movements WHERE party = substr(NEW.credit, 1, instr(NEW.credit, ':') - 1)
      ORDER BY number DESC LIMIT 1), 0) + NEW.amount_micros
  );
END;

-- `seen`: at depth, and nobody's yet. `gone`: a reorganisation took it back before anybody got it; `withdrawn`: after.
-- By x402 its log stands in `proofs`, as its settlement's.
CREATE TABLE deposits (
  id TEXT PRIMARY KEY,
  source TEXT NOT NULL CHECK (source IN ('transfer', 'x402')),
  state TEXT NOT NULL CHECK (state IN ('seen', 'credited', 'withdrawn', 'gone')),
  agent_id TEXT REFERENCES agents (id),
  network TEXT NOT NULL,
  token TEXT NOT NULL,
  sender TEXT NOT NULL,
  amount_atomic TEXT NOT NULL CHECK (amount_atomic <> '' AND amount_atomic NOT GLOB '*[^0-9]*'),
  amount_micros INTEGER NOT NULL CHECK (amount_micros BETWEEN 1 AND 1000000000000000),
  bonus_micros INTEGER NOT NULL CHECK (bonus_micros BETWEEN 0 AND 1000000000000000),
  transaction_hash TEXT,
  log_index INTEGER CHECK (log_index >= 0),
  block INTEGER CHECK (block >= 0),
  block_hash TEXT,
  settlement_id TEXT REFERENCES settlements (id),
  final INTEGER NOT NULL CHECK (final IN (0, 1)), -- deep enough: not looked at again
  seen_ms INTEGER NOT NULL,
  credited_ms INTEGER,
  ended_ms INTEGER,
  CHECK ((source = 'transfer') = (transaction_hash IS NOT NULL)),
  CHECK ((transaction_hash IS NULL) = (log_index IS NULL) AND (transaction_hash IS NULL) = (block IS NULL)),
  CHECK ((transaction_hash IS NULL) = (block_hash IS NULL)),
  CHECK ((source = 'x402') = (settlement_id IS NOT NULL)),
  CHECK ((state IN ('seen', 'gone')) = (credited_ms IS NULL) AND (agent_id IS NULL) = (credited_ms IS NULL)),
  CHECK ((state IN ('withdrawn', 'gone')) = (ended_ms IS NOT NULL)),
  CHECK (final = 0 OR state IN ('seen', 'credited')),
  CHECK (bonus_micros = 0 OR credited_ms IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX deposits_once ON deposits (network, transaction_hash, log_index)
  WHERE state IN ('seen', 'credited') AND source = 'transfer';
CREATE UNIQUE INDEX deposit_of_settlement ON deposits (settlement_id) WHERE state = 'credited' AND source = 'x402';
CREATE INDEX deposits_by_settlement ON deposits (settlement_id) WHERE settlement_id IS NOT NULL;
CREATE INDEX deposits_by_transaction ON deposits (network, transaction_hash) WHERE transaction_hash IS NOT NULL;
CREATE INDEX deposits_of_agent ON deposits (agent_id, id) WHERE agent_id IS NOT NULL;
CREATE INDEX deposits_watched ON deposits (network, block)
  WHERE final = 0 AND state IN ('seen', 'credited') AND source = 'transfer';
CREATE INDEX deposits_seen ON deposits (sender) WHERE state = 'seen';
CREATE INDEX deposits_matched ON deposits (bonus_micros) WHERE state = 'credited' AND bonus_micros > 0;

CREATE TRIGGER deposits_stay BEFORE DELETE ON deposits
BEGIN SELECT RAISE(ABORT, 'deposits stay'); END;
CREATE TRIGGER deposits_keep_terms BEFORE UPDATE OF
  id, source, network, token, sender, amount_atomic, amount_micros, transaction_hash, log_index, settlement_id, seen_ms
  ON deposits
BEGIN SELECT RAISE(ABORT, 'the terms of a deposit stay as they came'); END;
CREATE TRIGGER deposits_credited_once BEFORE UPDATE OF agent_id, bonus_micros, credited_ms ON deposits
WHEN OLD.state <> 'seen'
BEGIN SELECT RAISE(ABORT, 'a deposit is credited once'); END;
CREATE TRIGGER deposits_move_forward BEFORE UPDATE OF state ON deposits
WHEN NEW.state <> OLD.state AND NOT (
  (OLD.state = 'seen' AND NEW.state IN ('credited', 'gone')) OR (OLD.state = 'credited' AND NEW.state = 'withdrawn')
)
BEGIN SELECT RAISE(ABORT, 'deposits move only forward'); END;
CREATE TRIGGER deposits_stay_ended BEFORE UPDATE ON deposits WHEN OLD.ended_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a deposit that was taken back stays as it is'); END;
CREATE TRIGGER deposits_stay_final BEFORE UPDATE OF final, block, block_hash, ended_ms ON deposits WHEN OLD.final = 1
BEGIN SELECT RAISE(ABORT, 'a final deposit stays as it is'); END;

-- One log proves one thing: a settlement or a deposit, never both.
CREATE TRIGGER deposits_are_no_proofs BEFORE INSERT ON deposits
WHEN NEW.transaction_hash IS NOT NULL AND EXISTS (
  SELECT 1 FROM proofs p WHERE p.network = NEW.network AND p.transaction_hash = NEW.transaction_hash
    AND p.log_index = NEW.log_index AND p.taken_back_ms IS NULL
)
BEGIN SELECT RAISE(ABORT, 'this log proves a settlement'); END;
CREATE TRIGGER proofs_are_no_deposits BEFORE INSERT ON proofs
WHEN EXISTS (
  SELECT 1 FROM deposits d WHERE d.network = NEW.network AND d.transaction_hash = NEW.transaction_hash
    AND d.log_index = NEW.log_index AND d.state IN ('seen', 'credited') AND d.source = 'transfer'
)
BEGIN SELECT RAISE(ABORT, 'this log is a deposit'); END;

-- What a transfer was booked for, where that is a deposit.
ALTER TABLE transfers ADD COLUMN deposit_id TEXT REFERENCES deposits (id);
CREATE INDEX transfers_of_deposit ON transfers (deposit_id) WHERE deposit_id IS NOT NULL;

-- Whether a charge buys balance: what is captured stays authorized until it has come, and is the payer's own then.
ALTER TABLE charges ADD COLUMN topup INTEGER NOT NULL DEFAULT 0
  CHECK (topup IN (0, 1) AND (topup = 0 OR (source = 'signature' AND refunded_micros = 0)));

DROP TRIGGER charges_keep_terms;
CREATE TRIGGER charges_keep_terms BEFORE UPDATE OF
  id, operation, party, source, asset, held_micros, held_bonus_micros, metered, topup, request_id, request_hash,
  agent_id, identity, payer, created_ms ON charges
BEGIN SELECT RAISE(ABORT, 'the terms of a charge stay as they were made'); END;

CREATE UNIQUE INDEX settlement_of_topup ON settlements (subject) WHERE purpose = 'topup';
