-- What was never paid for, by payer: looked at before another ceiling of his is taken.

CREATE INDEX charges_unpaid ON charges (payer) WHERE state = 'unpaid';
