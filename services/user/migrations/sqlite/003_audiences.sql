-- An IANA time zone.
ALTER TABLE users ADD COLUMN timezone TEXT;
-- What the tenant says of the user: a JSON object; null: nothing.
ALTER TABLE users ADD COLUMN attributes TEXT;

-- The inbox reaches browsers and apps without an address, so channel and address may be null: a new table.
CREATE TABLE devices_anew (
    tenant          TEXT    NOT NULL,
    user_id         TEXT    NOT NULL,
    id              TEXT    NOT NULL,
    channel         TEXT,
    -- In the channel's canonical spelling.
    address         TEXT,
    label           TEXT,
    verified        INTEGER NOT NULL,
    -- Why it was retired, and when; null: it is in use.
    reason          TEXT,
    retired_at      INTEGER,
    created_at      INTEGER NOT NULL,
    -- The code that would verify it, as a tag under the master key; null: none was sent, or it is over.
    code            BLOB,
    code_expires_at INTEGER,
    -- How often the code was answered.
    tries           INTEGER NOT NULL DEFAULT 0,
    -- When the last code was sent; how many were since `codes_since`.
    code_sent_at    INTEGER,
    codes           INTEGER NOT NULL DEFAULT 0,
    codes_since     INTEGER,
    -- The name that the device's app chose; unique among the user's devices.
    name            TEXT,
    -- browser, app, phone, email, webhook or room.
    kind            TEXT    NOT NULL,
    platform        TEXT,
    locale          TEXT,
    app_version     TEXT,
    -- When it was registered, changed or retired last.
    updated_at      INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id, id)
) STRICT;

INSERT INTO devices_anew (tenant, user_id, id, channel, address, label, verified, reason, retired_at, created_at, code,
  code_expires_at, tries, code_sent_at, codes, codes_since, kind, updated_at)
 SELECT tenant, user_id, id, channel, address, label, verified, reason, retired_at, created_at, code,
  code_expires_at, tries, code_sent_at, codes, codes_since,
  CASE channel WHEN 'email' THEN 'email' WHEN 'webhook' THEN 'webhook' WHEN 'webpush' THEN 'browser'
   WHEN 'apns' THEN 'app' WHEN 'fcm' THEN 'app' WHEN 'matrix' THEN 'room' ELSE 'phone' END,
  created_at FROM devices;
DROP TABLE devices;
ALTER TABLE devices_anew RENAME TO devices;

CREATE UNIQUE INDEX devices_address ON devices (tenant, channel, address, user_id);
CREATE INDEX devices_retired ON devices (retired_at) WHERE retired_at IS NOT NULL;
CREATE INDEX devices_codes ON devices (code_expires_at) WHERE code IS NOT NULL;

CREATE UNIQUE INDEX devices_name ON devices (tenant, user_id, name) WHERE name IS NOT NULL;

-- Who is in front of which device. Written by heartbeats, and only for users who exist.
CREATE TABLE activity (
    tenant       TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    -- A device's id, or the name that its app chose.
    device       TEXT    NOT NULL,
    -- When the latest heartbeat came, and until when it counts: then at once when it said that nobody looks.
    at           INTEGER NOT NULL,
    active_until INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id, device)
) STRICT, WITHOUT ROWID;

CREATE INDEX activity_over ON activity (active_until);

-- Who is subscribed to a topic for good, connected or not. Written only under the lock of the user's row, so that an
-- erasure misses none.
CREATE TABLE topic_subscriptions (
    tenant     TEXT    NOT NULL,
    topic      TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, topic, user_id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX topic_subscriptions_user ON topic_subscriptions (tenant, user_id, topic);

-- Saved filters over users.
CREATE TABLE segments (
    tenant     TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    title      TEXT,
    -- JSON.
    filter     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
