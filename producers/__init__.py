"""What a strategy imports: the client, the order request, and the errors they raise. No broker SDK comes with it."""

from models.errors import ConfigurationError, DatabaseUnavailable, IdempotencyConflict, InvalidOrder, NotFound
from models.messages import OrderRequest
from producers.client import OrderClient
from producers.handles import Fetch, Order
from producers.unified import UnifiedBroker

__all__ = [
    "ConfigurationError",
    "DatabaseUnavailable",
    "Fetch",
    "IdempotencyConflict",
    "InvalidOrder",
    "NotFound",
    "Order",
    "OrderClient",
    "OrderRequest",
    "UnifiedBroker",
]
