-- The plan as the request names it, JSON; from the first planning on the one that is climbed.
ALTER TABLE notifications ADD COLUMN plan TEXT;
-- Whether it passes preferences, quiet hours, holds and caps; 1 when the request says so by a key that may.
ALTER TABLE notifications ADD COLUMN critical INTEGER NOT NULL DEFAULT 0;
-- Who answered for all, where one answer is enough: {"user", "acknowledgement"}, JSON.
ALTER TABLE notifications ADD COLUMN answered TEXT;
-- When every recipient had ended, or its time to live had.
ALTER TABLE notifications ADD COLUMN closed_at INTEGER;
-- Whose time to live ends next.
CREATE INDEX notifications_closing ON notifications (expires_at) WHERE state = 'planned' AND closed_at IS NULL;

-- Further states of a recipient: completed, skipped, dead. An open one is climbing, held or scheduled.
ALTER TABLE recipients ADD COLUMN phase TEXT;
-- The step of the plan that it stands in, from 0, and since when; null before the first.
ALTER TABLE recipients ADD COLUMN step INTEGER;
ALTER TABLE recipients ADD COLUMN step_at INTEGER;
-- 1 once it took its place in the frequency caps.
ALTER TABLE recipients ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;

-- Whom an end of all still concerns, whatever the number of those who ended.
CREATE INDEX recipients_open ON recipients (tenant, notification, user_id) WHERE state = 'open';

-- What is due of open recipients: the end of a step or of a hold. Without a row only an answer or the end of the time
-- to live moves a recipient.
CREATE TABLE climbs (
    tenant TEXT NOT NULL,
    notification TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- When to look (again): a deadline, a hold's end, or the end of the lease.
    due_at INTEGER NOT NULL,
    -- How often it was handed out; the last number is the lease's token.
    lease INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, notification, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX climbs_due ON climbs (due_at);
CREATE INDEX climbs_user ON climbs (tenant, user_id);

-- What was decided about a recipient beside plainly sending, in its order.
CREATE TABLE decisions (
    tenant TEXT NOT NULL,
    notification TEXT NOT NULL,
    user_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    -- held, released, passed, escalated, skipped, recalled, digested, ended, and so on
    kind TEXT NOT NULL,
    step INTEGER,
    -- JSON: the typed reason and what belongs to it.
    body TEXT NOT NULL,
    PRIMARY KEY (tenant, notification, user_id, number)
) STRICT, WITHOUT ROWID;

-- Notifications that end for all of their recipients, page by page.
CREATE TABLE withdrawals (
    tenant TEXT NOT NULL,
    notification TEXT NOT NULL,
    -- cancelled, answered, expired
    kind TEXT NOT NULL,
    -- Recipients up to this one are done.
    cursor TEXT NOT NULL,
    -- Channels that could take things back when it began, JSON.
    recallable TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- When the next page may be taken: now, or the end of a lease.
    due_at INTEGER NOT NULL,
    lease INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, notification)
) STRICT, WITHOUT ROWID;
CREATE INDEX withdrawals_due ON withdrawals (due_at);

-- Notifications that are planned page by page, and how far they are.
CREATE TABLE broadcasts (
    tenant TEXT NOT NULL,
    notification TEXT NOT NULL,
    -- running, done, cancelled, expired
    state TEXT NOT NULL,
    -- Users and subscriptions from then on are out.
    started_at INTEGER NOT NULL,
    -- Users up to this one are planned.
    cursor TEXT,
    planned INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, notification)
) STRICT, WITHOUT ROWID;

-- What users chose. An empty category or channel stands for all.
CREATE TABLE preferences (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    category TEXT NOT NULL,
    channel TEXT NOT NULL,
    -- 1, 0, or null where only the digest is chosen.
    enabled INTEGER,
    -- The name of one of the category's periods, or `immediate`.
    digest TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id, category, channel)
) STRICT, WITHOUT ROWID;

-- What users chose beside that: quiet hours, JSON.
CREATE TABLE user_policies (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    body TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id)
) STRICT, WITHOUT ROWID;

-- In whose time zone the recipient's quiet hours put off a first attempt; null where none may.
ALTER TABLE delivery_queue ADD COLUMN zone TEXT;

-- What holds for all of a tenant's users: time zone, caps, throttles, defaults, JSON.
CREATE TABLE tenant_policies (
    tenant TEXT NOT NULL,
    body TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant)
) STRICT, WITHOUT ROWID;

-- What counts against frequency caps: one per user and notification, from its first alert.
CREATE TABLE alerts (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    notification TEXT NOT NULL,
    category TEXT NOT NULL,
    PRIMARY KEY (tenant, user_id, at, notification)
) STRICT, WITHOUT ROWID;
CREATE INDEX alerts_age ON alerts (at);

-- Whether it may be turned off, its plan, digests, throttle, whether it is critical, JSON.
ALTER TABLE categories ADD COLUMN policy TEXT;
-- 1 where its users cannot turn it off.
ALTER TABLE categories ADD COLUMN mandatory INTEGER NOT NULL DEFAULT 0;
