"""A strategy's unit test: a client whose orders are executed in this process, at brokers that do what they are told.

Everything between the client and the broker is the worker's own: record, claim, send, fallback, cancel, replace. Only
Celery and the queue are not there; the sweep finds every order in the database, as it does when the queue is down.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from models.settings import Settings
from producers.client import OrderClient
from worker.brokers.base import BrokerInterface
from worker.brokers.fake import FakeBroker
from worker.engine import Engine

#: Seconds that a worker has to connect to its broker.
_CONNECT_S = 10.0
#: Nothing is waited for that nobody else could do first.
_TIMING = {"sweep_after": 0, "sweep_every": 0.05, "heartbeat_every": 0.2, "retry_pause": 0.05, "reconcile": (0.05, 0.2)}


class _Given(Settings):
    """Settings from code alone: a test must not depend on the machine it runs on."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: object,
        **more: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


@contextmanager
def rehearsal(home: Path, *brokers: BrokerInterface, **settings: Any) -> Iterator[OrderClient]:
    """Open a client whose orders are executed in this process.

    Args:
        home: an empty folder (pytest's `tmp_path`); the database is in it.
        brokers: adapters, in the order of the default route; one `FakeBroker` where none is named.
        settings: anything else of `Settings`, such as `routing` or `timing`.

    Raises:
        ConfigurationError: the settings are wrong.
    """
    used = brokers or (FakeBroker(),)
    given: dict[str, Any] = {
        "home": home,
        "redis_url": f"unix://{home.absolute()}/no-queue",
        "brokers": {broker.name: {"adapter": "fake"} for broker in used},
        "routing": {"route": [broker.name for broker in used]},
    }
    with ExitStack() as stack:
        known = _Given(**(given | settings | {"timing": _TIMING | settings.get("timing", {})}))
        client = stack.enter_context(OrderClient(known))
        for broker in used:
            engine = Engine(known, broker)
            engine.start()
            stack.callback(engine.stop)
            engine.gate.has_tried.wait(_CONNECT_S)
        yield client
