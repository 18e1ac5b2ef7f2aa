"""`corro resolve`, `corro settle`: what nobody but a person can know of an order, or of linked ones."""

from typing import Annotated

import typer

from producers.cli.app import Form, Json, Wide, client, operator, tell, whole_id


def resolve(
    client_order_id: str,
    absent: Annotated[bool, typer.Option("--absent", help="the broker does not have it, you have checked")] = False,
    adopt: Annotated[str | None, typer.Option(metavar="BROKER_ORDER_ID", help="this order at the broker is it")] = None,
    noted: Annotated[bool, typer.Option("--noted", help="you have looked at the unexplained execution")] = False,
    by: Annotated[str | None, typer.Option(help="who takes responsibility")] = None,
    reason: Annotated[str | None, typer.Option(help="why; kept with the order")] = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Settle an unknown outcome by hand, on somebody's word; it is kept with that name."""
    from models.history import History
    from worker.orders.resolve import note
    from worker.orders.resolve import resolve as settle

    if [absent, adopt is not None, noted].count(True) != 1:
        raise typer.BadParameter("say either --absent, --adopt BROKER_ORDER_ID or --noted")
    if by is None:
        raise typer.BadParameter("--by is required: the record keeps who decided this")
    with client() as c:
        meant = whole_id(client_order_id, History(c.database).ids, changes=True)
        row = note(c, meant, by=by, reason=reason) if noted else settle(c, meant, adopt=adopt, by=by, reason=reason)
    columns = ("client_order_id", "status", "broker", "broker_order_id", "reason")
    tell([row], columns, Form(json, wide=wide), document=row)


def settle(
    group_id: str,
    by: Annotated[str | None, typer.Option(help="who takes responsibility; default the login name")] = None,
    reason: Annotated[str | None, typer.Option(help="what was done about it; kept in the journal")] = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Close linked orders that are broken, every leg of which has ended: somebody has dealt with them."""
    from models.history import History
    from worker.orders.dealt_with import deal_with

    if reason is None:
        raise typer.BadParameter("--reason is required: the record keeps what was done about it")
    with client() as c:
        meant = whole_id(group_id, History(c.database).group_ids, changes=True, of=("group", "group_id"))
        row = deal_with(c, meant, by=operator(by), reason=reason)
    tell([row], ("group_id", "kind", "status", "reason"), Form(json, wide=wide), document=row)
