"""balances: positions and profit from our own executions, kept by day and reckoned for what came since

Revision: 0013, after 0012

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

First in, first out pairs the k-th share bought with the k-th share sold, long and short alike: whoever closes takes
the oldest share that is open. So lots are intervals of two running sums, and the views need no recursion.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_KEY = "source, broker, account, strategy, symbol, currency"


# -- WORDS OF THE DIALECTS ---
def _is_sqlite() -> bool:
    return bool(op.get_bind().dialect.name == "sqlite")


def _new_york(time: str) -> str:
    """The date in New York of a time in UTC; daylight time by the rule that holds since 2007."""
    if not _is_sqlite():
        return f"CAST({time} AT TIME ZONE 'America/New_York' AS date)"
    spring = f"date(substr({time}, 1, 4) || '-03-01', 'weekday 0', '+7 days') || ' 07'"
    autumn = f"date(substr({time}, 1, 4) || '-11-01', 'weekday 0') || ' 06'"
    return f"date({time}, CASE WHEN {time} >= {spring} AND {time} < {autumn} THEN '-4 hours' ELSE '-5 hours' END)"


def _utc(time: str) -> str:
    return f"date({time})" if _is_sqlite() else f"CAST({time} AT TIME ZONE 'UTC' AS date)"


def _day(time: str, symbol: str) -> str:
    """Pairs of currencies trade around the clock: their day is UTC's."""
    return f"CASE WHEN {symbol} LIKE '%/%' THEN {_utc(time)} ELSE {_new_york(time)} END"


def _zone(symbol: str) -> str:
    return f"CASE WHEN {symbol} LIKE '%/%' THEN 'UTC' ELSE 'America/New_York' END"


def _now() -> str:
    return "strftime('%Y-%m-%d %H:%M:%f', 'now')" if _is_sqlite() else "now()"


def _multiplier(symbol: str) -> str:
    """An option, as OCC or TDA write it, is of a hundred shares."""
    if _is_sqlite():
        digit = "[0-9]"
        occ, tda = f"*{digit * 6}[CP]{digit * 8}", f"*[_]{digit * 6}[CP]*"
        return f"CASE WHEN {symbol} GLOB '{occ}' OR {symbol} GLOB '{tda}' THEN 100 ELSE 1 END"
    return f"CASE WHEN {symbol} ~ '([0-9]{{6}}[CP][0-9]{{8}}$)|(_[0-9]{{6}}[CP])' THEN 100 ELSE 1 END"


def _same(one: str, other: str, names: str = _KEY) -> str:
    return " AND ".join(f"{one}.{name} = {other}.{name}" for name in names.split(", "))


def _of(alias: str, names: str = _KEY) -> str:
    return ", ".join(f"{alias}.{name}" for name in names.split(", "))


# -- EXECUTIONS, ours and others', with their sign and their day ---
def _executions() -> str:
    def of(source: str, strategy: str, side: str, rest: str) -> str:
        return f"""
SELECT '{source}' AS source, f.id, f.broker, '' AS account, {strategy} AS strategy, f.symbol,
       coalesce(f.currency, 'USD') AS currency,
       CASE WHEN {side} IN ('buy', 'buy_to_cover') THEN f.quantity ELSE -f.quantity END AS shares, f.price,
       {_multiplier("f.symbol")} AS multiplier, f.commission AS fee,
       coalesce(f.commission_currency, f.currency, 'USD') AS fee_currency, f.filled_at,
       {_day("f.filled_at", "f.symbol")} AS day
{rest} f.voided_at IS NULL AND f.quantity <> 0"""

    ours = of("ours", "coalesce(f.strategy, '')", "o.side",
              "FROM fills f JOIN orders o ON o.client_order_id = f.client_order_id WHERE")  # fmt: skip
    others = of("external", "'(external)'", "f.side",
                "FROM external_fills f WHERE f.symbol IS NOT NULL AND f.side IS NOT NULL AND")  # fmt: skip
    return f"{ours} UNION ALL {others}"


