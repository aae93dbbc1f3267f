-- The audit trail: request_changes, which can be added to and never changed.
--
--     psql "$DATABASE_URL" -f sql/request-changes-audit.sql
--
-- For PostgreSQL 13 to 18. Run it as the role that shall own the table; running it again does no harm and brings an
-- older table up to date. Everything happens in one transaction: after an error nothing has changed.
--
-- Then let the sidecar log in with a role of its own that has no other rights:
--
--     CREATE ROLE sidecar LOGIN PASSWORD '…' IN ROLE sidecar_audit_writer;
--
-- docs/audit.md says what this protects against and what it does not.

BEGIN;
SET LOCAL client_min_messages = warning;

-- ---------------------------------------------------------------------------------------------------------------
-- The table
-- ---------------------------------------------------------------------------------------------------------------

-- Immutable audit trail for request changes
CREATE TABLE IF NOT EXISTS request_changes (
    id UUID PRIMARY KEY,
    request_id UUID NOT NULL,
    change_type VARCHAR(50) NOT NULL,
    previous_value JSONB,
    new_value JSONB NOT NULL,
    changed_by_id UUID NOT NULL,
    changed_by_type VARCHAR(20) NOT NULL,
    correlation_id VARCHAR(100),
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- ok: the upstream answered 2xx; error: it answered otherwise; unknown: nobody knows whether the change took effect.
ALTER TABLE request_changes
    ADD COLUMN IF NOT EXISTS outcome VARCHAR(10) NOT NULL DEFAULT 'ok'
        CONSTRAINT request_changes_outcome CHECK (outcome IN ('ok', 'error', 'unknown'));

-- The hash chain. Triggers fill these in, whatever an INSERT says: rows are numbered without gaps, and each holds
-- the hash of the one before it.
ALTER TABLE request_changes
    ADD COLUMN IF NOT EXISTS seq BIGINT,
    ADD COLUMN IF NOT EXISTS prev_hash BYTEA,
    ADD COLUMN IF NOT EXISTS row_hash BYTEA;

-- Where the chain begins and ends. It begins after base_seq; that is 0 until old rows are retired. It ends with
-- head_seq: without this, removing the last rows would leave a chain that looks whole.
CREATE TABLE IF NOT EXISTS request_changes_chain (
    only_row BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    base_seq BIGINT NOT NULL DEFAULT 0,
    base_hash BYTEA NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    head_seq BIGINT NOT NULL DEFAULT 0,
    head_hash BYTEA NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
);
INSERT INTO request_changes_chain DEFAULT VALUES ON CONFLICT DO NOTHING;

-- ---------------------------------------------------------------------------------------------------------------
-- The hash of a row
-- ---------------------------------------------------------------------------------------------------------------

-- SHA-256 of the canonical form in UTF-8: a version word, then each field as its length in characters, a colon, its
-- text and a comma; NULL is a minus sign and a comma. No two different rows have the same canonical form, whatever
-- their values contain. sidecar/audit/chain.py computes the same; a change here needs a new version word, there and
-- here, and must leave old rows verifiable.
CREATE OR REPLACE FUNCTION request_changes_hash(
    seq BIGINT, prev_hash BYTEA, id UUID, request_id UUID, change_type TEXT, previous_value JSONB, new_value JSONB,
    changed_by_id UUID, changed_by_type TEXT, correlation_id TEXT, created_at TIMESTAMPTZ, outcome TEXT
) RETURNS BYTEA
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    field TEXT;
    form TEXT := 'request_changes/1,';
BEGIN
    FOREACH field IN ARRAY ARRAY[
        seq::TEXT, encode(prev_hash, 'hex'), id::TEXT, request_id::TEXT, change_type, previous_value::TEXT,
        new_value::TEXT, changed_by_id::TEXT, changed_by_type, correlation_id,
        -- Microseconds since the epoch, the same in every time zone; in two steps, as EXTRACT is inexact before
        -- PostgreSQL 14.
        (EXTRACT(EPOCH FROM date_trunc('second', created_at))::BIGINT * 1000000
         + EXTRACT(MICROSECONDS FROM created_at)::BIGINT % 1000000)::TEXT,
        outcome
    ] LOOP
        form := form || COALESCE(char_length(field) || ':' || field, '-') || ',';
    END LOOP;
    RETURN sha256(convert_to(form, 'UTF8'));
END
$$;

-- ---------------------------------------------------------------------------------------------------------------
-- Triggers
-- ---------------------------------------------------------------------------------------------------------------

-- Before each row: put it behind the last one. The lock on request_changes_chain lets one transaction after another
-- add to the chain, so that any number of sidecars share it. Rows that the same statement added before this one are
-- visible here (PostgreSQL manual, "Visibility of Data Changes"); the recorded head is that of the statement before.
-- A row that ON CONFLICT then leaves out takes no number.
CREATE OR REPLACE FUNCTION request_changes_link() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    last_seq BIGINT;
    last_hash BYTEA;
BEGIN
    SELECT head_seq, head_hash INTO STRICT last_seq, last_hash FROM request_changes_chain FOR UPDATE;
    SELECT c.seq, c.row_hash INTO NEW.seq, NEW.prev_hash
        FROM request_changes c WHERE c.seq > last_seq ORDER BY c.seq DESC LIMIT 1;
    NEW.seq := COALESCE(NEW.seq, last_seq) + 1;
    NEW.prev_hash := COALESCE(NEW.prev_hash, last_hash);
    NEW.row_hash := request_changes_hash(
        NEW.seq, NEW.prev_hash, NEW.id, NEW.request_id, NEW.change_type, NEW.previous_value, NEW.new_value,
        NEW.changed_by_id, NEW.changed_by_type, NEW.correlation_id, NEW.created_at, NEW.outcome);
    RETURN NEW;
END
$$;

-- After each statement: record the new end of the chain.
CREATE OR REPLACE FUNCTION request_changes_record_head() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    last_seq BIGINT;
    last_hash BYTEA;
BEGIN
    SELECT c.seq, c.row_hash INTO last_seq, last_hash
        FROM request_changes c WHERE c.seq > (SELECT head_seq FROM request_changes_chain) ORDER BY c.seq DESC LIMIT 1;
    IF FOUND THEN
        UPDATE request_changes_chain SET head_seq = last_seq, head_hash = last_hash;
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION request_changes_refuse() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'request_changes is an immutable audit trail: % is refused', TG_OP
        USING ERRCODE = 'restrict_violation', HINT = 'Record a correction as a new row.';
END
$$;

-- A function with its owner's rights must not find a table that a caller made under the same name.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['request_changes_link()', 'request_changes_record_head()'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END
$$;

-- ---------------------------------------------------------------------------------------------------------------
-- Rows from before there was a chain
-- ---------------------------------------------------------------------------------------------------------------

DO $$
DECLARE
    last request_changes_chain;
    old RECORD;
BEGIN
    IF NOT EXISTS (SELECT FROM request_changes WHERE seq IS NULL) THEN
        RETURN;
    END IF;
    -- Guards that stand already would refuse it; this transaction holds the table until they stand again.
    ALTER TABLE request_changes DISABLE TRIGGER USER;
    SELECT * INTO last FROM request_changes_chain FOR UPDATE;
    FOR old IN SELECT * FROM request_changes WHERE seq IS NULL ORDER BY created_at, id LOOP
        last.head_seq := last.head_seq + 1;
        UPDATE request_changes c
            SET seq = last.head_seq, prev_hash = last.head_hash, row_hash = request_changes_hash(
                last.head_seq, last.head_hash, c.id, c.request_id, c.change_type, c.previous_value, c.new_value,
                c.changed_by_id, c.changed_by_type, c.correlation_id, c.created_at, c.outcome)
            WHERE c.id = old.id
            RETURNING c.row_hash INTO last.head_hash;
    END LOOP;
    UPDATE request_changes_chain SET head_seq = last.head_seq, head_hash = last.head_hash;
    ALTER TABLE request_changes ENABLE TRIGGER USER;
END
$$;

ALTER TABLE request_changes
    ALTER COLUMN seq SET NOT NULL,
    ALTER COLUMN prev_hash SET NOT NULL,
    ALTER COLUMN row_hash SET NOT NULL;

DROP TRIGGER IF EXISTS request_changes_link ON request_changes;
CREATE TRIGGER request_changes_link BEFORE INSERT ON request_changes
    FOR EACH ROW EXECUTE FUNCTION request_changes_link();

DROP TRIGGER IF EXISTS request_changes_record_head ON request_changes;
CREATE TRIGGER request_changes_record_head AFTER INSERT ON request_changes
    FOR EACH STATEMENT EXECUTE FUNCTION request_changes_record_head();

DROP TRIGGER IF EXISTS request_changes_refuse_change ON request_changes;
CREATE TRIGGER request_changes_refuse_change BEFORE UPDATE OR DELETE ON request_changes
    FOR EACH ROW EXECUTE FUNCTION request_changes_refuse();

DROP TRIGGER IF EXISTS request_changes_refuse_truncate ON request_changes;
CREATE TRIGGER request_changes_refuse_truncate BEFORE TRUNCATE ON request_changes
    FOR EACH STATEMENT EXECUTE FUNCTION request_changes_refuse();

-- The guards stand under session_replication_role = replica too.
ALTER TABLE request_changes ENABLE ALWAYS TRIGGER request_changes_refuse_change;
ALTER TABLE request_changes ENABLE ALWAYS TRIGGER request_changes_refuse_truncate;

-- ---------------------------------------------------------------------------------------------------------------
-- Indexes: a request's history, everything that one call did, a span of time
-- ---------------------------------------------------------------------------------------------------------------

CREATE INDEX IF NOT EXISTS request_changes_by_request ON request_changes (request_id, created_at);
CREATE INDEX IF NOT EXISTS request_changes_by_correlation ON request_changes (correlation_id);
CREATE INDEX IF NOT EXISTS request_changes_by_time ON request_changes (created_at);

DO $$
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = 'request_changes'::regclass) = 'p' THEN
        -- A unique index of a partitioned table must contain its partition key; the lock on the chain has to do.
        CREATE INDEX IF NOT EXISTS request_changes_by_seq ON request_changes (seq);
    ELSE
        CREATE UNIQUE INDEX IF NOT EXISTS request_changes_by_seq ON request_changes (seq);
    END IF;
END
$$;

-- ---------------------------------------------------------------------------------------------------------------
-- Rights: the sidecar may add rows, and no more
-- ---------------------------------------------------------------------------------------------------------------

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sidecar_audit_writer') THEN
        CREATE ROLE sidecar_audit_writer NOLOGIN;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO sidecar_audit_writer', current_schema());
END
$$;

REVOKE ALL ON request_changes, request_changes_chain FROM PUBLIC, sidecar_audit_writer;
GRANT INSERT ON request_changes TO sidecar_audit_writer;
-- ON CONFLICT (id) has to look at the ids that are there.
GRANT SELECT (id) ON request_changes TO sidecar_audit_writer;

COMMIT;
