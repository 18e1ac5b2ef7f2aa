"""What a strategy imports: the client, the order request, and the errors they raise. No broker SDK comes with it."""

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
    "OrderRequest",
    "UnifiedBroker",
]
