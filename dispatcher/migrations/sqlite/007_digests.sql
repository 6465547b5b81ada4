-- Digests that are open: one of a user, category, channel, period and key (empty without one) at a time.
CREATE TABLE digests (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    category TEXT NOT NULL,
    channel TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    -- When its first and its latest member joined.
    opened_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    closes_at INTEGER NOT NULL,
    -- When it closes at the latest, since one of its members lives no longer.
    closes_by INTEGER NOT NULL,
    -- When somebody is to close it: when it closes, or once the last one to whom it was handed out must have done so.
    due_at INTEGER NOT NULL,
    lease INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, user_id, category, channel, name, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX digests_due ON digests (due_at);
-- Tenants have their turn.
CREATE INDEX digests_turn ON digests (tenant, due_at);

-- Deliveries that wait in them. One that ended otherwise meanwhile stays until its digest closes, and is passed over.
CREATE TABLE digest_members (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    category TEXT NOT NULL,
    channel TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    notification TEXT NOT NULL,
    delivery TEXT NOT NULL,
    PRIMARY KEY (tenant, user_id, category, channel, name, key, notification, delivery)
) STRICT, WITHOUT ROWID;

-- Further states of a delivery: gathered while it waits in a digest, digested when it went out with one; then the digest's
-- notification stands here.
ALTER TABLE deliveries ADD COLUMN digest TEXT;
CREATE INDEX deliveries_digest ON deliveries (tenant, digest) WHERE digest IS NOT NULL;

-- The period's name, where the notification is a digest itself: it joins no other.
ALTER TABLE notifications ADD COLUMN digest TEXT;
-- What its alerts are bundled by, where they wait for digests.
ALTER TABLE notifications ADD COLUMN digest_key TEXT;

-- 1 where the entry was written while the recipient's alerts were held or turned off.
ALTER TABLE entries ADD COLUMN silent INTEGER NOT NULL DEFAULT 0;
