-- How far the logs of a chain were searched for transfers to the address that deposits are sent to.

CREATE TABLE deposit_cursors (
  network TEXT NOT NULL,
  address TEXT NOT NULL,
  next_block INTEGER NOT NULL CHECK (next_block >= 0),
  at_ms INTEGER NOT NULL,
  PRIMARY KEY (network, address)
) STRICT, WITHOUT ROWID;