# -- STEPS: what the views have in common; each needs those before it, and is reckoned once in a question ---
# SQLite takes the tables of a CROSS JOIN in the order in which they stand; to PostgreSQL it is an inner join.
_FRESH = """
SELECT e.* FROM position_progress p CROSS JOIN position_executions e WHERE e.source = p.source AND e.id > p.kept_id
"""
#: Keys whose kept balances do not hold any more: an execution in them was changed, or an older one came later.
_STALE = f"""
SELECT source, broker, strategy, symbol FROM position_changes
UNION
SELECT e.source, e.broker, e.strategy, e.symbol
FROM fresh e CROSS JOIN position_states s WHERE {_same("s", "e")} AND e.filled_at < s.last_at
"""
_SHORT = "source, broker, strategy, symbol"
_FACTS = f"{_of('e')}, e.id AS no, e.shares, e.price, e.multiplier, e.fee, e.fee_currency, e.filled_at, e.day"
_NOT_STALE = f"({_SHORT}) NOT IN (SELECT {_SHORT} FROM stale)"
#: Executions since, all of a stale key, and the lots that were open before, which come before all numbers.
_TAIL = f"""
SELECT {_FACTS} FROM fresh e
UNION ALL
SELECT {_FACTS}
FROM stale d CROSS JOIN position_progress p CROSS JOIN position_executions e
WHERE p.source = d.source AND {_same("e", "d", _SHORT)} AND e.id <= p.kept_id
UNION ALL
SELECT {_KEY}, no - 1000000000, shares, price, multiplier, NULL, NULL, filled_at, NULL
FROM position_lots WHERE ({_KEY}) IN (SELECT {_KEY} FROM fresh) AND {_NOT_STALE}
"""
_NUMBERED = f"""
SELECT t.*, row_number() OVER (PARTITION BY {_KEY} ORDER BY filled_at, no) AS place,
       round(sum(abs(shares)) OVER (PARTITION BY {_KEY}, shares > 0 ORDER BY filled_at, no
                                    ROWS UNBOUNDED PRECEDING), 9) AS up_to
FROM tail t
"""
#: Where an execution ends, in the order of the sums: how far it is to the one before, and how many purchases and sales
#: reach so far or farther. Those with the same number share one purchase, or one sale: the nearest.
_CUTS = f"""
SELECT n.*, round(up_to - coalesce(lag(up_to) OVER (PARTITION BY {_KEY} ORDER BY up_to), 0), 9) AS quantity,
       count(CASE WHEN shares > 0 THEN 1 END) OVER (PARTITION BY {_KEY} ORDER BY up_to DESC) AS purchase,
       count(CASE WHEN shares < 0 THEN 1 END) OVER (PARTITION BY {_KEY} ORDER BY up_to DESC) AS sale
FROM numbered n
"""
_SIDES = f"""
SELECT {_KEY}, quantity, multiplier, {
    ", ".join(
        f"max(CASE WHEN shares {sign} 0 THEN {what} END) OVER {window} AS {side}_{what}"
        for sign, window, side in ((">", "bought", "b"), ("<", "sold", "s"))
        for what in ("place", "price", "day")
    )
}
FROM cuts WINDOW bought AS (PARTITION BY {_KEY}, purchase), sold AS (PARTITION BY {_KEY}, sale)
"""
_BOUGHT_FIRST = "s_place IS NULL OR b_place < s_place"
_SIGNED = f"CASE WHEN {_BOUGHT_FIRST} THEN quantity ELSE -quantity END"
#: Each stretch of shares with its opening and its closing, which is missing while it is open.
_MATCHES = f"""
SELECT {_KEY}, multiplier, {_SIGNED} AS shares, quantity * (s_price - b_price) * multiplier AS realized,
       CASE WHEN {_BOUGHT_FIRST} THEN b_price ELSE s_price END AS price,
       CASE WHEN {_BOUGHT_FIRST} THEN b_day ELSE s_day END AS opened_day,
       CASE WHEN {_BOUGHT_FIRST} THEN s_place ELSE b_place END AS closed,
       CASE WHEN {_BOUGHT_FIRST} THEN s_day ELSE b_day END AS closed_day
FROM sides WHERE quantity > 0
"""
#: What is held now: kept where nothing moved, reckoned where something did.
_NOW = f"""
SELECT {_KEY}, quantity, cost, multiplier FROM position_states
WHERE {_NOT_STALE} AND ({_KEY}) NOT IN (SELECT {_KEY} FROM tail)
UNION ALL
SELECT {_KEY}, round(sum(shares), 9),
       CASE WHEN count(price) = count(*) THEN round(sum(shares * price * multiplier), 9) END, max(multiplier)
FROM matches WHERE closed IS NULL GROUP BY {_KEY}
"""
_FILL = """(SELECT f.{0} FROM fills f WHERE f.symbol = n.symbol AND f.price IS NOT NULL AND f.voided_at IS NULL
             ORDER BY f.filled_at DESC, f.id DESC LIMIT 1)"""
