-- Times are microseconds since the Unix epoch.

CREATE TABLE users (
    tenant     TEXT    NOT NULL,
    external   TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    -- Many at once are asked for by id, in its order: so a page of a broadcast stands in a few pages of the file.
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX users_external ON users (tenant, external);

-- Users who are being erased: the name leads nowhere any more, and goes with the row.
CREATE TABLE erasures (
    tenant       TEXT    NOT NULL,
    user_id      TEXT    NOT NULL,
    external     TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    requested_at INTEGER NOT NULL,
    pass         INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX erasures_due ON erasures (due_at);
CREATE INDEX erasures_external ON erasures (tenant, external);
