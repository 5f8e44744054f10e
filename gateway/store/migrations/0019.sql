-- Tokens and usage keys that are over: looked for among those that are not, and forgotten when nothing refers to them.
-- Whoever rotates and revokes all day must not make himself, and all others, slower with each time.

DROP INDEX usage_keys_of_agent;
CREATE INDEX usage_keys_of_agent ON usage_keys (agent_id, id) WHERE revoked_ms IS NULL;
CREATE INDEX usage_keys_revoked ON usage_keys (agent_id, revoked_ms) WHERE revoked_ms IS NOT NULL;
CREATE INDEX usage_keys_over ON usage_keys (revoked_ms) WHERE revoked_ms IS NOT NULL;
DROP INDEX tokens_of_agent;
CREATE INDEX tokens_of_agent ON tokens (agent_id) WHERE revoked_ms IS NULL;
CREATE INDEX tokens_over ON tokens (revoked_ms) WHERE revoked_ms IS NOT NULL;
CREATE INDEX charges_of_key ON charges (key_id) WHERE key_id IS NOT NULL; -- whether anything refers to a key

DROP TRIGGER tokens_stay;
CREATE TRIGGER tokens_stay BEFORE DELETE ON tokens WHEN OLD.revoked_ms IS NULL
BEGIN SELECT RAISE(ABORT, 'tokens stay: revoke it'); END;
DROP TRIGGER usage_keys_stay;
CREATE TRIGGER usage_keys_stay BEFORE DELETE ON usage_keys WHEN OLD.revoked_ms IS NULL
BEGIN SELECT RAISE(ABORT, 'usage keys stay: revoke it'); END;
