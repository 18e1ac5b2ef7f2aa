"""The server of the page: uvicorn, without what nobody needs here."""

from __future__ import annotations

import uvicorn

from models.record.database import Database
from models.settings import Settings
from worker.page.app import create_app

#: Seconds that open streams have when the server is to end.
_GRACE_S = 1


def server(settings: Settings, database: Database) -> uvicorn.Server:
    """Return the server; `run(sockets=[...])` serves until SIGINT or SIGTERM."""
    return uvicorn.Server(
        uvicorn.Config(
            create_app(settings, database),
            ws="none",  # uvicorn looks for a newer `websockets` than alpaca-trade-api lets be installed
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
