"""The command `preview`: what an order would cost, and who would refuse it, without sending it."""

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from producers.cli import show
from producers.cli.app import Form, client, tell
from producers.cli.orders import order_of, submit

if TYPE_CHECKING:
    from producers.lookups import PreviewRow

_COLUMNS = (
    "broker", "supported", "margin_before", "margin_after", "commission", "currency", "refused", "warnings",
)  # fmt: skip
#: Options of `submit` that are about an order that was sent.
_NOT_HERE = frozenset({"wait", "preview"})


def _with_terms_of(command: Callable[..., None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of another one, so that whoever has typed that only changes its name."""
    terms = [each for each in inspect.signature(command).parameters.values() if each.name not in _NOT_HERE]

    def wrap(made: Callable[..., None]) -> Callable[..., None]:
        made.__signature__ = inspect.Signature(terms)  # type: ignore[attr-defined]
        made.__annotations__ = {each.name: each.annotation for each in terms} | {"return": None}
        return made

    return wrap


@_with_terms_of(submit)
def preview(**options: Any) -> None:
    """Ask every broker on the route what it would say of an order: margin, commission, and why it would refuse it.

    Takes what `submit` takes; nothing is sent, and no order is recorded. `--preview DIGEST` of `submit` refuses an
    order on other terms than these. Exit 1: nobody on the route would take it, as far as they say.
    """
    request = order_of(options)
    with client() as c:
        found = c.preview(request, options["timeout"])
    show_previews(found, "corro submit", Form(options["json"], wide=options["wide"]))


def show_previews(found: "Sequence[PreviewRow]", command: str, form: Form) -> NoReturn:
    """Print what brokers would say of an order, or of a group, and end the command.

    Args:
        found: one row a broker.
        command: that sends it.
        form: how to print.
    """
    for digest in {row["digest"] for row in found}:
        show.note(f"digest {digest}: `{command} ... --preview DIGEST` takes these terms alone")
    tell(found, _COLUMNS, form, title="preview")
    taken = any(row["supported"] and not row["refused"] for row in found)
    raise typer.Exit(0 if taken else 1)
