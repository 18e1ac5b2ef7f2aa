"""`corro sandbox`: run the simulated market, and trouble one that runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from models.errors import ConfigurationError, InvalidOrder
from models.troubles import trouble
from producers.cli import show
from producers.cli.app import Form, Json, Wide, seconds, tell, whole

_FAULTS = ("door", "kind", "count", "symbol", "operation", "options")
_KINDS = ("kind", "doors", "meaning", "takes")
_LEDGER = ("at", "event", "door", "number", "client_order_id", "side", "quantity", "symbol", "cumulative", "price")


def run(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="where sandbox.json and ledger.jsonl are")] = None,
    any_port: Annotated[bool, typer.Option("--any-port", help="free ports instead of 8180-8184")] = False,
    seed: Annotated[int, typer.Option(parser=whole(0), metavar="N", help="of all prices")] = 7,
    fill_delay: Annotated[
        float, typer.Option(parser=seconds, metavar="S", help="seconds until a marketable order is filled")
    ] = 0.02,
) -> None:
    """Run it until Ctrl-C."""
    from models.settings import load_settings

    if context.invoked_subcommand is not None:
        context.obj = home or load_settings().home
        return
    from worker.sandbox.server import main as serve

    settings = load_settings()
    argv = ["--home", str(home or settings.home), "--seed", str(seed), "--fill-delay", str(fill_delay)]
    raise typer.Exit(serve([*argv, *settings.sandbox.arguments, *(["--ports-any"] if any_port else [])]))


def fault(
    context: typer.Context,
    door: Annotated[str, typer.Argument(help="ibkr, alpaca, tda, schwab, or * for all")],
    kind: Annotated[str, typer.Argument(help="refuse, hang, down, slow ...: `corro sandbox faults --kinds` has all")],
    count: Annotated[
        int | None, typer.Option(parser=whole(1), metavar="N", help="how many times; default until cleared")
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="only orders in this symbol")] = None,
    operation: Annotated[str | None, typer.Option(help="only this kind of call: place, list, cancel, ...")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="the fault's own, repeatable; JSON, or a text")
    ] = None,
) -> None:
    """Switch on a fault at a door of a running sandbox; what the fault does not know is refused."""
    options = dict(_pair(kind, text) for text in option or ())
    _ask(context, lambda control: control.add_fault(door, kind, count, symbol, operation, **options))
    show.note(f"{door}: {kind} is on" + (f", {count} times" if count else "; `corro sandbox clear` ends it"))


def clear(context: typer.Context, door: Annotated[str | None, typer.Argument(help="default all")] = None) -> None:
    """Switch faults off."""
    _ask(context, lambda control: control.clear_faults(door))
    show.note(f"{door or 'all doors'}: no faults")


def faults(
    context: typer.Context,
    kinds: Annotated[
        bool, typer.Option("--kinds", help="instead: every fault that there is, with its options")
    ] = False,
    wide: Wide = False,
    json: Json = False,
) -> None:
    """List the faults in force."""
    from worker.sandbox.fault_kinds import rows

    found = rows() if kinds else _ask(context, lambda control: control.faults())
    tell(found, _KINDS if kinds else _FAULTS, Form(json, wide=wide), title="faults")


def ledger(context: typer.Context, wide: Wide = False, json: Json = False) -> None:
    """List every order that reached a door, and what became of it."""
    found = _ask(context, lambda control: control.ledger())
    tell(found, _LEDGER, Form(json, wide=wide), title="ledger")


def price(
    context: typer.Context, symbol: str, value: Annotated[str | None, typer.Argument(help="none lets it walk")] = None
) -> None:
    """Pin a price."""
    now = _ask(context, lambda control: control.set_price(symbol.upper(), value))
    show.note(f"{symbol.upper()}: bid {now['bid']}, ask {now['ask']}")


def position(
    context: typer.Context,
    door: Annotated[str, typer.Argument(help="ibkr, alpaca, tda or schwab")],
    symbol: str,
    quantity: Annotated[str, typer.Argument(metavar="QTY", help="shares afterwards; after -- negative, for short")],
    account: Annotated[
        str, typer.Option(help="one of several behind the door's login, by its name; else the first")
    ] = "",
) -> None:
    """Set a position out of thin air, as a split, an assignment or a deposit would."""
    from models.settings import load_settings

    number = load_settings().sandbox.numbers(door).get(account, account) if account else ""
    _ask(context, lambda control: control.set_position(door, symbol.upper(), quantity, number))
    show.note(f"{door}: {symbol.upper()} is {quantity} now")


def _ask(context: typer.Context, question: Any) -> Any:
    import requests

    from worker.sandbox.control import SandboxControl

    if not (context.obj / "sandbox.json").exists():
        raise ConfigurationError(f"no sandbox runs in {context.obj.absolute()}: start `corro up` or `corro sandbox`")
    try:
        return question(SandboxControl.at(context.obj, timeout=5))
    except requests.HTTPError as error:
        raise InvalidOrder(f"sandbox: {error}") from None
    except (requests.RequestException, TimeoutError) as error:
        raise ConfigurationError(f"the sandbox in {context.obj.absolute()} does not answer: {trouble(error)}") from None


def _pair(kind: str, text: str) -> tuple[str, object]:
    from worker.sandbox.fault_kinds import read

    key, found, value = text.partition("=")
    if not found:
        raise InvalidOrder(f"--option: must be KEY=VALUE, was {text!r}")
    return key, read(kind, key, value)
