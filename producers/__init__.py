"""What a strategy imports: the client, the order request, and the errors they raise. No broker SDK comes with it.

Each name is imported when it is first asked for: the command line is in this package, too, and most of its commands
need neither the queue's client nor pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.errors import (
        ConfigurationError,
        DatabaseUnavailable,
        DataError,
        IdempotencyConflict,
        InvalidOrder,
        InvalidRequest,
        NotFound,
    )
    from models.messages import OrderRequest
    from producers.client import OrderClient
    from producers.groups import OrderGroup
    from producers.handles import Fetch, Order
    from producers.unified import UnifiedBroker

__all__ = [
    "ConfigurationError",
    "DataError",
    "DatabaseUnavailable",
    "Fetch",
    "IdempotencyConflict",
    "InvalidOrder",
    "InvalidRequest",
    "NotFound",
    "Order",
    "OrderClient",
    "OrderGroup",
    "OrderRequest",
    "UnifiedBroker",
]

_MODULES = {
    "OrderRequest": "models.messages", "OrderClient": "producers.client", "Fetch": "producers.handles",
    "Order": "producers.handles", "OrderGroup": "producers.groups", "UnifiedBroker": "producers.unified",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "models.errors")), name)
