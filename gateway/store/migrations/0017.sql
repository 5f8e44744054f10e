-- Prepaid calls: a payment that is settled before the work, as a top-up of its payer's account, and the call that is
-- charged to that account then.

-- The call names its top-up. One top-up has one call; one that has failed may be made again.
ALTER TABLE charges ADD COLUMN topup_id TEXT REFERENCES charges (id) CHECK (topup_id IS NULL OR source = 'balance');
CREATE UNIQUE INDEX call_of_topup ON charges (topup_id)
  WHERE topup_id IS NOT NULL AND (reason IS NULL OR reason NOT IN ('failed', 'expired'));

DROP TRIGGER charges_keep_terms;
CREATE TRIGGER charges_keep_terms BEFORE UPDATE OF
  id, operation, party, source, asset, held_micros, held_bonus_micros, metered, topup, topup_id, request_id,
  request_hash, agent_id, identity, payer, created_ms ON charges
BEGIN SELECT RAISE(ABORT, 'the terms of a charge stay as they were made'); END;

-- A payer without an agent has the account of his wallet, so a deposit may be a wallet's; and a statement has one more
-- word, for what goes on from a wallet's account to the agent that the wallet belongs to. As in 0014, the rules
-- themselves are rewritten: nothing on disk depends on them.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, '''repaid''', '''repaid'', ''joined''')
WHERE type = 'table' AND name = 'transfers';
UPDATE sqlite_schema SET sql = replace(sql, 'agent_id TEXT REFERENCES agents (id)', 'agent_id TEXT')
WHERE type = 'table' AND name = 'deposits';
PRAGMA writable_schema = RESET;
ALTER TABLE deposits RENAME COLUMN agent_id TO party;

-- What wallets have (of refunds, so far) that belong to an agent already. A contract's may be another's on another
-- chain: see OWNER in gateway/store/wallets.py.
INSERT INTO transfers (at_ms, kind, debit, credit, amount_micros, debit_after_micros, credit_after_micros, note)
SELECT (SELECT max(at_ms) FROM transfers), 'joined', a.name, w.agent_id || ':available', a.balance_micros, 0,
  coalesce((SELECT o.balance_micros FROM accounts o WHERE o.name = w.agent_id || ':available'), 0)
    + sum(a.balance_micros) OVER (PARTITION BY w.agent_id ORDER BY w.address), ''
FROM wallets w JOIN accounts a ON a.name = w.address || ':available' LEFT JOIN registrations r ON r.address = w.address
WHERE a.balance_micros > 0 AND NOT (coalesce(r.contract, 0) = 1 AND EXISTS (
  SELECT 1 FROM charges c WHERE c.payer = w.address AND substr(c.asset, 1, length(r.network) + 1) <> r.network || '/'))
ORDER BY w.agent_id, w.address;
