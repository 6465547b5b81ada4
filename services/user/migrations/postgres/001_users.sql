-- Times are microseconds since the Unix epoch.

CREATE TABLE users (
    tenant     TEXT    NOT NULL,
    external   TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, external)
);

CREATE UNIQUE INDEX users_id ON users (tenant, id);

-- Users who are being erased: the name leads nowhere any more, and goes with the row.
CREATE TABLE erasures (
    tenant       TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    external     TEXT    NOT NULL,
    created_at   BIGINT NOT NULL,
    requested_at BIGINT NOT NULL,
    pass         BIGINT NOT NULL,
    attempts     BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    PRIMARY KEY (tenant, user_id)
);

CREATE INDEX erasures_due ON erasures (due_at);
CREATE INDEX erasures_external ON erasures (tenant, external);
