"""The part of the seam that needs no order: which instruments a broker has, and what an order would cost there.

Nothing here may leave a trace at the broker that could be taken for an order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from models.errors import InstrumentUnknown, NotPermitted, RateLimited, Refused, Unsupported
from models.groups import GroupKind
from models.instruments import Instrument
from models.lookups import FoundInstruments, InstrumentQuery, InstrumentReport, PreviewReport
from models.messages import OrderRequest
from models.vocabulary import AssetClass
from worker.brokers.accounts import check_account

if TYPE_CHECKING:
    from worker.brokers.base import Capabilities


#: What linked orders have to be: said of the lead and its legs, with the words for a broker that links no others.
LinkRule = tuple[Callable[[OrderRequest, Sequence[OrderRequest]], bool], str]


class Lookups:
    """What an adapter tells besides orders; every method has a default, for brokers that tell nothing."""

    name: str
    capabilities: Capabilities
    accounts: tuple[str, ...]
    #: What the broker links, by kind, beside `capabilities.groups`.
    link_rules: ClassVar[Mapping[GroupKind, Sequence[LinkRule]]] = {}
    _resolved: Callable[[InstrumentReport], None] | None = None
    _known: Callable[[OrderRequest], None] | None = None
    _recall: Callable[[Instrument], Mapping[str, str] | None] | None = None

    def resolutions(
        self,
        callback: Callable[[InstrumentReport], None],
        known: Callable[[OrderRequest], None],
        recall: Callable[[Instrument], Mapping[str, str] | None] | None = None,
    ) -> None:
        """Register who keeps what is resolved on the way of an order, and holds orders against what is known.

        Args:
            callback: takes what was resolved; it must not block.
            known: raises Unsupported for an order that breaks what the broker has told of its instrument.
            recall: returns the `detail` of what was resolved lately, before a restart too.
        """
        self._resolved, self._known, self._recall = callback, known, recall

    def check_known(self, order: OrderRequest) -> None:
        """Hold an order against what the broker has told of its instrument, as far as somebody keeps that.

        Raises:
            Unsupported: with the field, the value and the rule.
        """
        if self._known is not None:
            self._known(order)

    def find_instruments(self, wanted: InstrumentQuery) -> FoundInstruments:
        """Return what the broker knows under a name, or what expires of an underlying.

        Raises:
            NoSuchSymbol: it has no such thing. Unsupported: it does not tell, or does not trade that class.
            DataError, BrokerError: it could not be read.
        """
        raise Unsupported(f"{self.name} tells nothing of instruments", broker=self.name)

    def check_order(self, order: OrderRequest) -> None:
        """Check the terms of an order as far as this can be done without the broker.

        Raises:
            Unsupported: with the field and the value.
        """
        self.capabilities.check(order, self.name)

    def preview_order(self, order: OrderRequest) -> PreviewReport:
        """Return what the broker says of an order that is not sent; nothing it says is a report about an order.

        It has passed `check_group`, as the only one.

        Raises:
            Unsupported, InstrumentUnknown, Refused: it takes no such order, or would refuse this one.
            DataError, BrokerError: it could not be asked.
        """
        return self.preview_group([order])

    def check_group(self, legs: Sequence[OrderRequest]) -> None:
        """Check the terms of linked orders, the lead first, as far as this can be done without the broker.

        Raises:
            Unsupported: with the rule.
        """
        for leg in legs:
            self.check_order(leg)
        self.check_links(legs)

    def check_links(self, orders: Sequence[OrderRequest]) -> None:
        """Check how orders are linked, the lead first, each of which has passed by itself; one on its own passes.

        Raises:
            Unsupported: with the rule.
        """
        lead, *legs = orders
        if lead.group is None:
            return
        if not legs:
            words = f"{self.name}: the {lead.group.leg} of a group is not sent without its legs"
            raise Unsupported(words, broker=self.name)
        for holds, words in self.link_rules.get(lead.group.kind, ()):
            if not holds(lead, legs):
                of = f"group {lead.group.id}, {lead.group.kind}"
                raise Unsupported(f"{self.name} {words} ({of})", broker=self.name)

    def preview_group(self, legs: Sequence[OrderRequest]) -> PreviewReport:
        """Return what the broker says of linked orders, the lead first, that are not sent.

        They have passed `check_group`.

        Raises:
            As `preview_order`.
        """
        return PreviewReport()


def meant(wanted: InstrumentQuery, kinds: Sequence[AssetClass], broker: str) -> Instrument:
    """Return what a name means at a broker that trades these kinds: the first of its meanings that is of one of them.

    Raises:
        Unsupported: the name is of no such kind.
    """
    for instrument in wanted.named:
        if instrument.asset_class in kinds:
            return instrument
    words = f"{wanted.asset_class} {wanted.text}" if wanted.asset_class else wanted.text
    raise Unsupported(f"{broker} does not trade {words} (it trades {', '.join(kinds)})", broker=broker)


def previewed(broker: Lookups, order: OrderRequest, *others: OrderRequest) -> PreviewReport:
    """Ask a broker for a preview; what it does not take is an answer, too.

    Args:
        broker: the adapter.
        order: what is previewed, or the lead of a group.
        others: the other legs of the group.

    Raises:
        DataError, BrokerError: it could not be asked.
    """
    try:
        for one in (order, *others):
            check_account(one, broker)
        broker.check_group([order, *others])
        for one in (order, *others):
            broker.check_known(one)
        return broker.preview_group([order, *others]) if others else broker.preview_order(order)
    except (Unsupported, InstrumentUnknown) as error:
        return PreviewReport(supported=False, refused=str(error))
    except (RateLimited, NotPermitted):
        raise
    except Refused as error:
        return PreviewReport(refused=str(error))
