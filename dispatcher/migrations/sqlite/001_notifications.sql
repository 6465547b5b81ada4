-- What belongs to the store as a whole has the tenant ''.
CREATE TABLE meta (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE notifications (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    -- accepted, planned, cancelled, expired
    state TEXT NOT NULL,
    category TEXT NOT NULL,
    priority TEXT NOT NULL,
    collapse_key TEXT,
    content TEXT NOT NULL,
    targets TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    send_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- When it left the state accepted.
    ended_at INTEGER,
    -- Where its topic targets were published: [{"topic", "position"}].
    topics TEXT,
    PRIMARY KEY (tenant, id)
) STRICT;
-- Small, since nearly everything is planned: lists by state, erasure, and the count of what waits.
CREATE INDEX notifications_unplanned ON notifications (tenant, state, id) WHERE state <> 'planned';

-- Lives from acceptance until the notification is planned, expired or cancelled.
CREATE TABLE outbox (
    tenant TEXT NOT NULL,
    notification TEXT NOT NULL,
    -- When it may be handed out (again): send_at at first, the end of the lease afterwards.
    due_at INTEGER NOT NULL,
    -- How often it was handed out; the last number is the lease's token.
    lease INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, notification)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_due ON outbox (due_at);

CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    route TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, route, key)
) STRICT;
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE recipients (
    tenant TEXT NOT NULL,
    notification TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- open, acknowledged, superseded, cancelled, expired, erased
    state TEXT NOT NULL,
    reason TEXT,
    entry TEXT,
    -- The change in the mailbox log that brought it.
    seq INTEGER,
    acknowledgement TEXT,
    PRIMARY KEY (tenant, notification, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX recipients_user ON recipients (tenant, user_id, notification);

CREATE TABLE deliveries (
    tenant TEXT NOT NULL,
    notification TEXT NOT NULL,
    user_id TEXT NOT NULL,
    step INTEGER NOT NULL,
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, notification, user_id, step, channel, address)
) STRICT, WITHOUT ROWID;

-- The first receipt of each kind; `delivered` comes from confirmations.
CREATE TABLE receipts (
    tenant TEXT NOT NULL,
    notification TEXT NOT NULL,
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    device TEXT,
    PRIMARY KEY (tenant, notification, user_id, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE mailboxes (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    epoch TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    -- Changes up to this one are no longer in the log.
    floor_seq INTEGER NOT NULL,
    total INTEGER NOT NULL,
    unread INTEGER NOT NULL,
    unseen INTEGER NOT NULL,
    -- No change in the log is older; null when the log is empty.
    oldest_at INTEGER,
    PRIMARY KEY (tenant, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX mailboxes_oldest ON mailboxes (oldest_at) WHERE oldest_at IS NOT NULL;

CREATE TABLE mailbox_log (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id, seq)
) STRICT;

CREATE TABLE entries (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    id TEXT NOT NULL,
    notification TEXT NOT NULL,
    category TEXT NOT NULL,
    collapse_key TEXT,
    priority TEXT NOT NULL,
    content TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    -- When the notification that it shows arrived.
    arrived_at INTEGER NOT NULL,
    seen_at INTEGER,
    read_at INTEGER,
    archived_at INTEGER,
    snoozed_until INTEGER,
    acknowledgement TEXT,
    -- The change that added or replaced it: newest first is by this.
    seq INTEGER NOT NULL,
    -- Deleted or recalled; the row stays a while, so that late acknowledgements find it.
    gone_at INTEGER,
    PRIMARY KEY (tenant, user_id, id)
) STRICT;
CREATE UNIQUE INDEX entries_newest ON entries (tenant, user_id, seq);
CREATE UNIQUE INDEX entries_open ON entries (tenant, user_id, category, collapse_key)
    WHERE collapse_key IS NOT NULL AND archived_at IS NULL AND gone_at IS NULL;
CREATE INDEX entries_snoozed ON entries (snoozed_until) WHERE snoozed_until IS NOT NULL;
CREATE INDEX entries_age ON entries (arrived_at) WHERE gone_at IS NULL;
CREATE INDEX entries_gone ON entries (gone_at) WHERE gone_at IS NOT NULL;

-- How far each device confirmed receipt, and when it first had confirmed that much.
CREATE TABLE confirmations (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    device TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id, device, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX confirmations_age ON confirmations (at);

CREATE TABLE topics (
    tenant TEXT NOT NULL,
    topic TEXT NOT NULL,
    epoch TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    floor_seq INTEGER NOT NULL,
    oldest_at INTEGER,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, topic)
) STRICT, WITHOUT ROWID;
CREATE INDEX topics_oldest ON topics (oldest_at) WHERE oldest_at IS NOT NULL;
CREATE INDEX topics_idle ON topics (used_at) WHERE oldest_at IS NULL;

CREATE TABLE topic_log (
    tenant TEXT NOT NULL,
    topic TEXT NOT NULL,
    seq INTEGER NOT NULL,
    data TEXT NOT NULL,
    publisher TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant, topic, seq)
) STRICT;

-- Internal ids of erased users, which name nobody: what was under way when they were erased must not bring them back.
CREATE TABLE erased (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX erased_age ON erased (at);
