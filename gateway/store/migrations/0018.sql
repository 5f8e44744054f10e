-- What came to a party and was not its own spending, in order of time: the few rows beside the many of its calls, so
-- that what it spent within a time is told from two balances and these (gateway/store/statements.py).
CREATE INDEX transfers_brought ON transfers (credit, at_ms) WHERE kind NOT IN
  ('hold', 'capture', 'release', 'refund', 'proven', 'shortfall', 'given_up', 'taken_back', 'repaid');
CREATE INDEX transfers_taken ON transfers (debit, at_ms) WHERE kind NOT IN
  ('hold', 'capture', 'release', 'refund', 'proven', 'shortfall', 'given_up', 'taken_back', 'repaid');
