"""The public views, as tables to select from: the migrations make them, docs/history.md tells what they mean."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Column, Date, Integer, MetaData, Select, String, Table
from sqlalchemy.types import TypeEngine

from models.record.columns import Money, UtcTime

#: A row of a view, by the names of its columns.
Row = dict[str, Any]
#: A query of them.
QueryOf = Select[Any]

_views = MetaData()


def _view(name: str, **columns: type[TypeEngine[Any]]) -> Table:
    return Table(name, _views, *(Column(key, kind) for key, kind in columns.items()))


v_orders = _view(
    "v_orders", client_order_id=String, strategy=String, symbol=String, asset_class=String, currency=String,
    side=String, quantity=Money, notional=Money, order_type=String, limit_price=Money, stop_price=Money,
    trail_amount=Money, trail_percent=Money, time_in_force=String, extended_hours=Boolean, tags=JSON, status=String,
    route=JSON, broker=String, broker_order_id=String,
    attempt_count=Integer, brokers_tried=Integer, fell_back=Boolean, filled_quantity=Money, remaining_quantity=Money,
    avg_fill_price=Money, filled_notional=Money, reason=String, reason_code=String, created_at=UtcTime,
    expires_at=UtcTime, submitted_at=UtcTime, accepted_at=UtcTime, closed_at=UtcTime, updated_at=UtcTime,
    group_id=String, leg=String, legs=JSON, good_till=UtcTime, limit_offset=Money, display_quantity=Money,
    hidden=Boolean, algo=JSON, account=String, broker_status=String,
)  # fmt: skip
#: One row for each leg.
v_groups = _view(
    "v_groups", group_id=String, kind=String, status=String, reason=String, strategy=String, broker=String,
    client_order_id=String, leg=String, symbol=String, side=String, quantity=Money, order_type=String,
    limit_price=Money, stop_price=Money, leg_status=String, filled_quantity=Money, avg_fill_price=Money,
    broker_order_id=String, created_at=UtcTime, closed_at=UtcTime, updated_at=UtcTime, account=String,
)  # fmt: skip
v_fills = _view(
    "v_fills", broker=String, execution_id=String, client_order_id=String, attempt_no=Integer, strategy=String,
    symbol=String, side=String, quantity=Money, price=Money, notional=Money, currency=String, multiplier=Money,
    commission=Money, commission_currency=String, late=Boolean, inferred=Boolean, filled_at=UtcTime,
    recorded_at=UtcTime, leg=Integer, account=String,
)  # fmt: skip
v_attempts = _view(
    "v_attempts", client_order_id=String, attempt_no=Integer, strategy=String, symbol=String, side=String,
    quantity=Money, broker=String, broker_client_order_id=String, broker_order_id=String, outcome=String, code=String,
    message=String, worker=String, session=String, started_at=UtcTime, ended_at=UtcTime, checks=Integer,
    sent_at=UtcTime, next_check_at=UtcTime, evidence=JSON, account=String,
)  # fmt: skip
v_latency = _view(
    "v_latency", client_order_id=String, strategy=String, symbol=String, broker=String, attempt_count=Integer,
    created_at=UtcTime, queue_ms=Money, send_ms=Money, accept_ms=Money, fill_ms=Money,
)  # fmt: skip
#: The journal as `corro events` shows it; the history reads the table itself.
v_events = _view(
    "order_events", id=Integer, client_order_id=String, at=UtcTime, kind=String, from_status=String, to_status=String,
    detail=String, strategy=String,
)  # fmt: skip
v_external_orders = _view(
    "v_external_orders", broker=String, broker_order_id=String, broker_client_order_id=String, symbol=String,
    side=String, order_type=String, time_in_force=String, quantity=Money, limit_price=Money, stop_price=Money,
    filled_quantity=Money, avg_fill_price=Money, status=String, raw_status=String, submitted_at=UtcTime,
    first_seen_at=UtcTime, last_seen_at=UtcTime, account=String,
)  # fmt: skip
v_external_fills = _view(
    "v_external_fills", broker=String, execution_id=String, broker_order_id=String, symbol=String, side=String,
    quantity=Money, price=Money, notional=Money, currency=String, multiplier=Money, commission=Money,
    commission_currency=String, filled_at=UtcTime, recorded_at=UtcTime, account=String,
)  # fmt: skip
v_positions = _view(
    "v_positions", broker=String, account=String, strategy=String, symbol=String, quantity=Money, avg_price=Money,
    cost=Money, currency=String, multiplier=Money, source=String, price=Money, price_at=UtcTime, price_source=String,
    unrealized=Money,
)  # fmt: skip
v_position_days = _view(
    "v_position_days", day=Date, broker=String, account=String, strategy=String, symbol=String, quantity=Money,
    avg_price=Money, cost=Money, currency=String, multiplier=Money, source=String,
)  # fmt: skip
v_pnl = _view(
    "v_pnl", day=Date, broker=String, account=String, strategy=String, symbol=String, currency=String, realized=Money,
    unrealized=Money, fees=Money, fees_missing=Integer, day_timezone=String, source=String,
)  # fmt: skip
v_tca = _view(
    "v_tca", client_order_id=String, execution_id=String, broker=String, strategy=String, symbol=String, side=String,
    quantity=Money, price=Money, decision_price=Money, arrival_mid=Money, arrival_at=UtcTime, slippage_decision=Money,
    slippage_decision_bps=Money, slippage_arrival=Money, slippage_arrival_bps=Money, attempt_no=Integer,
    order_type=String, currency=String, filled_at=UtcTime, interval_vwap=Money, slippage_vwap=Money,
    slippage_vwap_bps=Money, account=String,
)  # fmt: skip
v_cash = _view(
    "v_cash", broker=String, event_id=String, account=String, kind=String, amount=Money, currency=String, symbol=String,
    quantity=Money, price=Money, client_order_id=String, detail=String, at=UtcTime,
)  # fmt: skip
v_told_executions = _view(
    "v_told_executions", broker=String, account=String, strategy=String, symbol=String, quantity=Money, price=Money,
    currency=String, multiplier=Money, source=String, kind=String, event_id=String, reason=String, filled_at=UtcTime,
    recorded_at=UtcTime,
)  # fmt: skip
v_equity = _view(
    "v_equity", day=Date, broker=String, account=String, currency=String, equity=Money, cash=Money, peak=Money,
    drawdown=Money, drawdown_percent=Money, at=UtcTime, day_timezone=String,
)  # fmt: skip
