-- The whole schema. Every table is STRICT, so that 0.1, '12abc' and 1e19 are refused where an integer belongs.
-- Amounts are micro-USD in INTEGER; atomic amounts of a token are digits in TEXT (18 decimals overflow 64 bits).
-- History is append-only: triggers refuse UPDATE and DELETE, a correction is another row.
-- Times are Unix milliseconds (`_ms`) or chain seconds (`_s`).
-- No foreign key is deferred: it would fail at the COMMIT, which is shared with everybody else who waits.

-- The ledger -------------------------------------------------------------------------------------------------

-- `balance_micros` caches the sum of an account's transfers. The CHECK makes an overdraft impossible, whatever
-- the code above does; gateway/core/transfer.py may_be_negative() is its twin.
CREATE TABLE accounts (
  name TEXT PRIMARY KEY,
  balance_micros INTEGER NOT NULL CHECK (
    balance_micros >= 0
    OR name IN ('loss', 'grants', 'operator')
    OR substr(name, 1, 6) = 'chain:'
    OR substr(name, -5) = ':debt'
  )
) STRICT, WITHOUT ROWID;

-- `debit -> credit`, with both balances after it: a balance at any `seq` is in its account's last row up to there.
-- The accounts follow by trigger, so no transfer is without its effect and nothing else moves a balance.
CREATE TABLE transfers (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (
    kind IN ('hold', 'capture', 'release', 'refund', 'proven', 'shortfall', 'given_up', 'taken_back', 'credit', 'grant')
  ),
  debit TEXT NOT NULL,
  credit TEXT NOT NULL CHECK (credit <> debit),
  amount_micros INTEGER NOT NULL CHECK (amount_micros BETWEEN 1 AND 1000000000000000),
  debit_after_micros INTEGER NOT NULL,
  credit_after_micros INTEGER NOT NULL,
  charge_id TEXT REFERENCES charges (id),
  settlement_id TEXT REFERENCES settlements (id),
  note TEXT NOT NULL
) STRICT;
CREATE INDEX transfers_of_charge ON transfers (charge_id) WHERE charge_id IS NOT NULL;

CREATE TRIGGER transfers_move_balances AFTER INSERT ON transfers
BEGIN
  INSERT INTO accounts (name, balance_micros) VALUES (NEW.debit, NEW.debit_after_micros)
    ON CONFLICT (name) DO UPDATE SET balance_micros = excluded.balance_micros;
  INSERT INTO accounts (name, balance_micros) VALUES (NEW.credit, NEW.credit_after_micros)
    ON CONFLICT (name) DO UPDATE SET balance_micros = excluded.balance_micros;
END;
CREATE TRIGGER transfers_are_history BEFORE UPDATE ON transfers
BEGIN SELECT RAISE(ABORT, 'transfers are history: book another one'); END;
CREATE TRIGGER transfers_stay BEFORE DELETE ON transfers
BEGIN SELECT RAISE(ABORT, 'transfers are history: book another one'); END;
CREATE TRIGGER accounts_stay BEFORE DELETE ON accounts
BEGIN SELECT RAISE(ABORT, 'accounts stay'); END;
CREATE TRIGGER accounts_keep_names BEFORE UPDATE OF name ON accounts
BEGIN SELECT RAISE(ABORT, 'accounts keep their names'); END;

-- Agents -----------------------------------------------------------------------------------------------------

CREATE TABLE agents (
  id TEXT PRIMARY KEY,
  label TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('active', 'frozen')),
  created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A bearer's SHA-256 and a hint to recognise it by; the token itself is nowhere.
