-- The very payload of a payment, whatever is asked for today.

CREATE INDEX payments_by_hash ON payments (payment_hash);
