-- Whether a charge's hold is its price, or the ceiling of what the work may come to.

ALTER TABLE charges ADD COLUMN metered INTEGER NOT NULL DEFAULT 0 CHECK (metered IN (0, 1));

DROP TRIGGER charges_keep_terms;
CREATE TRIGGER charges_keep_terms BEFORE UPDATE OF
  id, operation, party, source, asset, held_micros, held_bonus_micros, metered, request_id, request_hash, agent_id,
  identity, payer, created_ms ON charges
BEGIN SELECT RAISE(ABORT, 'the terms of a charge stay as they were made'); END;
