-- The statement ----------------------------------------------------------------------------------------------

-- A party's account as its bank would show it: each transfer that brought it money or took some away, numbered within
-- the party (nothing is told of anybody else's), with everything it has after it: own money and bonus, available and
-- held. A hold only sets aside and a release only gives back, so neither is here, and a hold does not pay for this.
CREATE TABLE movements (
  party TEXT NOT NULL,
  number INTEGER NOT NULL CHECK (number >= 1),
  seq INTEGER NOT NULL, -- its transfer
  balance_micros INTEGER NOT NULL CHECK (balance_micros >= 0),
  PRIMARY KEY (party, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER movements_are_history BEFORE UPDATE ON movements
BEGIN SELECT RAISE(ABORT, 'movements are history'); END;
CREATE TRIGGER movements_stay BEFORE DELETE ON movements
BEGIN SELECT RAISE(ABORT, 'movements are history'); END;

-- What was booked before there was a statement. An account is its party, a colon and one of four words.
INSERT INTO movements (party, number, seq, balance_micros)
SELECT party, row_number() OVER (PARTITION BY party ORDER BY seq), seq, sum(micros) OVER (PARTITION BY party ORDER BY seq)
FROM (
  SELECT debit AS account, seq, -amount_micros AS micros, substr(debit, 1, instr(debit, ':') - 1) AS party
  FROM transfers WHERE kind NOT IN ('hold', 'release')
  UNION ALL
  SELECT credit, seq, amount_micros, substr(credit, 1, instr(credit, ':') - 1)
  FROM transfers WHERE kind NOT IN ('hold', 'release')
)
WHERE substr(account, instr(account, ':') + 1) IN ('available', 'held', 'bonus', 'bonus_held');

-- Whoever writes a transfer writes this. Comparisons alone, as in 0002.
CREATE TRIGGER transfers_take_away AFTER INSERT ON transfers
WHEN NEW.kind <> 'hold' AND NEW.kind <> 'release' AND (
  substr(NEW.debit, -5) = ':held' OR substr(NEW.debit, -10) = ':available'
  OR substr(NEW.debit, -6) = ':bonus' OR substr(NEW.debit, -11) = ':bonus_held'
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
CREATE TRIGGER transfers_bring AFTER INSERT ON transfers
WHEN NEW.kind <> 'hold' AND NEW.kind <> 'release' AND (
  substr(NEW.credit, -10) = ':available' OR substr(NEW.credit, -6) = ':bonus'
  OR substr(NEW.credit, -5) = ':held' OR substr(NEW.credit, -11) = ':bonus_held'
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

-- Tickets ----------------------------------------------------------------------------------------------------

-- What a customer wrote to the operator. Written with the hold of the charge that pays for it, and gone with a charge
-- that is released: a ticket and its money are there together or not at all. Who reads it needs a charge that is paid.
CREATE TABLE tickets (
  id TEXT PRIMARY KEY,
  charge_id TEXT NOT NULL UNIQUE REFERENCES charges (id),
  party TEXT NOT NULL,
  agent_id TEXT REFERENCES agents (id),
  category TEXT NOT NULL CHECK (category IN ('bug', 'billing', 'account', 'other')),
  subject TEXT NOT NULL CHECK (length(subject) BETWEEN 1 AND 140),
  body TEXT NOT NULL CHECK (length(body) BETWEEN 1 AND 8000),
  state TEXT NOT NULL CHECK (state IN ('open', 'answered', 'closed')),
  created_ms INTEGER NOT NULL,
  changed_ms INTEGER NOT NULL,
  credit_id TEXT UNIQUE REFERENCES credits (id), -- what a confirmed bug has earned, once
  CHECK (credit_id IS NULL OR (category = 'bug' AND agent_id IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX tickets_of_agent ON tickets (agent_id, id) WHERE agent_id IS NOT NULL;
CREATE INDEX tickets_open ON tickets (party) WHERE state = 'open';
CREATE INDEX charges_resold ON charges (resold_by) WHERE resold_by IS NOT NULL;

CREATE TABLE ticket_answers (
  ticket_id TEXT NOT NULL REFERENCES tickets (id),
  number INTEGER NOT NULL CHECK (number >= 1),
  body TEXT NOT NULL CHECK (length(body) BETWEEN 1 AND 8000),
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (ticket_id, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER tickets_go_with_their_charge AFTER UPDATE OF state ON charges
WHEN NEW.state = 'released' AND NEW.operation = 'support/tickets'
BEGIN DELETE FROM tickets WHERE charge_id = NEW.id; END;
CREATE TRIGGER tickets_stay BEFORE DELETE ON tickets
WHEN (SELECT state FROM charges WHERE id = OLD.charge_id) <> 'released'
BEGIN SELECT RAISE(ABORT, 'tickets stay'); END;
CREATE TRIGGER tickets_keep_terms BEFORE UPDATE OF
  id, charge_id, party, agent_id, category, subject, body, created_ms ON tickets
BEGIN SELECT RAISE(ABORT, 'what a ticket says stays as it was written'); END;
CREATE TRIGGER tickets_stay_closed BEFORE UPDATE OF state ON tickets WHEN OLD.state = 'closed'
BEGIN SELECT RAISE(ABORT, 'a closed ticket stays closed'); END;
CREATE TRIGGER tickets_earn_once BEFORE UPDATE OF credit_id ON tickets WHEN OLD.credit_id IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a confirmed bug earns once'); END;
CREATE TRIGGER ticket_answers_are_history BEFORE UPDATE ON ticket_answers
BEGIN SELECT RAISE(ABORT, 'answers are history'); END;
CREATE TRIGGER ticket_answers_stay BEFORE DELETE ON ticket_answers
BEGIN SELECT RAISE(ABORT, 'answers are history'); END;
