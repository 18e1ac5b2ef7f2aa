"""A year of minute bars: from the call to the DataFrame, against paging through the door oneself."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import requests

from benchmarks.house import BenchHouse
from benchmarks.report import Part, Scale, Table, Target, ratio, spread
from models.settings import load_settings
from producers.client import OrderClient
from worker.local.processes import Fleet

WORDS = """\
From the call to a DataFrame, through the queue, a worker and the database, where the bars stay. The floor pages through
the same door with requests and keeps nothing; the door itself makes the prices up and takes most of the time."""
_WANTED = 1.3
SYMBOLS = ("AAPL", "MSFT", "KO", "NVDA", "AMZN")


def measure(house: BenchHouse, scale: Scale) -> Part:
    """Fetch another symbol each round, in both ways."""
    months = scale.of(12, 1)
    start = datetime(2025, 1, 2, tzinfo=UTC)
    end = datetime(2026, 1, 2, tzinfo=UTC) if months == 12 else datetime(2025, 2, 2, tzinfo=UTC)
    found: dict[str, list[float]] = {}
    count = 0
    settings = load_settings(home=house.folder("bars"))
    environment = {"CORRO_LOG_LEVEL": "WARNING"}
    with Fleet(settings, sandbox=True, any_port=True, brokers=("alpaca",), environment=environment) as fleet:
        fleet.wait_ready()
        url = str(fleet.settings.broker("alpaca").get("data_url"))
        with OrderClient(fleet.settings) as client:
            for symbol in SYMBOLS[: scale.of(2, 1)]:
                began = time.monotonic()
                frame = client.bars(symbol, "1Min", start, end, route=["alpaca"]).result(timeout=300)
                found.setdefault("corro", []).append(time.monotonic() - began)
                began = time.monotonic()
                floor = _paged(url, symbol, start, end)
                found.setdefault("paging by hand (floor)", []).append(time.monotonic() - began)
                if len(frame) != len(floor):
                    raise RuntimeError(f"{len(frame)} bars of {symbol}, by hand {len(floor)}")
                count = len(frame)
    base = found["paging by hand (floor)"]
    rows = [[title, spread(seconds, 2), f"{ratio(seconds, base):.2f}"] for title, seconds in found.items()]
    title = f"{count:,} minute bars" + (", a year" if months == 12 else ", a month")
    part = Part("bars", "A year of minute bars", WORDS, figures=found)
    part.tables.append(Table(title, ["way", "seconds [rounds]", "of the floor"], rows))
    one = ratio(found["corro"], base)
    words = f"a year of minute bars, of paging by hand: at most {_WANTED:g}"
    part.targets.append(Target(words, one <= _WANTED, f"{one:.2f} of it", "bars"))
    return part


def _paged(url: str, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
    query: dict[str, Any] = {"timeframe": "1Min", "start": start.isoformat(), "end": end.isoformat(), "limit": 10_000}
    rows: list[dict[str, Any]] = []
    with requests.Session() as session:
        session.headers.update({"APCA-API-KEY-ID": "sandbox", "APCA-API-SECRET-KEY": "sandbox"})
        while True:
            answer = session.get(f"{url}/v2/stocks/{symbol}/bars", params=query, timeout=30)
            answer.raise_for_status()
            page = answer.json()
            rows += page["bars"] or []
            if not page.get("next_page_token"):
                break
            query["page_token"] = page["next_page_token"]
    frame = pd.DataFrame(rows)
    frame["t"] = pd.to_datetime(frame["t"], utc=True)
    last = frame["t"] < pd.Timestamp(end)  # the door's end is inclusive, corro's is not
    return frame[last].set_index("t")
