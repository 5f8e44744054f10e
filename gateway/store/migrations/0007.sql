-- Whether a payment rests on an EIP-2612 permit, which sets its payer's allowance: one at a time may be open.

ALTER TABLE payments ADD COLUMN by_permit INTEGER NOT NULL DEFAULT 0 CHECK (by_permit IN (0, 1));

CREATE TRIGGER payments_spent_keep_by_permit BEFORE UPDATE OF by_permit ON payments WHEN OLD.state = 'spent'
BEGIN SELECT RAISE(ABORT, 'a spent payment stays as it is'); END;