_NEWER = "CASE WHEN told_at IS NULL OR traded_at > told_at THEN {0} ELSE {1} END"
#: With the newest price that is known: the broker's own reading of the position, or an execution of ours.
_PRICED = f"""
SELECT held.*, {_NEWER.format("traded", "round(told, 9)")} AS price,
       {_NEWER.format("traded_at", "told_at")} AS price_at,
       {_NEWER.format("CASE WHEN traded_at IS NOT NULL THEN 'fill' END", "'position'")} AS price_source
FROM (
    SELECT n.*, {_FILL.format("price")} AS traded, {_FILL.format("filled_at")} AS traded_at,
           s.market_value * 1.0 / s.quantity / n.multiplier AS told,
           CASE WHEN s.market_value IS NOT NULL THEN s.taken_at END AS told_at
    FROM now n
    LEFT JOIN position_snapshots s ON s.broker = n.broker AND s.symbol = n.symbol AND s.quantity <> 0
    WHERE n.quantity <> 0) held
"""
_STEPS = {
    "fresh": _FRESH, "stale": _STALE, "tail": _TAIL, "numbered": _NUMBERED, "cuts": _CUTS, "sides": _SIDES,
    "matches": _MATCHES, "now": _NOW, "priced": _PRICED,
}  # fmt: skip


def _with(last: str) -> str:
    names = list(_STEPS)[: list(_STEPS).index(last) + 1]
    return "WITH " + ", ".join(f"{name} AS MATERIALIZED ({_STEPS[name]})" for name in names)


# -- VIEWS: the public face; see docs/history.md ---
_OUT = "broker, NULLIF(account, '') AS account, NULLIF(strategy, '') AS strategy, symbol"
#: Nothing, of the type of money: PostgreSQL takes the type of a union's column from its first row.
_NO_MONEY = "CAST(NULL AS NUMERIC)"
#: The key under which a fee in another currency is booked.
_PAID = "source, broker, account, strategy, symbol, fee_currency"


def _positions() -> str:
    """What no execution explains is there too, where a broker's positions were ever read: the baseline."""
    return f"""
{_with("priced")}, others AS (
    SELECT b.broker, b.symbol, b.quantity AS shares FROM position_baselines b
    UNION ALL
    SELECT e.broker, e.symbol, e.shares FROM position_ledgers l CROSS JOIN position_executions e
    WHERE e.broker = l.broker AND e.source = 'ours' AND e.id > l.fills_id
    UNION ALL
    SELECT e.broker, e.symbol, e.shares FROM position_ledgers l CROSS JOIN position_executions e
    WHERE e.broker = l.broker AND e.source = 'external' AND e.id > l.external_fills_id
    UNION ALL
    SELECT n.broker, n.symbol, -n.quantity FROM position_ledgers l JOIN now n ON n.broker = l.broker)
SELECT {_OUT}, quantity, round(cost * 1.0 / quantity / multiplier, 9) AS avg_price, cost, currency, multiplier, source,
       price, price_at, price_source, round(quantity * price * multiplier - cost, 9) AS unrealized
FROM priced
UNION ALL
SELECT broker, NULL, '(baseline)', symbol, round(sum(shares), 9), NULL, NULL, 'USD', {_multiplier("symbol")},
       'baseline', NULL, NULL, NULL, NULL
FROM others GROUP BY broker, symbol HAVING abs(sum(shares)) > 0.000000001
"""


#: A day of the tail has the lots that were opened by its end and not closed by then; those of before have no day.
_POSITION_DAYS = f"""
{_with("matches")}, days AS MATERIALIZED (
    SELECT {_of("d")}, d.day, coalesce(round(sum(m.shares), 9), 0) AS quantity,
           CASE WHEN count(m.shares) = count(m.price) THEN coalesce(round(sum(m.shares * m.price * m.multiplier), 9), 0)
           END AS cost, d.multiplier
    FROM (SELECT DISTINCT {_KEY}, day, multiplier FROM tail WHERE day IS NOT NULL) d
    LEFT JOIN matches m ON {_same("m", "d")}
         AND (m.opened_day IS NULL OR m.opened_day <= d.day) AND (m.closed IS NULL OR m.closed_day > d.day)
    GROUP BY {_of("d")}, d.day, d.multiplier)
SELECT day, {_OUT}, quantity, round(cost * 1.0 / NULLIF(quantity * multiplier, 0), 9) AS avg_price, cost, currency,
       multiplier, source
FROM position_days
WHERE quantity IS NOT NULL AND {_NOT_STALE} AND ({_KEY}, day) NOT IN (SELECT {_KEY}, day FROM days)
UNION ALL
SELECT day, {_OUT}, quantity, round(cost * 1.0 / NULLIF(quantity * multiplier, 0), 9), cost, currency, multiplier,
       source
FROM days
"""


