"""`corro approve` and `corro deny`: what a person says of an order that is held for it."""

from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from producers.cli.app import Form, Json, Wide, client, tell, whole_id

if TYPE_CHECKING:
    from models.record.rows import ReadableOrder
    from producers.client import OrderClient

By = Annotated[str, typer.Option(help="who; kept for ever")]
Reason = Annotated[str | None, typer.Option(help="why; kept for ever")]
_COLUMNS = ("client_order_id", "status", "broker", "symbol", "side", "quantity", "reason")


class _Decision(Protocol):
    def __call__(
        self, client: "OrderClient", client_order_id: str, /, *, by: str, reason: str | None
    ) -> "ReadableOrder":
        """Decide about an order."""


def approve(
    client_order_id: str,
    by: By,
    reason: Reason = None,
    key: Annotated[str | None, typer.Option(help="of the approver, which may approve")] = None,
    key_file: Annotated[str | None, typer.Option(help="the file with its secret")] = None,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """Let an order go on that is held for approval; how long it may wait to be sent counts from now.

    Where there is a key that may approve, one has to sign it: --key and --key-file, or [security] key and key_file.
    """
    from worker.orders import releases

    def signed(client: "OrderClient", meant: str, *, by: str, reason: str | None) -> "ReadableOrder":
        from producers.signer import signer_of

        signer = signer_of(client.settings, client.database, key, key_file)
        return releases.approve(client, meant, by=by, reason=reason, signer=signer)

    _decide(signed, client_order_id, by, reason, Form(json, wide=wide))


def deny(client_order_id: str, by: By, reason: Reason = None, wide: Wide = False, json: Json = False) -> None:
    """End an order that is held for approval: it is denied, and nothing is sent."""
    from worker.orders import releases

    _decide(releases.deny, client_order_id, by, reason, Form(json, wide=wide))


def _decide(how: _Decision, client_order_id: str, by: str, reason: str | None, form: Form) -> None:
    from models.history import History

    with client() as c:
        meant = whole_id(client_order_id, History(c.database).ids, changes=True)
        row = how(c, meant, by=by.strip(), reason=reason)
    tell([row], _COLUMNS, form, document=row)
