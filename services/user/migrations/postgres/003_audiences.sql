-- An IANA time zone.
ALTER TABLE users ADD COLUMN timezone TEXT;
-- What the tenant says of the user: a JSON object; null: nothing.
ALTER TABLE users ADD COLUMN attributes TEXT;

-- The name that the device's app chose; unique among the user's devices.
ALTER TABLE devices ADD COLUMN name TEXT;
-- browser, app, phone, email, webhook or room.
ALTER TABLE devices ADD COLUMN kind TEXT NOT NULL DEFAULT 'phone';
ALTER TABLE devices ADD COLUMN platform TEXT;
ALTER TABLE devices ADD COLUMN locale TEXT;
ALTER TABLE devices ADD COLUMN app_version TEXT;
-- When it was registered, changed or retired last.
ALTER TABLE devices ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE devices SET updated_at = created_at, kind = CASE channel WHEN 'email' THEN 'email' WHEN 'webhook' THEN 'webhook'
 WHEN 'webpush' THEN 'browser' WHEN 'apns' THEN 'app' WHEN 'fcm' THEN 'app' WHEN 'matrix' THEN 'room' ELSE 'phone' END;
-- The inbox reaches browsers and apps without an address.
ALTER TABLE devices ALTER COLUMN channel DROP NOT NULL;
ALTER TABLE devices ALTER COLUMN address DROP NOT NULL;

CREATE UNIQUE INDEX devices_name ON devices (tenant, user_id, name) WHERE name IS NOT NULL;

-- Who is in front of which device. Written by heartbeats, and only for users who exist.
CREATE TABLE activity (
    tenant       TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    -- A device's id, or the name that its app chose.
    device       TEXT    NOT NULL,
    -- When the latest heartbeat came, and until when it counts: then at once when it said that nobody looks.
    at           BIGINT NOT NULL,
    active_until BIGINT NOT NULL,
    PRIMARY KEY (tenant, user_id, device)
);

CREATE INDEX activity_over ON activity (active_until);

-- Who is subscribed to a topic for good, connected or not. Written only under the lock of the user's row, so that an
-- erasure misses none.
CREATE TABLE topic_subscriptions (
    tenant     TEXT    NOT NULL,
    topic      TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, topic, user_id)
);

CREATE UNIQUE INDEX topic_subscriptions_user ON topic_subscriptions (tenant, user_id, topic);

-- Saved filters over users.
CREATE TABLE segments (
    tenant     TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    title      TEXT,
    -- JSON.
    filter     TEXT    NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);
