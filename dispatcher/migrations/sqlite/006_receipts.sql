-- The first receipt of each kind from each device, over each channel. A device that was not named is the empty one; of
-- what came in from outside the inbox, `deliveries.receipts` says which delivery told it.
CREATE TABLE device_receipts (
    tenant TEXT NOT NULL,
    notification TEXT NOT NULL,
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    device TEXT NOT NULL DEFAULT '',
    channel TEXT NOT NULL DEFAULT 'in_app',
    PRIMARY KEY (tenant, notification, user_id, kind, channel, device)
);
INSERT INTO device_receipts (tenant, notification, user_id, kind, at, device)
    SELECT tenant, notification, user_id, kind, at, COALESCE(device, '') FROM receipts;
DROP TABLE receipts;
ALTER TABLE device_receipts RENAME TO receipts;

-- How well an address has proved to be within reach: what went there, and what came back, both fading with time. An
-- address that never was heard of has no row.
CREATE TABLE reachability (
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    -- Whose it was last.
    user_id TEXT NOT NULL,
    device TEXT,
    -- In millionths: of a probe, and of one that came back, as they count at `at`.
    sent BIGINT NOT NULL,
    came BIGINT NOT NULL,
    at BIGINT NOT NULL,
    -- When something came back last.
    came_at BIGINT,
    PRIMARY KEY (tenant, channel, address)
);
CREATE INDEX reachability_user ON reachability (tenant, user_id, channel, address);
CREATE INDEX reachability_age ON reachability (at);
-- Whether a channel tells at all what arrived.
CREATE INDEX reachability_proved ON reachability (tenant, channel) WHERE came_at IS NOT NULL;

-- How far each tenant's deliveries have been counted into it, by their ids, which go by time.
CREATE TABLE reachability_cursors (
    tenant TEXT NOT NULL,
    delivery TEXT NOT NULL,
    PRIMARY KEY (tenant)
);
