-- Which channels the request names, JSON; null leaves the choice to the category.
ALTER TABLE notifications ADD COLUMN channels TEXT;
-- The template it is rendered from, its version at acceptance, and the request's data, JSON. `content` holds what the
-- default locale gives.
ALTER TABLE notifications ADD COLUMN template TEXT;
ALTER TABLE notifications ADD COLUMN template_version BIGINT;
ALTER TABLE notifications ADD COLUMN data TEXT;
-- Which versions are still needed.
CREATE INDEX notifications_template ON notifications (tenant, template, template_version) WHERE template IS NOT NULL;

-- A plain address is a recipient of its own, without an inbox: where it is.
ALTER TABLE recipients ADD COLUMN channel TEXT;
ALTER TABLE recipients ADD COLUMN address TEXT;

-- States of a delivery outside the inbox: pending, accepted, delivered, recalled, dead, skipped, cancelled, superseded.
-- One of an event has the event's id in `notification`, no user, and the endpoint's id as its address.
ALTER TABLE deliveries ADD COLUMN device TEXT;
ALTER TABLE deliveries ADD COLUMN lane TEXT;
ALTER TABLE deliveries ADD COLUMN locale TEXT;
ALTER TABLE deliveries ADD COLUMN expires_at BIGINT;
ALTER TABLE deliveries ADD COLUMN attempts BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN provider_id TEXT;
-- Its notification's category and collapse key, until a newer one takes its place.
ALTER TABLE deliveries ADD COLUMN collapse TEXT;
-- The last outcome's word; `reason` says why.
ALTER TABLE deliveries ADD COLUMN outcome TEXT;
ALTER TABLE deliveries ADD COLUMN ended_at BIGINT;
-- When a redrive or a resend last made it pending: its time to live counts from there.
ALTER TABLE deliveries ADD COLUMN revived_at BIGINT;
-- The tenant's own id of the user, so that events name him; null of an event and of a plain address.
ALTER TABLE deliveries ADD COLUMN name TEXT;
-- What the far end told, JSON: the first of each kind.
ALTER TABLE deliveries ADD COLUMN receipts TEXT;
-- What the far end told before the attempt's own outcome was written: delivered, or why it failed.
ALTER TABLE deliveries ADD COLUMN news TEXT;
CREATE UNIQUE INDEX deliveries_outside ON deliveries (tenant, id) WHERE channel <> 'in_app';
-- What an endpoint was told, newest first.
CREATE INDEX deliveries_endpoint ON deliveries (tenant, address, id) WHERE channel = 'webhook';
-- What the far end calls it: news from there may name nothing else.
CREATE INDEX deliveries_provider ON deliveries (tenant, channel, provider_id) WHERE provider_id IS NOT NULL;
-- A bounce names no tenant: one relay sends for all.
CREATE INDEX deliveries_email ON deliveries (id) WHERE channel = 'email';
CREATE INDEX deliveries_collapse ON deliveries (tenant, user_id, collapse) WHERE collapse IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (tenant, id) WHERE state = 'dead';
-- Small: what waits has a row in `delivery_queue`, and the tally says so.
CREATE INDEX deliveries_pending ON deliveries (tenant, id) WHERE state = 'pending';

-- Open work outside the inbox: a row lives from planning until its delivery ends, and again for a redrive or a recall.
CREATE TABLE delivery_queue (
    tenant TEXT NOT NULL,
    delivery TEXT NOT NULL,
    channel TEXT NOT NULL,
    -- What fails together: a provider, or an endpoint's host.
    lane TEXT NOT NULL,
    -- What must stay in order within the lane: an endpoint that asks for it; else empty.
    strand TEXT NOT NULL,
    -- The order within a strand; a redrive goes last.
    ord BIGINT NOT NULL,
    -- deliver, replace, recall
    operation TEXT NOT NULL,
    -- When it may be handed out (again): the next attempt, or the end of the lease.
    due_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- How often it was handed out; the last number is the lease's token.
    lease BIGINT NOT NULL DEFAULT 0,
    -- Attempts made before this row: their numbers go on, the waits between them begin anew.
    earlier BIGINT NOT NULL DEFAULT 0,
    -- The state that a resend came from, which stands should it not arrive; null for everything else.
    stands TEXT,
    PRIMARY KEY (tenant, delivery)
);
CREATE INDEX delivery_queue_due ON delivery_queue (tenant, channel, lane, strand, due_at);
CREATE INDEX delivery_queue_order ON delivery_queue (tenant, channel, lane, strand, ord) WHERE strand <> '';
-- The same in whatever lane it is: an endpoint that moved leaves some behind for a while.
CREATE INDEX delivery_queue_strand ON delivery_queue (tenant, channel, strand, ord) WHERE strand <> '';
CREATE INDEX delivery_queue_expiry ON delivery_queue (expires_at);

