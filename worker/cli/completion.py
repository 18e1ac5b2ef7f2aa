"""`corro completion SHELL`: the script by which a shell completes commands, options, brokers and ids of orders."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Protocol

import typer

from producers.cli.app import history

#: Shells set it when they ask; its name is Typer's.
ASKED = "_CORRO_COMPLETE"
#: The newest orders, whose ids are offered.
_IDS = 100


class Parameter(Protocol):
    """A parameter of a command, as far as values are offered for it."""

    param_type_name: str
    name: str | None
    _custom_shell_complete: Callable[[object, object, str], list[str]] | None


class ShellName(StrEnum):
    """Shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[ShellName, typer.Argument(help="whose script")]) -> None:
    """Print the script that completes commands, options, brokers and ids of orders in a shell."""
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name="corro", complete_var=ASKED, shell=str(shell)))


def answer(app: typer.Typer) -> None:
    """Answer a shell that asks what may follow, and exit; whatever fails is answered with nothing."""
    with suppress(Exception):  # its modules are Typer's own, and another version may not have them
        from typer._completion_classes import completion_init
        from typer.main import get_command

        completion_init()
        command = get_command(app)
        for parameter in _parameters(command):
            values = _VALUES.get((parameter.param_type_name, parameter.name or ""))
            if values is not None:
                parameter._custom_shell_complete = _offering(values)  # what typer.Option(autocompletion=) fills
        command.main(prog_name="corro")
    raise SystemExit(1)


def _parameters(command: object) -> Iterator[Parameter]:
    """Yield the parameters of a command and of those behind it."""
    yield from getattr(command, "params", ())
    for below in getattr(command, "commands", {}).values():
        yield from _parameters(below)


def _offering(values: Callable[[], list[str]]) -> Callable[[object, object, str], list[str]]:
    def offer(_context: object, _parameter: object, begun: str) -> list[str]:
        with suppress(Exception):  # no settings, no database: a shell shows no errors while somebody types
            return [value for value in values() if value.startswith(begun)]
        return []

    return offer


def _brokers() -> list[str]:
    from models.settings import load_settings

    return list(load_settings().all_brokers)


def _newest_ids() -> list[str]:
    from models.history import v_orders

    with history() as h:
        return [str(row["client_order_id"]) for row in h.rows(v_orders, limit=_IDS)]


#: Of which parameters values are offered, by kind and name.
_VALUES: dict[tuple[str, str], Callable[[], list[str]]] = {
    ("option", "broker"): _brokers, ("option", "route"): _brokers, ("argument", "broker"): _brokers,
    ("argument", "client_order_id"): _newest_ids, ("argument", "ids"): _newest_ids,
}  # fmt: skip
