-- What was bought for a charge: every vendor that was asked, what came of it and what it took.

CREATE TABLE vendor_calls (
  id INTEGER PRIMARY KEY,
  charge_id TEXT NOT NULL REFERENCES charges (id),
  hop TEXT NOT NULL,
  provider TEXT NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('match', 'no_match', 'failed', 'skipped')),
  error TEXT,
  cost_micros INTEGER NOT NULL CHECK (cost_micros BETWEEN 0 AND 1000000000000000),
  cached INTEGER NOT NULL CHECK (cached IN (0, 1)),
  ms INTEGER NOT NULL CHECK (ms >= 0),
  at_ms INTEGER NOT NULL,
  CHECK ((outcome IN ('match', 'no_match')) = (error IS NULL)),
  CHECK (cost_micros = 0 OR (cached = 0 AND outcome <> 'skipped'))
) STRICT;
CREATE INDEX vendor_calls_of_charge ON vendor_calls (charge_id, id);

CREATE TRIGGER vendor_calls_stay BEFORE DELETE ON vendor_calls
BEGIN SELECT RAISE(ABORT, 'what was bought stays in the books'); END;
CREATE TRIGGER vendor_calls_stay_as_they_are BEFORE UPDATE ON vendor_calls
BEGIN SELECT RAISE(ABORT, 'what was bought stays in the books'); END;

-- What charges cost before this was kept: one call each, of whoever sold it.
INSERT INTO vendor_calls (charge_id, hop, provider, outcome, error, cost_micros, cached, ms, at_ms)
SELECT id, 'call', operation,
  CASE WHEN state <> 'released' OR reason = 'matched_free' THEN 'match' WHEN reason = 'missed' THEN 'no_match' ELSE 'failed' END,
  CASE WHEN state <> 'released' OR reason IN ('matched_free', 'missed') THEN NULL ELSE 'transient' END,
  cost_micros, 0, 0, coalesce(ended_ms, created_ms)
FROM charges WHERE cost_micros > 0 ORDER BY id;

-- What a period has earned and cost, without reading all there was before.
CREATE INDEX charges_by_time ON charges (created_ms);