-- Lanes with open work, so that handing out costs by the lane and not by the backlog.
CREATE TABLE lanes (
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    lane TEXT NOT NULL,
    strand TEXT NOT NULL,
    -- Nothing in it is due earlier.
    due_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, channel, lane, strand)
);
CREATE INDEX lanes_due ON lanes (channel, due_at);

CREATE TABLE attempts (
    tenant TEXT NOT NULL,
    delivery TEXT NOT NULL,
    number BIGINT NOT NULL,
    operation TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    -- delivered, accepted, retry, gone, rejected, skipped; null while it runs, lost when its process ended first.
    outcome TEXT,
    status BIGINT,
    reason TEXT,
    excerpt TEXT,
    -- When the next one follows.
    next_at BIGINT,
    PRIMARY KEY (tenant, delivery, number)
);
-- Small: what runs.
CREATE INDEX attempts_running ON attempts (tenant, delivery) WHERE outcome IS NULL;

CREATE TABLE categories (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    title TEXT,
    -- JSON list.
    channels TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE templates (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The newest; null once the template was deleted: what was accepted before still renders.
    version BIGINT,
    last_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);
CREATE INDEX templates_deleted ON templates (updated_at) WHERE version IS NULL;

CREATE TABLE template_versions (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    default_locale TEXT NOT NULL,
    -- JSON: locale to forms.
    locales TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, name, version)
);

-- What happened, as webhook endpoints are told it; written only where an endpoint asked for its kind.
CREATE TABLE events (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX events_age ON events (at);

CREATE TABLE endpoints (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    -- Whose address it is; empty for the tenant's own.
    user_id TEXT NOT NULL,
    url TEXT NOT NULL,
    lane TEXT NOT NULL,
    -- JSON list of event kinds, `*` at the end of one stands for the rest.
    events TEXT NOT NULL,
    fifo BIGINT NOT NULL,
    description TEXT,
    -- enabled, disabled; deleted until what waits for it is a dead letter
    state TEXT NOT NULL,
    reason TEXT,
    -- Since when nothing but failures came back; null after a success.
    failing_since BIGINT,
    -- The last failure, to the hour.
    failed_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX endpoints_user ON endpoints (tenant, user_id, id);
CREATE INDEX endpoints_closed ON endpoints (tenant, id) WHERE state <> 'enabled';

-- Signing secrets, sealed. Those of the endpoint '' are the tenant's own and sign for plain URLs.
CREATE TABLE endpoint_secrets (
    tenant TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    id TEXT NOT NULL,
    -- hmac, ed25519
    kind TEXT NOT NULL,
    -- The half of an ed25519 key that receivers check with.
    public_key TEXT,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- When a rotated one stops signing.
    expires_at BIGINT,
    PRIMARY KEY (tenant, endpoint, id)
);

CREATE TABLE suppressions (
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    -- bounced, complained, gone, manual
    reason TEXT NOT NULL,
    detail TEXT,
    delivery TEXT,
    at BIGINT NOT NULL,
    PRIMARY KEY (tenant, channel, address)
);

-- Tools whose events become notifications.
CREATE TABLE sources (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    -- alertmanager, grafana, github, json
    kind TEXT NOT NULL,
    -- JSON: the mapping and the targets.
    settings TEXT NOT NULL,
    -- What its signature or token is checked with, sealed.
    sealed TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE redrives (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    -- JSON: which dead letters.
    filter TEXT NOT NULL,
    -- running, done
    state TEXT NOT NULL,
    -- Dead letters up to this one are done.
    cursor TEXT,
    total BIGINT NOT NULL,
    done BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX redrives_running ON redrives (updated_at) WHERE state = 'running';

-- Channels that workers bring; the tenant '' has those that serve all tenants.
CREATE TABLE remote_channels (
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- JSON.
    capabilities TEXT NOT NULL,
    -- JSON list of the forms that the worker wants; null for all.
    forms TEXT,
    -- When a worker last asked for work, about.
    seen_at BIGINT,
    announced_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, kind)
);
