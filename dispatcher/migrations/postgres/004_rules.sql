-- Domain events as they came in (CloudEvents 1.0). The row is also what makes a repeat one: as long as it is kept.
CREATE TABLE domain_events (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    -- The sender's own name for it is source and id together.
    source TEXT NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    -- The event in the JSON format; null once a person was erased whom a rule told of it.
    body TEXT,
    -- waiting, done
    state TEXT NOT NULL,
    -- JSON list: what each rule made of it, as far as it went.
    results TEXT NOT NULL DEFAULT '[]',
    received_at BIGINT NOT NULL,
    done_at BIGINT,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX domain_events_name ON domain_events (tenant, source, event_id);
CREATE INDEX domain_events_type ON domain_events (tenant, type, id);
CREATE INDEX domain_events_age ON domain_events (done_at) WHERE done_at IS NOT NULL;

-- Events that the rules have not seen.
CREATE TABLE domain_event_outbox (
    tenant TEXT NOT NULL,
    event TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    -- How often it was handed out; the last number is the lease's token.
    lease BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, event)
);
CREATE INDEX domain_event_outbox_due ON domain_event_outbox (due_at, event);

-- Which event a notification is from.
CREATE TABLE domain_event_notifications (
    tenant TEXT NOT NULL,
    notification TEXT NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (tenant, notification)
);
CREATE INDEX domain_event_notifications_event ON domain_event_notifications (tenant, event);

CREATE TABLE rules (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The newest; null once the rule is deleted.
    version BIGINT,
    last_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);
CREATE INDEX rules_deleted ON rules (updated_at) WHERE version IS NULL;

CREATE TABLE rule_versions (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- JSON: the rule as it was put.
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, name, version)
);

-- What a rule could not do; the newest hundred of each.
CREATE TABLE rule_errors (
    tenant TEXT NOT NULL,
    rule TEXT NOT NULL,
    event TEXT NOT NULL,
    version BIGINT NOT NULL,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (tenant, rule, event)
);
CREATE INDEX rule_errors_age ON rule_errors (at);
