"""The list of instruments: what brokers have told, or, for whoever has logged in, what one of them tells now."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Request, Response

from models.errors import DataError, NotFound
from producers.client import OrderClient
from worker.page.chosen import Filters
from worker.page.doors import told
from worker.page.pages import ROWS, Limit
from worker.page.sessions import known

Word = Annotated[str | None, Query(max_length=64)]
#: Seconds that a broker has to tell: a request may not hold a thread of the server longer.
_ASK_S = 10.0


def add_lookups(app: FastAPI, client: OrderClient) -> None:
    """Add the route."""
    filters = Filters(client.settings, client.database)

    @app.get("/api/v1/instruments", tags=["lists"])
    def instruments(
        request: Request,
        query: Word = None,
        asset_class: Word = None,
        expiry: Word = None,
        broker: Word = None,
        ask: bool = False,
        limit: Limit = ROWS,
    ) -> Response:
        """List instruments, those that expire first before others: the columns of `instruments`.

        By default what brokers have told before. With `ask` one is asked for `query` now, as by `corro instruments`;
        that takes of its budget, so it is for whoever shows a key.
        """
        route = filters.read("broker", broker) if broker else None
        if not ask:
            return told(client.kept_instruments(query, asset_class, expiry=expiry, brokers=route, limit=limit))
        known(request)
        fetch = client.instruments(query or "", asset_class, expiry=expiry, limit=limit, route=route)
        try:
            return told(fetch.result(_ASK_S).rows(fetch.broker, fetch.row()["ended_at"]))
        except DataError as error:
            if fetch.row()["status"] == "failed":
                raise NotFound(str(error)) from None
            raise
