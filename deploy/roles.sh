#!/bin/sh
# The roles of deploy/roles.sql, and the passwords of those that log in, from WORKER_PASSWORD and ADMIN_PASSWORD (and of
# PRODUCER_PASSWORD and ANALYST_PASSWORD, where they are set). Run as a superuser, after every `corro db upgrade`; PG* say
# where.
set -eu
here=$(dirname "$0")
psql -v ON_ERROR_STOP=1 -q -h "${PGHOST:-postgres}" -U "${PGUSER:-corro}" -d "${PGDATABASE:-corro}" -f "$here/roles.sql"
for role in worker admin producer analyst; do
  eval password=\${$(echo "$role" | tr a-z A-Z)_PASSWORD:-}
  [ -z "$password" ] || psql -v ON_ERROR_STOP=1 -q -h "${PGHOST:-postgres}" -U "${PGUSER:-corro}" \
    -d "${PGDATABASE:-corro}" -v role="corro_$role" -v password="$password" <<'SQL'
ALTER ROLE :"role" PASSWORD :'password';
SQL
done
