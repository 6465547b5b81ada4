-- Notifications that are sent at a time, or again and again.
CREATE TABLE schedules (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Five fields, on the wall clock of the zone; null where it is sent once.
    cron TEXT,
    zone TEXT,
    -- When it is sent once.
    once_at BIGINT,
    -- The request without its time, JSON.
    notification TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    -- From when on, and until when, both inclusive.
    starts_at BIGINT,
    ends_at BIGINT,
    -- When it is due next; null when it never is. Whoever moves it on sends what was due, in the same transaction.
    next_at BIGINT,
    -- How many of its times went by without being sent, because nobody was there.
    skipped BIGINT NOT NULL DEFAULT 0,
    -- Counts changes: what was prepared from an older one is not sent.
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);
CREATE INDEX schedules_due ON schedules (next_at) WHERE next_at IS NOT NULL;

-- What became of its latest times.
CREATE TABLE schedule_runs (
    tenant TEXT NOT NULL,
    schedule TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    -- Empty, so that each time comes once; of one that somebody asked for its notification.
    id TEXT NOT NULL,
    at BIGINT NOT NULL,
    -- What was sent, or why nothing was.
    notification TEXT,
    error TEXT,
    PRIMARY KEY (tenant, schedule, due_at, id)
);
