-- The login that the sidecar of docker-compose.yml uses: it may insert audit rows and nothing else.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sidecar') THEN
        CREATE ROLE sidecar LOGIN PASSWORD 'audit' IN ROLE sidecar_audit_writer;
    END IF;
END
$$;