def _pnl() -> str:
    """What is open stands at today's date; a day that is over and of which nothing came since is read as it is kept."""
    moved = f"SELECT {_KEY}, day FROM tail WHERE day IS NOT NULL"
    fees = f"SELECT {_PAID}, day FROM tail WHERE day IS NOT NULL"
    as_kept = f"({_KEY}, day) NOT IN ({moved}) AND ({_KEY}, day) NOT IN ({fees}) AND day < {_new_york(_now())}"
    today = f"CASE WHEN symbol LIKE '%/%' THEN {_utc(_now())} ELSE {_new_york(_now())} END"
    unrealized = "round(quantity * price * multiplier - cost, 9)"
    return f"""
{_with("priced")}
SELECT day, {_OUT}, currency, realized, {_NO_MONEY} AS unrealized, fees, fees_missing,
       {_zone("symbol")} AS day_timezone, source
FROM position_days WHERE {_NOT_STALE} AND {as_kept}
UNION ALL
SELECT day, {_OUT}, currency, CASE WHEN max(unknown) = 0 THEN round(coalesce(sum(realized), 0), 9) END,
       CASE WHEN max(unpriced) = 0 THEN round(sum(unrealized), 9) END,
       coalesce(round(sum(fees), 9), CASE WHEN sum(fees_missing) = 0 THEN 0 END), sum(fees_missing), {_zone("symbol")},
       source
FROM (
    SELECT {_KEY}, day, realized, CASE WHEN realized IS NULL THEN 1 ELSE 0 END AS unknown, {_NO_MONEY} AS unrealized,
           0 AS unpriced, fees, fees_missing
    FROM position_days WHERE {_NOT_STALE} AND NOT ({as_kept})
    UNION ALL
    SELECT {_KEY}, closed_day, realized, CASE WHEN realized IS NULL THEN 1 ELSE 0 END, NULL, 0, NULL, 0
    FROM matches WHERE closed IS NOT NULL
    UNION ALL
    SELECT {_KEY}, day, 0, 0, NULL, 0, CASE WHEN fee_currency = currency THEN fee END,
           CASE WHEN fee IS NULL THEN 1 ELSE 0 END
    FROM tail WHERE day IS NOT NULL
    UNION ALL
    SELECT {_PAID}, day, 0, 0, NULL, 0, fee, 0 FROM tail WHERE day IS NOT NULL AND fee_currency <> currency
    UNION ALL
    SELECT {_KEY}, {today}, 0, 0, {unrealized}, CASE WHEN {unrealized} IS NULL THEN 1 ELSE 0 END, NULL, 0
    FROM priced) parts
GROUP BY {_KEY}, day
"""


#: In the order in which each needs those before it.
def _views() -> dict[str, str]:
    return {
        "position_executions": _executions(), "v_positions": _positions(), "v_position_days": _POSITION_DAYS,
        "v_pnl": _pnl(),
    }  # fmt: skip


# -- TABLES ---
def _money(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Numeric(), nullable=True) for name in names]


def _key() -> list[sa.Column[Any]]:
    lengths = {"source": 16, "broker": 32, "account": 64, "strategy": 128, "symbol": 64, "currency": 8}
    return [sa.Column(name, sa.String(length=length), nullable=False) for name, length in lengths.items()]


def _create(name: str, *columns: sa.Column[Any], key: list[str]) -> None:
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{name}")))