CREATE TABLE tokens (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL REFERENCES agents (id),
  kind TEXT NOT NULL CHECK (kind IN ('admin')),
  hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  hint TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  revoked_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_of_agent ON tokens (agent_id);

-- Money an operator gave: credit is the agent's own, a grant is bonus.
CREATE TABLE credits (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL REFERENCES agents (id),
  kind TEXT NOT NULL CHECK (kind IN ('credit', 'grant')),
  amount_micros INTEGER NOT NULL CHECK (amount_micros BETWEEN 1 AND 1000000000000000),
  note TEXT NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the operator did, and when.
CREATE TABLE actions (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;

CREATE TRIGGER agents_stay BEFORE DELETE ON agents
BEGIN SELECT RAISE(ABORT, 'agents stay: freeze it'); END;
CREATE TRIGGER tokens_stay BEFORE DELETE ON tokens
BEGIN SELECT RAISE(ABORT, 'tokens stay: revoke it'); END;
CREATE TRIGGER tokens_stay_revoked BEFORE UPDATE ON tokens WHEN OLD.revoked_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a revoked token stays as it is'); END;
CREATE TRIGGER credits_are_history BEFORE UPDATE ON credits
BEGIN SELECT RAISE(ABORT, 'credits are history'); END;
CREATE TRIGGER credits_stay BEFORE DELETE ON credits
BEGIN SELECT RAISE(ABORT, 'credits are history'); END;
CREATE TRIGGER actions_are_history BEFORE UPDATE ON actions
BEGIN SELECT RAISE(ABORT, 'actions are history'); END;
CREATE TRIGGER actions_stay BEFORE DELETE ON actions
BEGIN SELECT RAISE(ABORT, 'actions are history'); END;

-- Charges ----------------------------------------------------------------------------------------------------

CREATE TABLE charges (
  id TEXT PRIMARY KEY,
  operation TEXT NOT NULL,
  party TEXT NOT NULL,
  source TEXT NOT NULL CHECK (source IN ('balance', 'signature')),
  asset TEXT CHECK ((asset IS NULL) = (source = 'balance')),
  held_micros INTEGER NOT NULL CHECK (held_micros BETWEEN 1 AND 1000000000000000),
  held_bonus_micros INTEGER NOT NULL CHECK (held_bonus_micros BETWEEN 0 AND held_micros),
  state TEXT NOT NULL CHECK (state IN ('held', 'captured', 'settled', 'unpaid', 'refunded', 'released')),
  reason TEXT CHECK (reason IN ('matched_free', 'missed', 'failed', 'expired')),
  captured_micros INTEGER NOT NULL CHECK (captured_micros BETWEEN 0 AND held_micros),
  captured_bonus_micros INTEGER NOT NULL CHECK (captured_bonus_micros BETWEEN 0 AND held_bonus_micros),
  refunded_micros INTEGER NOT NULL CHECK (refunded_micros BETWEEN 0 AND captured_micros),
  cost_micros INTEGER NOT NULL CHECK (cost_micros >= 0), -- what the vendors took; never part of the charge's money
  request_id TEXT NOT NULL,
  request_hash BLOB NOT NULL,
  agent_id TEXT REFERENCES agents (id),
  identity TEXT, -- its payments row is written after it
  payer TEXT,
  owner TEXT NOT NULL,
  work_deadline_ms INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  ended_ms INTEGER, -- when the work's outcome was recorded
  result_expires_ms INTEGER,
  resold_by TEXT REFERENCES charges (id),
  CHECK ((identity IS NULL) = (source = 'balance') AND (payer IS NULL) = (source = 'balance')),
  CHECK (source = 'balance' OR held_bonus_micros = 0),
  CHECK (captured_micros - captured_bonus_micros <= held_micros - held_bonus_micros),
  CHECK ((state = 'released') = (reason IS NOT NULL)),
  CHECK ((state IN ('held', 'released')) = (captured_micros = 0)),
  CHECK ((state = 'refunded') = (refunded_micros > 0 AND refunded_micros = captured_micros)),
  CHECK ((state = 'held') = (ended_ms IS NULL)),
  CHECK (source = 'signature' OR state NOT IN ('settled', 'unpaid'))
) STRICT, WITHOUT ROWID;
CREATE INDEX charges_held ON charges (id) WHERE state = 'held';
CREATE INDEX charges_of_payer ON charges (payer, request_hash) WHERE payer IS NOT NULL;
CREATE INDEX charges_uncollected ON charges (payer, asset) WHERE source = 'signature' AND state IN ('held', 'captured');
CREATE INDEX charges_of_party ON charges (party, id);

CREATE TRIGGER charges_stay BEFORE DELETE ON charges
BEGIN SELECT RAISE(ABORT, 'charges stay'); END;
CREATE TRIGGER charges_keep_terms BEFORE UPDATE OF
  id, operation, party, source, asset, held_micros, held_bonus_micros, request_id, request_hash, agent_id, identity,
  payer, created_ms ON charges
BEGIN SELECT RAISE(ABORT, 'the terms of a charge stay as they were made'); END;
CREATE TRIGGER charges_move_forward BEFORE UPDATE OF state ON charges
WHEN NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (VALUES
  ('held', 'captured'), ('held', 'released'), ('captured', 'settled'), ('captured', 'unpaid'),
  ('captured', 'refunded'), ('settled', 'refunded')
)
BEGIN SELECT RAISE(ABORT, 'charges move only forward'); END;

-- What the upstream answered, to be fetched for a while. The only thing here that is really deleted.
CREATE TABLE results (
  charge_id TEXT PRIMARY KEY REFERENCES charges (id),
  body BLOB NOT NULL,
  expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX results_by_expiry ON results (expires_ms);

-- Who may fetch a charge without a bearer: SHA-256 of charge tokens.
CREATE TABLE charge_tokens (
  hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
  charge_id TEXT NOT NULL REFERENCES charges (id),
  at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX charge_tokens_of_charge ON charge_tokens (charge_id);

-- Written with the hold, freed by a failure.
CREATE TABLE idempotency_keys (
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  charge_id TEXT NOT NULL UNIQUE REFERENCES charges (id),
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE refunds (
  id TEXT PRIMARY KEY,
  charge_id TEXT NOT NULL REFERENCES charges (id),
  amount_micros INTEGER NOT NULL CHECK (amount_micros BETWEEN 1 AND 1000000000000000),
  note TEXT NOT NULL,
  at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX refunds_of_charge ON refunds (charge_id);

CREATE TRIGGER refunds_are_history BEFORE UPDATE ON refunds
BEGIN SELECT RAISE(ABORT, 'refunds are history'); END;
CREATE TRIGGER refunds_stay BEFORE DELETE ON refunds
BEGIN SELECT RAISE(ABORT, 'refunds are history'); END;

-- Signed payments --------------------------------------------------------------------------------------------

-- One row for each authorization ever admitted. `charge_id` is the charge that has it, or had it last.
CREATE TABLE payments (
  identity TEXT PRIMARY KEY,
  state TEXT NOT NULL CHECK (state IN ('claimed', 'open', 'spent')),
  charge_id TEXT NOT NULL REFERENCES charges (id),
  payer TEXT NOT NULL,
  network TEXT NOT NULL,
  token TEXT NOT NULL,
  pay_to TEXT NOT NULL,
  amount_atomic TEXT NOT NULL CHECK (amount_atomic <> '' AND amount_atomic NOT GLOB '*[^0-9]*'),
  amount_micros INTEGER NOT NULL CHECK (amount_micros BETWEEN 1 AND 1000000000000000),
  valid_before_s INTEGER NOT NULL,
  payment BLOB NOT NULL,
  payment_hash BLOB NOT NULL,
  admitted_block INTEGER NOT NULL CHECK (admitted_block >= 0),
  wrong_requests INTEGER NOT NULL CHECK (wrong_requests >= 0)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER payments_stay BEFORE DELETE ON payments
BEGIN SELECT RAISE(ABORT, 'payments stay'); END;
CREATE TRIGGER payments_spent_stay BEFORE UPDATE OF
  identity, state, charge_id, payer, network, token, pay_to, amount_atomic, amount_micros, valid_before_s, payment,
  payment_hash, admitted_block ON payments WHEN OLD.state = 'spent'
BEGIN SELECT RAISE(ABORT, 'a spent payment stays as it is'); END;

-- One payment to be collected; who pays whom stands in its payments row.
CREATE TABLE settlements (
  id TEXT PRIMARY KEY,
  purpose TEXT NOT NULL CHECK (purpose IN ('charge', 'topup')),
  subject TEXT NOT NULL,
  identity TEXT NOT NULL UNIQUE REFERENCES payments (identity),
  amount_atomic TEXT NOT NULL CHECK (amount_atomic <> '' AND amount_atomic NOT GLOB '*[^0-9]*'),
  amount_micros INTEGER NOT NULL CHECK (amount_micros BETWEEN 1 AND 1000000000000000),
  state TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'proven', 'lost')),
  proven_micros INTEGER NOT NULL CHECK (proven_micros BETWEEN 0 AND amount_micros),
  final INTEGER NOT NULL CHECK (final IN (0, 1)),
  abandoned INTEGER NOT NULL CHECK (abandoned IN (0, 1)),
  taken_back INTEGER NOT NULL CHECK (taken_back >= 0), -- how often a reorganisation took its transfer back
  reason TEXT NOT NULL, -- why it was lost
  created_ms INTEGER NOT NULL,
  ended_ms INTEGER,
  CHECK (state = 'proven' OR (proven_micros = 0 AND final = 0)),
  CHECK ((state IN ('proven', 'lost')) = (ended_ms IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX settlement_of_charge ON settlements (subject) WHERE purpose = 'charge';
CREATE INDEX settlements_open ON settlements (state, id) WHERE state IN ('queued', 'sent');
CREATE INDEX settlements_watched ON settlements (id) WHERE state = 'proven' AND final = 0;

CREATE TRIGGER settlements_stay BEFORE DELETE ON settlements
BEGIN SELECT RAISE(ABORT, 'settlements stay'); END;
CREATE TRIGGER settlements_keep_terms BEFORE UPDATE OF
  id, purpose, subject, identity, amount_atomic, amount_micros, created_ms ON settlements
BEGIN SELECT RAISE(ABORT, 'the terms of a settlement stay as they were made'); END;
CREATE TRIGGER settlements_move BEFORE UPDATE OF state ON settlements
WHEN NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (VALUES
  ('queued', 'sent'), ('sent', 'queued'), ('queued', 'proven'), ('sent', 'proven'), ('queued', 'lost'),
  ('sent', 'lost'), ('proven', 'queued')
)
BEGIN SELECT RAISE(ABORT, 'a settlement has no such move'); END;
CREATE TRIGGER settlements_stay_abandoned BEFORE UPDATE OF abandoned ON settlements
WHEN OLD.abandoned = 1 AND NEW.abandoned = 0
BEGIN SELECT RAISE(ABORT, 'an abandoned settlement stays abandoned'); END;
CREATE TRIGGER settlements_final_stay BEFORE UPDATE ON settlements WHEN OLD.final = 1
BEGIN SELECT RAISE(ABORT, 'a final settlement stays as it is'); END;

-- One log proves one thing. A proof that a reorganisation took back is kept, marked, and proves nothing any more.
CREATE TABLE proofs (
  seq INTEGER PRIMARY KEY,
  network TEXT NOT NULL,
  transaction_hash TEXT NOT NULL,
  log_index INTEGER NOT NULL,
  settlement_id TEXT NOT NULL REFERENCES settlements (id),
  kind TEXT NOT NULL CHECK (kind IN ('chain', 'facilitator', 'sandbox')),
  block INTEGER NOT NULL,
  amount_atomic TEXT NOT NULL CHECK (amount_atomic <> '' AND amount_atomic NOT GLOB '*[^0-9]*'),
  at_ms INTEGER NOT NULL,
  taken_back_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX proofs_prove_once ON proofs (network, transaction_hash, log_index) WHERE taken_back_ms IS NULL;
CREATE UNIQUE INDEX proofs_of_settlement ON proofs (settlement_id) WHERE taken_back_ms IS NULL;

CREATE TRIGGER proofs_stay BEFORE DELETE ON proofs
BEGIN SELECT RAISE(ABORT, 'proofs are history'); END;
CREATE TRIGGER proofs_are_history BEFORE UPDATE OF
  seq, network, transaction_hash, log_index, settlement_id, kind, block, amount_atomic, at_ms ON proofs
BEGIN SELECT RAISE(ABORT, 'proofs are history'); END;
CREATE TRIGGER proofs_taken_back_once BEFORE UPDATE OF taken_back_ms ON proofs WHEN OLD.taken_back_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'proofs are history'); END;

-- Transactions of ours, written before they are broadcast. `position` orders the calls of one transaction.
CREATE TABLE attempts (
  network TEXT NOT NULL,
  key TEXT NOT NULL,
  nonce INTEGER NOT NULL CHECK (nonce >= 0),
  number INTEGER NOT NULL CHECK (number >= 0),
  hash TEXT NOT NULL,
  raw BLOB NOT NULL,
  max_fee_per_gas TEXT NOT NULL CHECK (max_fee_per_gas <> '' AND max_fee_per_gas NOT GLOB '*[^0-9]*'),
  sent_ms INTEGER NOT NULL,
  PRIMARY KEY (network, key, nonce, number),
  UNIQUE (network, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt_settlements (
  network TEXT NOT NULL,
  key TEXT NOT NULL,
  nonce INTEGER NOT NULL,
  number INTEGER NOT NULL,
  position INTEGER NOT NULL,
  settlement_id TEXT NOT NULL REFERENCES settlements (id),
  PRIMARY KEY (network, key, nonce, number, position),
  FOREIGN KEY (network, key, nonce, number) REFERENCES attempts (network, key, nonce, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_of_settlement ON attempt_settlements (settlement_id);

-- Nonces known to be used at depth, by one of our attempts or (NULL) by something that is not ours.
CREATE TABLE closed_nonces (
  network TEXT NOT NULL,
  key TEXT NOT NULL,
  nonce INTEGER NOT NULL CHECK (nonce >= 0),
  mined_hash TEXT,
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (network, key, nonce)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER attempts_are_history BEFORE UPDATE ON attempts
BEGIN SELECT RAISE(ABORT, 'attempts are history'); END;
CREATE TRIGGER attempts_stay BEFORE DELETE ON attempts
BEGIN SELECT RAISE(ABORT, 'attempts are history'); END;
CREATE TRIGGER attempt_settlements_are_history BEFORE UPDATE ON attempt_settlements
BEGIN SELECT RAISE(ABORT, 'attempts are history'); END;
CREATE TRIGGER attempt_settlements_stay BEFORE DELETE ON attempt_settlements
BEGIN SELECT RAISE(ABORT, 'attempts are history'); END;
CREATE TRIGGER closed_nonces_are_history BEFORE UPDATE ON closed_nonces
BEGIN SELECT RAISE(ABORT, 'a used nonce stays used'); END;
CREATE TRIGGER closed_nonces_stay BEFORE DELETE ON closed_nonces
BEGIN SELECT RAISE(ABORT, 'a used nonce stays used'); END;

-- Counts how often the writer came back after a commit whose outcome was unknown: see gateway/store/sqlite.py.
CREATE TABLE reopenings (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  count INTEGER NOT NULL
) STRICT;
INSERT INTO reopenings (one, count) VALUES (1, 0);
