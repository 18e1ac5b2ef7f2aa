"""Every error corro raises, by the one question that matters: did it reach the broker?

    CorroError
    |- ConfigurationError            an operator fixes it; the process exits 2
    |- InvalidOrder (ValueError)     denied at the producer, never enqueued
    |   |- Untrusted                 nobody who may trade stands behind it
    |- InvalidRequest (ValueError)   a data request, or a file to write, that makes no sense
    |- IdempotencyConflict           the same client_order_id with another body
    |- DatabaseUnavailable           nothing was recorded, nothing was enqueued
    |   |- DatabaseBusy              two transactions met: doing the same again helps
    |- NotRecorded                   a message rings for orders that are in no row here
    |- QueueUnavailable              only the queue knows, and it does not answer; orders do not need it
    |- NotFound                      no such order, fetch or broker
    |- BrokerError
    |   |- NotSent                   proof that nothing left us    -> retry or fall back freely
    |   |   |- NotConnected (AccessLost)  Stale  QuotaExhausted  Unsupported  Denied
    |   |- Refused                   the broker answered no        -> the routing table decides
    |   |   |- OrderRejected  InsufficientFunds  InstrumentUnknown  NotPermitted  RateLimited
    |   |- OutcomeUnknown            it may be live                -> reconcile; never resend, never fall back
    |       |- SubmitTimeout  ConnectionLost  ServerError  UnreadableReply  Unmapped
    |- DataError                     a read failed; reads may always be repeated
        |- NoData  NoSuchSymbol  PacingViolation  DataNotPermitted

Routing matches the three branches, never a leaf's name alone, so a new leaf cannot change safety.
"""

from __future__ import annotations

from typing import TypedDict, Unpack

from models.outward import discreet


class CorroError(Exception):
    """Base of every error raised by corro; its words are kept in rows and shown, so they hold no secret of ours."""

    def __init__(self, *words: object) -> None:
        super().__init__(*(discreet(word) if isinstance(word, str) else word for word in words))


class ConfigurationError(CorroError):
    """A setting is missing or wrong; the message names it and says what to do."""


class InvalidOrder(CorroError, ValueError):
    """An order that cannot be executed as written; the message names the field and the value."""


class Untrusted(InvalidOrder):
    """Nobody who may trade stands behind an order or a wish.

    Args:
        code: why, as one word: not_signed, bad_signature, key_unknown ...
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class InvalidRequest(CorroError, ValueError):
    """A request that cannot be done as it is made; the message names the field and the value."""


class IdempotencyConflict(CorroError):
    """This client_order_id was used before for a different order."""


class DatabaseUnavailable(CorroError):
    """The database cannot be reached; nothing was recorded and nothing was enqueued."""


class DatabaseBusy(DatabaseUnavailable):
    """The database ended this transaction in favour of another one; nothing was recorded, doing it again helps."""


class NotRecorded(CorroError):
    """A ring names orders that this database does not have: whoever rang has recorded them in another one."""


class QueueUnavailable(CorroError):
    """The queue's server cannot be reached. No order depends on it: only a question that is about the queue itself."""


class CollectorUnavailable(CorroError):
    """Whoever collects traces did not take them."""


class OutputLost(CorroError):
    """What a command had to tell could not be written; what it has done stays done."""


class NotFound(CorroError, LookupError):
    """There is nothing under this name."""


class ErrorFacts(TypedDict, total=False):
    """What every `BrokerError` takes beside its message."""

    broker: str | None
    code: str | None
    retry_after: float | None


class BrokerError(CorroError):
    """A broker, or the way to it, did not do what was asked.

    Args:
        message: what happened, with which values, and what to do.
        broker: name of the broker from the settings.
        code: the broker's own code, as text, if it gave one.
        retry_after: seconds after which the same broker may be asked again; None if it did not say.
    """

    def __init__(
        self, message: str, *, broker: str | None = None, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.broker = broker
        self.code = code
        self.retry_after = retry_after


class NotSent(BrokerError):
    """No order of this attempt is at the broker: nothing left this process, or the broker was shown not to have it."""


class NotConnected(NotSent):
    """There is no connection to the broker, or it is not reconciled yet."""


class AccessLost(NotConnected):
    """The broker refuses our keys, our session or our account, whatever is asked: nothing was placed.

    An adapter raises it from any request, for prices too (401 or 403 to everything, an account that the broker does not
    know any more). The gate closes at once, and the connection is made anew.
    """


class Denied(NotSent):
    """Our own rules forbid it: a halt, no position to close. `code` is the order's reason_code if it ends so.

    Args:
        everywhere: no broker may have it; else only this one may not.
    """

    def __init__(self, message: str, *, everywhere: bool = False, **given: Unpack[ErrorFacts]) -> None:
        super().__init__(message, **given)
        self.everywhere = everywhere


class Stale(NotSent):
    """The claim on the order was too old to send under; another worker may own it by now."""


class QuotaExhausted(NotSent):
    """Our own pacing held the order back, or the broker throttled it before taking it."""


class Unsupported(NotSent):
    """This broker cannot do what the order asks; known before sending."""


class Refused(BrokerError):
    """The broker answered no, definitively: the order does not exist there, or is dead without a fill.

    Args:
        broker_order_id: of the order that the broker made and called rejected; None where it made none.
    """

    def __init__(self, message: str, *, broker_order_id: str | None = None, **given: Unpack[ErrorFacts]) -> None:
        super().__init__(message, **given)
        self.broker_order_id = broker_order_id


class OrderRejected(Refused):
    """Rejected for a reason without a class of its own."""


class InsufficientFunds(Refused):
    """Not enough buying power, or not enough shares to sell."""


class InstrumentUnknown(Refused):
    """The broker does not know, or does not trade, this symbol."""


class NotPermitted(Refused):
    """The account, the keys or the permissions do not allow it."""


class RateLimited(Refused):
    """The broker answered 'too many requests' without taking the order."""


class OutcomeUnknown(BrokerError):
    """The order may be live at the broker: ask, never guess."""


class SubmitTimeout(OutcomeUnknown):
    """No answer within the deadline."""


class ConnectionLost(OutcomeUnknown):
    """The connection broke after bytes had left."""


class ServerError(OutcomeUnknown):
    """The broker's server failed while it had the order."""


class UnreadableReply(OutcomeUnknown):
    """The answer could not be understood, or names another order."""


class Unmapped(OutcomeUnknown):
    """An error nobody has classified: unknown until somebody has."""


class DataError(CorroError):
    """A read failed."""


class NoData(DataError):
    """The broker answered, completely, that it has nothing in this stretch or of this kind; never a failure."""


class NoSuchSymbol(DataError):
    """The broker does not know this symbol: nothing it says about it is an empty answer."""


class PacingViolation(DataError):
    """Too many reads; try again after `retry_after` seconds.

    Args:
        message: what happened.
        retry_after: seconds; None if nobody said.
        ours: our own budget held it back, and the broker was not asked.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, ours: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.ours = ours


class DataNotPermitted(DataError):
    """The account has no permission for this data."""
