-- Roles of corro's database: who may read, record, change and order what. Run it as a superuser, after every
-- `corro db upgrade`; run again it does no harm:
--
--   psql -v ON_ERROR_STOP=1 -d corro -f deploy/roles.sql
--   ALTER ROLE corro_worker PASSWORD '...';      -- each role that logs in: without a password none of them can
--
-- corro_owner     owns the tables; migrations and the archive run as it
-- corro_worker    workers: deletes nothing that is a record, changes no journal, no limit and no key
-- corro_producer  strategies: records orders and asks for data; changes no order, but leaves wishes on them
-- corro_analyst   views, read only
-- corro_admin     the operator's commands: controls, limits, keys, cancels, decisions

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['corro_owner', 'corro_worker', 'corro_producer', 'corro_analyst', 'corro_admin'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
      EXECUTE 'CREATE ROLE ' || quote_ident(name) || ' LOGIN';
    END IF;
    EXECUTE 'ALTER ROLE ' || quote_ident(name) || ' NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS';
  END LOOP;
END $$;
GRANT corro_worker TO corro_admin;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO corro_owner;
GRANT USAGE ON SCHEMA public TO corro_worker, corro_producer, corro_analyst, corro_admin;
ALTER ROLE corro_analyst SET default_transaction_read_only = on;
ALTER ROLE corro_analyst SET statement_timeout = '60s';

DO $$
DECLARE
  -- Only ever added to.
  journals text[] := ARRAY['order_events', 'control_events', 'position_events', 'account_history', 'position_history',
    'cash_events', 'journal_chain'];
  -- What is at work now, and thrown away when it is over.
  working text[] := ARRAY['leases', 'workers', 'account_snapshots', 'position_snapshots', 'position_locks',
    'position_ledgers', 'position_baselines', 'external_orders', 'external_fills', 'incidents', 'notifications',
    'reference_prices', 'risk_tallies', 'position_changes', 'position_days', 'position_states', 'position_lots'];
  -- Decided by people.
  decided text[] := ARRAY['halts', 'controls', 'risk_limits', 'keys'];
  -- Written by migrations and the archive alone.
  fixed text[] := ARRAY['alembic_version', 'deployment', 'archives', 'archived_orders', 'archived_fills'];
  -- What a producer may say of an order that it records, and what it may not: a new column is in one of the two.
  said text[] := ARRAY['client_order_id', 'version', 'strategy', 'symbol', 'side', 'quantity', 'order_type',
    'limit_price', 'stop_price', 'trail_amount', 'trail_percent', 'decision_price', 'time_in_force', 'extended_hours',
    'tags', 'status', 'route', 'broker', 'attempt_no', 'filled_quantity', 'reason', 'reason_code', 'body_hash',
    'key_id', 'signed_text', 'signature', 'not_before', 'session', 'held_for', 'available_at', 'created_at',
    'expires_at', 'closed_at', 'updated_at', 'group_id', 'group_kind', 'leg', 'asset_class',
    'currency', 'legs', 'notional', 'good_till', 'limit_offset', 'display_quantity', 'hidden', 'algo', 'account'];
  not_said text[] := ARRAY['broker_order_id', 'broker_status', 'avg_fill_price', 'cancel_requested_at', 'cancel_sent_at',
    'replace_request', 'amended_at', 'wishes', 'submitted_at', 'accepted_at'];
  one record;
BEGIN
  FOR one IN SELECT c.relname, c.relkind FROM pg_class c
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') LOOP
    EXECUTE 'ALTER TABLE public.' || quote_ident(one.relname) || ' OWNER TO corro_owner';
    EXECUTE 'REVOKE ALL ON public.' || quote_ident(one.relname) || ' FROM PUBLIC, corro_worker, corro_producer, corro_analyst, corro_admin';
    EXECUTE 'GRANT SELECT ON public.' || quote_ident(one.relname) || ' TO corro_worker, corro_producer, corro_admin';
    IF one.relkind = 'v' THEN
      EXECUTE 'GRANT SELECT ON public.' || quote_ident(one.relname) || ' TO corro_analyst';
    ELSIF one.relname = ANY (journals) THEN
      EXECUTE 'GRANT INSERT ON public.' || quote_ident(one.relname) || ' TO corro_worker';
    ELSIF one.relname = 'fills' THEN
      GRANT INSERT ON fills TO corro_worker;
      GRANT UPDATE (quantity, price, cumulative_quantity, currency, multiplier, commission, commission_currency,
        revision, voided_at, filled_at) ON fills TO corro_worker;
    ELSIF one.relname = ANY (working) THEN
      EXECUTE 'GRANT INSERT, UPDATE, DELETE ON public.' || quote_ident(one.relname) || ' TO corro_worker';
    ELSIF one.relname = 'keys' THEN
      GRANT INSERT ON keys TO corro_admin;
      GRANT UPDATE (revoked_at) ON keys TO corro_admin;
    ELSIF one.relname = ANY (decided) THEN
      EXECUTE 'GRANT INSERT, UPDATE, DELETE ON public.' || quote_ident(one.relname) || ' TO corro_admin';
      IF one.relname = 'controls' THEN  -- a limit that trips
        GRANT INSERT, UPDATE ON controls TO corro_worker;
      END IF;
    ELSIF NOT one.relname = ANY (fixed) THEN
      EXECUTE 'GRANT INSERT, UPDATE ON public.' || quote_ident(one.relname) || ' TO corro_worker';
    END IF;
  END LOOP;
  FOR one IN SELECT c.relname FROM pg_class c
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S' LOOP
    EXECUTE 'GRANT USAGE ON public.' || quote_ident(one.relname) || ' TO corro_worker, corro_producer, corro_admin';
  END LOOP;
  FOR one IN SELECT attname FROM pg_attribute WHERE attrelid = 'public.orders'::regclass AND attnum > 0
      AND NOT attisdropped AND NOT attname = ANY (said || not_said) LOOP
    RAISE EXCEPTION USING
      MESSAGE = 'orders.' || one.attname || ' is in neither list of this file: it is older than the database';
  END LOOP;
  EXECUTE 'GRANT INSERT (' || array_to_string(said, ', ') || ') ON orders TO corro_producer';
  GRANT INSERT (client_order_id, at, kind, from_status, to_status, detail) ON order_events TO corro_producer;
  GRANT INSERT ON fetches TO corro_producer;
  GRANT INSERT ON order_groups TO corro_producer;
END $$;

-- Readers of events wait for the locks of their writers (models/record/stream.py), so only who writes may lock.
DO $$
DECLARE
  lock regprocedure;
BEGIN
  FOR lock IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
      AND proname ~ '^pg_(try_)?advisory_(xact_)?lock(_shared)?$' LOOP
    EXECUTE 'REVOKE EXECUTE ON FUNCTION ' || lock || ' FROM PUBLIC';
    EXECUTE 'GRANT EXECUTE ON FUNCTION ' || lock || ' TO corro_owner, corro_worker, corro_producer, corro_admin';
  END LOOP;
END $$;

-- Journals are kept, by their owner too: only the archive, which closes the chain behind itself, may take from them.
CREATE OR REPLACE FUNCTION corro_keep_journal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_user = 'corro_owner' AND current_setting('corro.archive', true) = 'on' THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
    MESSAGE = 'the journal ' || TG_TABLE_NAME || ' is append only: ' || TG_OP || ' is refused';
END $$;

DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['order_events', 'control_events', 'position_events', 'account_history',
      'position_history', 'cash_events', 'journal_chain'] LOOP
    IF to_regclass('public.' || name) IS NOT NULL THEN
      EXECUTE 'DROP TRIGGER IF EXISTS corro_keep_journal ON public.' || quote_ident(name);
      EXECUTE 'CREATE TRIGGER corro_keep_journal BEFORE UPDATE OR DELETE OR TRUNCATE ON public.' || quote_ident(name) || '
        FOR EACH STATEMENT EXECUTE FUNCTION corro_keep_journal()';
    END IF;
  END LOOP;
END $$;

-- A size or a price as OrderRequest takes it: above zero, at most 15 digits, 9 of them decimals.
CREATE OR REPLACE FUNCTION corro_is_amount(amount numeric) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN CASE WHEN amount > 0 AND amount < 1e15 THEN scale(trim_scale(amount)) <= 9
    AND length(ltrim(replace(trim_scale(amount)::text, '.', ''), '0')) <= 15 ELSE amount IS NULL END;
END $$;

-- The first column of an order that OrderRequest would not have made so; null where there is none.
CREATE OR REPLACE FUNCTION corro_unsound(o orders) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
  -- No leg comes to the group of somebody else; the same order again changes nothing.
  IF o.group_id IS NOT NULL AND EXISTS (SELECT FROM order_groups g WHERE g.group_id = o.group_id)
      AND NOT EXISTS (SELECT FROM orders known WHERE known.client_order_id = o.client_order_id) THEN
    RETURN 'group_id';
  END IF;
  RETURN CASE
    WHEN (o.client_order_id ~ '^[A-Za-z0-9][A-Za-z0-9._:+/=@#-]*$') IS NOT TRUE THEN 'client_order_id'
    WHEN (o.version IN (1, 2)) IS NOT TRUE THEN 'version'
    WHEN (o.symbol ~ '^[A-Z0-9][A-Z0-9./@]*$') IS NOT TRUE THEN 'symbol'
    WHEN o.asset_class NOT IN ('us_equity', 'equity', 'option', 'future', 'forex', 'crypto') THEN 'asset_class'
    WHEN o.currency !~ '^[A-Z]{3,5}$' THEN 'currency'
    WHEN (o.side IN ('buy', 'sell', 'sell_short', 'buy_to_cover')) IS NOT TRUE THEN 'side'
    WHEN NOT corro_is_amount(o.quantity) OR num_nonnulls(o.quantity, o.notional) <> 1 THEN 'quantity'
    WHEN NOT corro_is_amount(o.notional) OR (o.notional IS NOT NULL AND (o.side <> 'buy' OR o.group_id IS NOT NULL))
      THEN 'notional'
    WHEN (o.order_type IN ('market', 'limit', 'stop', 'stop_limit', 'trailing_stop', 'trail_limit', 'if_touched',
      'limit_if_touched')) IS NOT TRUE THEN 'order_type'
    WHEN o.legs IS NOT NULL AND (o.side = 'buy' AND json_typeof(o.legs) = 'array'
      AND json_array_length(o.legs) BETWEEN 2 AND 8 AND length(o.legs::text) < 2000) IS NOT TRUE THEN 'legs'
    WHEN NOT corro_is_amount(CASE WHEN o.legs IS NULL AND o.asset_class IS DISTINCT FROM 'future' THEN o.limit_price
        ELSE nullif(abs(o.limit_price), 0) END)
      OR (o.limit_price IS NOT NULL) <> (o.order_type IN ('limit', 'stop_limit', 'limit_if_touched')) THEN 'limit_price'
    WHEN NOT corro_is_amount(o.stop_price)
      OR (o.order_type <> 'trail_limit' AND (o.stop_price IS NOT NULL)
        <> (o.order_type IN ('stop', 'stop_limit', 'if_touched', 'limit_if_touched'))) THEN 'stop_price'
    WHEN NOT corro_is_amount(o.trail_amount) OR NOT corro_is_amount(o.trail_percent)
      OR num_nonnulls(o.trail_amount, o.trail_percent) <> (o.order_type IN ('trailing_stop', 'trail_limit'))::integer
      THEN 'trail_amount'
    WHEN NOT corro_is_amount(o.limit_offset)
      OR (o.limit_offset IS NOT NULL) <> (o.order_type = 'trail_limit') THEN 'limit_offset'
    WHEN NOT corro_is_amount(o.display_quantity) OR o.display_quantity >= o.quantity THEN 'display_quantity'
    WHEN length(o.algo::text) > 1000 OR json_typeof(o.algo) <> 'object' THEN 'algo'
    WHEN NOT corro_is_amount(o.decision_price) THEN 'decision_price'
    WHEN (o.time_in_force IN ('day', 'gtc', 'ioc', 'fok', 'opg', 'cls', 'gtd')) IS NOT TRUE THEN 'time_in_force'
    WHEN (o.good_till IS NOT NULL) <> (o.time_in_force = 'gtd')
      OR o.good_till NOT BETWEEN '2000-01-01' AND '2200-01-01' THEN 'good_till'
    WHEN o.session NOT IN ('any', 'regular') THEN 'session'
    WHEN (json_typeof(o.route) = 'array' AND o.broker = split_part(o.route ->> 0, ':', 1)
      AND coalesce(o.account, '') = split_part(o.route ->> 0, ':', 2)
      AND NOT o.route::jsonb @? 'strict $[*] ? (@.type() != "string")') IS NOT TRUE THEN 'route'
    WHEN length(o.tags::text) > 10000 OR CASE json_typeof(o.tags)
        WHEN 'array' THEN o.tags::jsonb @? 'strict $[*] ? (@.type() != "string")'
        WHEN 'object' THEN o.tags::jsonb @? 'strict $.* ? (@.type() != "string")'
        ELSE json_typeof(o.tags) <> 'null' END THEN 'tags'
    WHEN (o.created_at BETWEEN '2000-01-01' AND clock_timestamp() + interval '1 minute') IS NOT TRUE THEN 'created_at'
    WHEN (o.expires_at > o.created_at AND o.expires_at < '2200-01-01') IS NOT TRUE THEN 'expires_at'
    WHEN (o.available_at BETWEEN clock_timestamp() - interval '1 minute' AND '2200-01-01') IS NOT TRUE
      THEN 'available_at'
    WHEN o.not_before NOT BETWEEN '2000-01-01' AND '2200-01-01' THEN 'not_before'
    WHEN o.closed_at <> o.updated_at THEN 'closed_at'
    WHEN (o.updated_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() + interval '1 minute')
      IS NOT TRUE THEN 'updated_at'
    WHEN num_nonnulls(o.group_id, o.group_kind, o.leg) > 0 AND (o.group_id ~ '^[A-Za-z0-9][A-Za-z0-9._:+/=@#-]*$'
      AND o.group_kind || '.' || o.leg IN ('bracket.entry', 'bracket.take_profit', 'bracket.stop_loss', 'oco.first',
        'oco.second', 'oto.first', 'oto.then')) IS NOT TRUE THEN 'leg'
  END;
END $$;

-- The first event of an order that this transaction has recorded, or that its id was used again; no other step.
CREATE OR REPLACE FUNCTION corro_is_first_event(e order_events) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  RETURN (SELECT coalesce(e.at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() + interval '1 minute'
    AND CASE e.kind
      WHEN 'conflict' THEN e.from_status IS NOT DISTINCT FROM e.to_status AND coalesce(e.to_status = o.status, true)
      ELSE e.kind IN ('queued', 'held', 'denied') AND e.from_status IS NULL AND e.to_status = e.kind
        AND o.status = e.kind AND o.xmin = pg_current_xact_id()::xid
        AND NOT EXISTS (SELECT FROM order_events told WHERE told.client_order_id = e.client_order_id)
    END, false)
    FROM orders o WHERE o.client_order_id = e.client_order_id);
END $$;

-- A group as the lead that this transaction has recorded makes it, or one that is there already; so nobody takes the id
-- of a group that another is about to submit.
CREATE OR REPLACE FUNCTION corro_is_new_group(g order_groups) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  RETURN EXISTS (SELECT FROM order_groups there WHERE there.group_id = g.group_id)
    OR EXISTS (SELECT FROM orders lead WHERE lead.group_id = g.group_id AND lead.group_kind = g.kind
      AND lead.leg IN ('entry', 'first') AND lead.xmin = pg_current_xact_id()::xid
      AND g.created_at = lead.created_at AND g.updated_at = lead.updated_at
      AND g.closed_at IS NOT DISTINCT FROM lead.closed_at AND g.settled IS NULL
      AND CASE WHEN lead.status = 'denied' THEN g.status = 'closed' AND starts_with(g.reason, 'denied: ')
        ELSE g.status = 'queued' AND g.reason IS NULL END);
END $$;

-- A data request that nobody has answered yet.
CREATE OR REPLACE FUNCTION corro_is_new_fetch(f fetches) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  RETURN coalesce(f.fetch_id ~ '^[!-~]+$'
    AND f.kind IN ('quote', 'bars', 'account', 'positions', 'orders', 'instruments', 'preview')
    AND json_typeof(f.request) = 'object' AND length(f.request::text) <= 40000
    AND json_typeof(f.route) = 'array' AND f.broker = f.route ->> 0
    AND NOT f.route::jsonb @? 'strict $[*] ? (@.type() != "string")'
    AND f.attempt_no = 0 AND f.tries = 0 AND f.stored = 0
    AND num_nonnulls(f.progress, f.cursor, f.result, f.worker, f.lease_until, f.started_at) = 0
    AND f.created_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() + interval '1 minute'
    AND f.available_at = f.created_at AND f.updated_at = f.created_at
    AND f.status = 'queued' AND num_nonnulls(f.error, f.ended_at) = 0, false);
END $$;

-- Who may record orders and not change them, may say how they begin, and nothing of what became of them: orders that
-- OrderRequest takes, so that no row of a producer keeps a worker from the orders of others.
CREATE OR REPLACE FUNCTION corro_first_word() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  wrong text;
BEGIN
  IF has_table_privilege('public.orders', 'UPDATE') THEN
    RETURN NEW;
  END IF;
  IF TG_TABLE_NAME = 'order_events' THEN
    IF corro_is_first_event(NEW) IS NOT TRUE THEN
      RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
        MESSAGE = 'a producer records no event ' || NEW.kind || ' but the first of its own order';
    END IF;
    RETURN NEW;
  END IF;
  IF TG_TABLE_NAME = 'order_groups' THEN
    IF corro_is_new_group(NEW) IS NOT TRUE THEN
      RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
        MESSAGE = 'a producer records no group but that of the legs it records: ' || NEW.group_id;
    END IF;
    RETURN NEW;
  END IF;
  IF TG_TABLE_NAME = 'fetches' THEN
    IF corro_is_new_fetch(NEW) IS NOT TRUE THEN
      RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
        MESSAGE = 'a producer records no data request but a new one that nobody has answered: ' || NEW.fetch_id;
    END IF;
    RETURN NEW;
  END IF;
  IF NEW.status NOT IN ('queued', 'held', 'denied') OR NEW.attempt_no <> 0 OR NEW.filled_quantity <> 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'a producer records no order that is '
      || NEW.status || ', attempt ' || NEW.attempt_no || ', filled ' || NEW.filled_quantity;
  END IF;
  wrong := corro_unsound(NEW);
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'a producer records no order with such a ' || wrong
      || ': ' || coalesce(to_jsonb(NEW) ->> wrong, 'null');
  END IF;
  RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS corro_first_word ON orders;
CREATE TRIGGER corro_first_word BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION corro_first_word();
DROP TRIGGER IF EXISTS corro_first_word ON order_events;
CREATE TRIGGER corro_first_word BEFORE INSERT ON order_events FOR EACH ROW EXECUTE FUNCTION corro_first_word();
DROP TRIGGER IF EXISTS corro_first_word ON order_groups;
CREATE TRIGGER corro_first_word BEFORE INSERT ON order_groups FOR EACH ROW EXECUTE FUNCTION corro_first_word();
DROP TRIGGER IF EXISTS corro_first_word ON fetches;
CREATE TRIGGER corro_first_word BEFORE INSERT ON fetches FOR EACH ROW EXECUTE FUNCTION corro_first_word();

-- A producer leaves its wish to cancel or replace on the row; a worker judges who stands behind it.
CREATE OR REPLACE FUNCTION corro_wish(client_order_id text, wish jsonb) RETURNS boolean
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  left_there jsonb;
  has_ended boolean;
BEGIN
  IF jsonb_typeof(wish) <> 'object' OR wish->>'kind' IS NULL OR wish->>'kind' NOT IN ('cancel', 'replace')
      OR length(wish::text) > 20000 THEN
    RAISE EXCEPTION 'a wish is an object of kind cancel or replace' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT coalesce(o.wishes::jsonb, '[]'::jsonb),
      o.status IN ('filled', 'canceled', 'rejected', 'denied', 'expired') INTO left_there, has_ended
    FROM orders o WHERE o.client_order_id = corro_wish.client_order_id FOR NO KEY UPDATE;
  IF NOT FOUND OR has_ended OR wish IN (SELECT jsonb_array_elements(left_there)) THEN
    RETURN left_there IS NOT NULL;
  END IF;
  IF jsonb_array_length(left_there) >= 20 THEN  -- nobody is told that a wish is there, which is not
    RAISE EXCEPTION USING ERRCODE = 'configuration_limit_exceeded',
      MESSAGE = 'order ' || client_order_id || ' has 20 wishes that no worker has judged yet: try again';
  END IF;
  UPDATE orders o SET wishes = (left_there || jsonb_build_array(wish))::json
    WHERE o.client_order_id = corro_wish.client_order_id;
  RETURN true;
END $$;
ALTER FUNCTION corro_keep_journal() OWNER TO corro_owner;
ALTER FUNCTION corro_is_amount(numeric) OWNER TO corro_owner;
ALTER FUNCTION corro_unsound(orders) OWNER TO corro_owner;
ALTER FUNCTION corro_is_first_event(order_events) OWNER TO corro_owner;
ALTER FUNCTION corro_is_new_group(order_groups) OWNER TO corro_owner;
ALTER FUNCTION corro_is_new_fetch(fetches) OWNER TO corro_owner;
ALTER FUNCTION corro_first_word() OWNER TO corro_owner;
ALTER FUNCTION corro_wish(text, jsonb) OWNER TO corro_owner;
REVOKE ALL ON FUNCTION corro_wish(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION corro_wish(text, jsonb) TO corro_producer, corro_worker, corro_admin;