def _at(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _tables() -> None:
    key = _KEY.split(", ")
    day = sa.Column("day", sa.Date(), nullable=False)

    def multiplier() -> sa.Column[Any]:
        return sa.Column("multiplier", sa.Numeric(), nullable=False)

    missing = sa.Column("fees_missing", sa.Integer(), nullable=False)
    costs = ("quantity", "cost", "cost_average")
    _create("position_days", *_key(), day, *_money(*costs, "realized", "realized_average", "fees"), missing,
            multiplier(), key=[*key, "day"])  # fmt: skip
    op.create_index("ix_position_days_day", "position_days", ["day"])
    _create("position_states", *_key(), *_money(*costs), multiplier(), _at("last_at", nullable=False), key=key)
    no = sa.Column("no", sa.Integer(), nullable=False)
    shares = sa.Column("shares", sa.Numeric(), nullable=False)
    _create("position_lots", *_key(), no, shares, *_money("price"), multiplier(), _at("filled_at", nullable=False),
            key=[*key, "no"])  # fmt: skip
    source = sa.Column("source", sa.String(length=16), nullable=False)
    ids = [sa.Column(name, sa.BigInteger(), nullable=False) for name in ("kept_id", "marked_id")]
    turn = sa.Column("turn", sa.BigInteger(), nullable=False)
    _create("position_progress", source, *ids, _at("marked_at"), turn, key=["source"])
    for name in ("ours", "external"):
        op.execute(f"INSERT INTO position_progress (source, kept_id, marked_id, turn) VALUES ('{name}', 0, 0, 0)")
    number = sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False)
    short = [column for column in _key() if column.name in _SHORT.split(", ")]
    _create("position_changes", number, *short, key=["id"])


# -- TRIGGERS: who changes an execution that is kept in a balance says so; all others pay nothing ---
_WATCHED = "quantity, price, commission, commission_currency, currency, filled_at, voided_at, symbol"
_FUNCTION = """
CREATE FUNCTION position_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF OLD.id <= (SELECT marked_id FROM position_progress WHERE source = TG_ARGV[0]) THEN
        INSERT INTO position_changes (source, broker, strategy, symbol)
        SELECT TG_ARGV[0], t.broker, coalesce(t.strategy, TG_ARGV[1]), t.symbol
        FROM (SELECT OLD.broker, to_jsonb(OLD) ->> 'strategy' AS strategy, OLD.symbol
              UNION SELECT NEW.broker, to_jsonb(NEW) ->> 'strategy', NEW.symbol WHERE TG_OP <> 'DELETE') t
        WHERE t.symbol IS NOT NULL;
    END IF;
    RETURN NULL;
END $$
"""


def _triggers() -> Iterator[str]:
    sides = {
        "fills": ("ours", "coalesce({0}.strategy, '')", ""),
        "external_fills": ("external", "'(external)'", "(external)"),
    }
    if not _is_sqlite():
        yield _FUNCTION
    for table, (source, strategy, otherwise) in sides.items():
        # A row of others that turns out to be ours is deleted; and SQLite gives its id again.
        events = {f"UPDATE OF {_WATCHED}": ("OLD", "NEW")} | ({"DELETE": ("OLD",)} if source == "external" else {})
        events |= {"INSERT": ("NEW",)} if _is_sqlite() else {}
        for number, (event, rows) in enumerate(events.items()):
            begin = f"CREATE TRIGGER {table}_changed_{number} AFTER {event} ON {table}"
            if not _is_sqlite():
                yield f"{begin} FOR EACH ROW EXECUTE FUNCTION position_changed('{source}', '{otherwise}')"
                continue
            each = " UNION ".join(f"SELECT {r}.broker, {strategy.format(r)}, {r}.symbol AS symbol" for r in rows)
            yield f"""{begin}
WHEN {rows[0]}.id <= (SELECT marked_id FROM position_progress WHERE source = '{source}')
BEGIN
    INSERT INTO position_changes (source, broker, strategy, symbol)
    SELECT '{source}', t.* FROM ({each}) t WHERE t.symbol IS NOT NULL;
END"""


def upgrade() -> None:
    _tables()
    for statement in _triggers():
        op.execute(statement)
    for name, text in _views().items():
        op.execute(f"CREATE VIEW {name} AS {text}")


def downgrade() -> None:
    for name in reversed(_views()):
        op.execute(f"DROP VIEW {name}")
    if _is_sqlite():
        for trigger in ("fills_changed_0", "fills_changed_1", *(f"external_fills_changed_{n}" for n in range(3))):
            op.execute(f"DROP TRIGGER {trigger}")
    else:
        op.execute("DROP FUNCTION position_changed CASCADE")
    for table in ("position_changes", "position_progress", "position_lots", "position_states", "position_days"):
        op.drop_table(table)
