-- Wallets that have signed in: how each has proved itself, what it was granted, and what it has stated to spend.

-- What seals the nonces of sign-in messages (gateway/core/siwe.py). It opens nothing by itself: whoever knows it can
-- make nonces, and a nonce is worth nothing without the wallet's signature.
CREATE TABLE nonce_key (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  key BLOB NOT NULL CHECK (length(key) = 32)
) STRICT;
CREATE TRIGGER nonce_key_keeps BEFORE UPDATE ON nonce_key
BEGIN SELECT RAISE(ABORT, 'the key that nonces are sealed with stays'); END;

-- A nonce that was used, written with what it was used for. Swept some time after it has expired anyway.
CREATE TABLE used_nonces (
  nonce TEXT PRIMARY KEY,
  expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX used_nonces_by_expiry ON used_nonces (expires_ms);
CREATE TRIGGER used_nonces_keep BEFORE UPDATE ON used_nonces
BEGIN SELECT RAISE(ABORT, 'a used nonce stays used'); END;

-- How a wallet was proved, and on which chain: a contract's address may have another owner on another chain. It was
-- granted something, or it is said why not; what was granted is a credit like any other.
CREATE TABLE registrations (
  address TEXT PRIMARY KEY REFERENCES wallets (address),
  network TEXT NOT NULL,
  contract INTEGER NOT NULL CHECK (contract IN (0, 1)),
  granted_micros INTEGER NOT NULL CHECK (granted_micros BETWEEN 0 AND 1000000000000000),
  credit_id TEXT UNIQUE REFERENCES credits (id),
  withheld TEXT CHECK (withheld IN ('off', 'budget_spent', 'shared_funds', 'unknown_funds', 'linked')),
  at_ms INTEGER NOT NULL,
  CHECK ((granted_micros = 0) = (credit_id IS NULL)),
  CHECK ((granted_micros = 0) = (withheld IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX registrations_granted ON registrations (at_ms, granted_micros) WHERE granted_micros > 0;

CREATE TRIGGER registrations_stay BEFORE DELETE ON registrations
BEGIN SELECT RAISE(ABORT, 'registrations are history'); END;
CREATE TRIGGER registrations_are_history BEFORE UPDATE ON registrations
BEGIN SELECT RAISE(ABORT, 'registrations are history'); END;

-- What a wallet has stated to spend by x402 at most, and what was drawn of it since: everything signed for charges that
-- are open or were captured. A hold draws (gateway/store/charges.py: a trigger there would slow down every hold, from
-- balance too), the trigger gives back what an end leaves over; the CHECK makes drawing more than was stated impossible.
-- Stated anew, it begins anew: charges from before count for what was stated then.
CREATE TABLE allowances (
  address TEXT PRIMARY KEY REFERENCES wallets (address),
  limit_micros INTEGER NOT NULL CHECK (limit_micros BETWEEN 1 AND 1000000000000000),
  drawn_micros INTEGER NOT NULL CHECK (drawn_micros BETWEEN 0 AND limit_micros),
  signature BLOB NOT NULL,
  nonce TEXT NOT NULL,
  since_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER allowances_stay BEFORE DELETE ON allowances
BEGIN SELECT RAISE(ABORT, 'an allowance is stated anew, not dropped'); END;
CREATE TRIGGER allowances_of_ended_charges AFTER UPDATE OF state ON charges
WHEN NEW.source = 'signature' AND NEW.state <> OLD.state AND NEW.state IN ('captured', 'released', 'unpaid')
BEGIN
  UPDATE allowances SET drawn_micros = drawn_micros
      - CASE OLD.state WHEN 'held' THEN OLD.held_micros ELSE OLD.captured_micros END
      + CASE NEW.state WHEN 'captured' THEN NEW.captured_micros ELSE 0 END
    WHERE address = NEW.payer AND since_ms < NEW.created_ms;
END;
