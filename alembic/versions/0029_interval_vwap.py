"""interval vwap: what an execution cost against the market's mean price while its order was at work

Revision: 0029, after 0028

Rules: runs on SQLite and PostgreSQL alike, up and down; a worker of the previous version must be able to run on the
new schema (add columns as nullable first, drop them one release later); views are dropped and made again.

The mean is of the bars of a minute that are stored, and there only where each minute of the interval has its bar: of a
part of an interval nobody knows the rest. Basis points are of the size of a price, for the price of a future may be
below zero; of a price of zero there are none.
"""

from __future__ import annotations

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_OPTION = (
    "(CASE WHEN length(f.symbol) > 15 AND substr(f.symbol, length(f.symbol) - 8, 1) IN ('C', 'P') THEN 100 ELSE 1 END)"
)
_MULTIPLIER = f"coalesce(f.multiplier, {_OPTION})"
_WORSE = "(CASE WHEN o.side IN ('buy', 'buy_to_cover') THEN 1 ELSE -1 END)"
_MID = "((a.arrival_bid + a.arrival_ask) / 2.0)"
#: When the attempt had its last execution.
_LAST = (
    "(SELECT max(x.filled_at) FROM fills x WHERE x.client_order_id = f.client_order_id"
    " AND x.attempt_no = f.attempt_no AND x.voided_at IS NULL)"
)


def _vwap(*, is_sqlite: bool) -> str:
    """The typical price, (high + low + close) / 3, of each minute, weighted by its volume."""

    def minute(time: str) -> str:
        return rf"substr({time}, 1, 16) || '\:00.000000'" if is_sqlite else f"date_trunc('minute', {time})"

    def seconds(time: str) -> str:
        return f"CAST(strftime('%s', {time}) AS INTEGER)" if is_sqlite else f"extract(epoch FROM {time})"

    first, last = minute("a.started_at"), minute(_LAST)
    minutes = f"({seconds(last)} - {seconds(first)}) / 60 + 1"
    return f"""(SELECT CASE WHEN count(*) = {minutes} AND sum(b.volume) > 0
               THEN sum((b.high + b.low + b.close) * b.volume) / 3.0 / sum(b.volume) END
        FROM bars b WHERE b.broker = f.broker AND b.symbol = f.symbol AND b.timeframe = '1Min'
         AND b.start BETWEEN {first} AND {last})"""


def _against(price: str, name: str, *, below_zero: bool) -> str:
    """Positive is a cost: bought above, or sold below. SQLite divides whole numbers as such, so ` * 10000.0`."""
    base = f"nullif(abs({price}), 0)" if below_zero else price
    return f"""round({_WORSE} * (f.price - {price}) * f.quantity * {_MULTIPLIER}, 9) AS slippage_{name},
       round({_WORSE} * (f.price - {price}) * 10000.0 / {base}, 4) AS slippage_{name}_bps"""


def _tca(*, is_sqlite: bool, new: bool) -> str:
    decision = _against("a.decision_price", "decision", below_zero=new)
    arrival = _against(_MID, "arrival", below_zero=new)
    vwap = _vwap(is_sqlite=is_sqlite)
    interval = f",\n       round({vwap}, 9) AS interval_vwap, {_against(vwap, 'vwap', below_zero=True)}" if new else ""
    return f"""
SELECT f.client_order_id, f.execution_id, f.broker, f.strategy, f.symbol, o.side, f.quantity, f.price,
       a.decision_price, round({_MID}, 9) AS arrival_mid, a.arrival_at, {decision}, {arrival},
       f.attempt_no, o.order_type, f.currency, f.filled_at{interval}
FROM fills f
JOIN orders o ON o.client_order_id = f.client_order_id
LEFT JOIN attempts a ON a.client_order_id = f.client_order_id AND a.attempt_no = f.attempt_no
WHERE f.voided_at IS NULL AND f.leg IS NULL
"""


def _make(*, new: bool) -> None:
    op.execute("DROP VIEW v_tca")
    op.execute(f"CREATE VIEW v_tca AS {_tca(is_sqlite=op.get_bind().dialect.name == 'sqlite', new=new)}")


def upgrade() -> None:
    _make(new=True)


def downgrade() -> None:
    _make(new=False)
