-- The same moves, in comparisons alone: a list of pairs is a table that SQLite makes anew for every row that moves.

DROP TRIGGER charges_move_forward;
CREATE TRIGGER charges_move_forward BEFORE UPDATE OF state ON charges
WHEN NEW.state <> OLD.state AND NOT (
  (OLD.state = 'held' AND NEW.state IN ('captured', 'released'))
  OR (OLD.state = 'captured' AND NEW.state IN ('settled', 'unpaid'))
  OR (NEW.state = 'refunded' AND OLD.state IN ('captured', 'settled'))
)
BEGIN SELECT RAISE(ABORT, 'charges move only forward'); END;

DROP TRIGGER settlements_move;
CREATE TRIGGER settlements_move BEFORE UPDATE OF state ON settlements
WHEN NEW.state <> OLD.state AND NOT (
  (OLD.state = 'queued' AND NEW.state <> 'queued')
  OR (OLD.state = 'sent' AND NEW.state <> 'sent')
  OR (OLD.state = 'proven' AND NEW.state = 'queued')
)
BEGIN SELECT RAISE(ABORT, 'a settlement has no such move'); END;
