-- Times are microseconds since the Unix epoch. Secrets stand here only as SHA-256 or wrapped by the master key.

CREATE TABLE tenants (
    tenant     TEXT    NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    tenant       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    digest       BLOB    NOT NULL,
    scopes       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_revoked ON api_keys (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE signing_keys (
    tenant      TEXT    NOT NULL,
    generation  INTEGER NOT NULL,
    kid         TEXT    NOT NULL,
    public      BLOB    NOT NULL,
    wrapped     BLOB    NOT NULL,
    master_key  TEXT    NOT NULL,
    active_from INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant, generation)
) STRICT, WITHOUT ROWID;

CREATE INDEX signing_keys_master ON signing_keys (master_key);

CREATE TABLE tickets (
    tenant            TEXT    NOT NULL,
    digest            BLOB    NOT NULL,
    user_id           TEXT    NOT NULL,
    session           TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    expires_at        INTEGER NOT NULL,
    cookie_expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX tickets_user ON tickets (tenant, user_id, created_at);
CREATE INDEX tickets_expiry ON tickets (expires_at);

CREATE TABLE stream_cookies (
    tenant     TEXT    NOT NULL,
    digest     BLOB    NOT NULL,
    user_id    TEXT    NOT NULL,
    session    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX stream_cookies_user ON stream_cookies (tenant, user_id, created_at);
CREATE INDEX stream_cookies_expiry ON stream_cookies (expires_at);

-- What is revoked is named by a digest: neither a user's id nor a token's stands here.
CREATE TABLE revocations (
    tenant      TEXT    NOT NULL,
    digest      BLOB    NOT NULL,
    revoked_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX revocations_recorded ON revocations (recorded_at);
CREATE INDEX revocations_expiry ON revocations (expires_at);

-- Which erasures were carried out: a second call must not revoke what a person of the same name was given since.
CREATE TABLE erasures (
    tenant     TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    erased_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX erasures_expiry ON erasures (expires_at);
