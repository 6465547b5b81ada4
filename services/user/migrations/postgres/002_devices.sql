-- BCP 47, in its canonical case.
ALTER TABLE users ADD COLUMN locale TEXT;

-- Addresses of users. Written only under the lock of the user's row, so that an erasure misses none.
CREATE TABLE devices (
    tenant          TEXT    NOT NULL,
    user_id         TEXT    NOT NULL,
    id              TEXT    NOT NULL,
    channel         TEXT    NOT NULL,
    -- In the channel's canonical spelling.
    address         TEXT    NOT NULL,
    label           TEXT,
    verified        BIGINT NOT NULL,
    -- Why it was retired, and when; null: it is in use.
    reason          TEXT,
    retired_at      BIGINT,
    created_at      BIGINT NOT NULL,
    -- The code that would verify it, as a tag under the master key; null: none was sent, or it is over.
    code            BYTEA,
    code_expires_at BIGINT,
    -- How often the code was answered.
    tries           BIGINT NOT NULL DEFAULT 0,
    -- When the last code was sent; how many were since `codes_since`.
    code_sent_at    BIGINT,
    codes           BIGINT NOT NULL DEFAULT 0,
    codes_since     BIGINT,
    PRIMARY KEY (tenant, user_id, id)
);

CREATE UNIQUE INDEX devices_address ON devices (tenant, channel, address, user_id);
CREATE INDEX devices_retired ON devices (retired_at) WHERE retired_at IS NOT NULL;
CREATE INDEX devices_codes ON devices (code_expires_at) WHERE code IS NOT NULL;
