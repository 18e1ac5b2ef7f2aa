"""`corro keys`: who may trade, with which key and within which bounds."""

from typing import TYPE_CHECKING, Annotated

import typer

from producers.cli import show
from producers.cli.app import Form, Json, Out, Wide, moment, opened, operator, tell

if TYPE_CHECKING:
    from models.record.key_rows import KeyRow


_COLUMNS = (
    "key_id", "alg", "owner", "state", "strategies", "symbols", "brokers", "may_cancel", "operator", "may_approve",
    "needs_approval", "not_before", "not_after",
)  # fmt: skip
By = Annotated[str | None, typer.Option(help="who; default the login name")]


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def add_key(
    key_id: Annotated[str, typer.Argument(help="its name: letters, digits and . _ -")],
    alg: Annotated[str, typer.Option(help="ed25519, hmac-sha256 or token")] = "ed25519",
    owner: Annotated[str | None, typer.Option(help="whose it is; default: who adds it")] = None,
    public: Annotated[str | None, typer.Option(help="ed25519: the public key, base64url")] = None,
    secret_file: Annotated[str | None, typer.Option(help="hmac-sha256: the file with the shared secret")] = None,
    make_file: Annotated[str | None, typer.Option(help="ed25519: make a key; its private half goes here")] = None,
    strategies: Annotated[str | None, typer.Option(help="only these, such as dip,dividends")] = None,
    symbols: Annotated[str | None, typer.Option(help="only these")] = None,
    brokers: Annotated[str | None, typer.Option(help="only these")] = None,
    may_cancel: Annotated[str, typer.Option(help="own, strategy or all: whose orders")] = "own",
    operator_: Annotated[bool, typer.Option("--operator", help="may do what operators do")] = False,
    needs_approval: Annotated[bool, typer.Option("--needs-approval", help="its orders wait for a person")] = False,
    may_approve: Annotated[bool, typer.Option("--may-approve", help="may approve orders of others")] = False,
    not_before: Annotated[str | None, typer.Option(help="ISO time or date: not valid before")] = None,
    not_after: Annotated[str | None, typer.Option(help="ISO time or date: not valid after")] = None,
    by: By = None,
    reason: Annotated[str | None, typer.Option(help="why; kept for ever")] = None,
    json: Json = False,
) -> None:
    """Add a key. A token is shown once, here, and kept as its digest."""
    from worker.control.keys import add
    from worker.control.known import unknown_names

    who = operator(by)
    wanted = _names(symbols)
    with opened() as (settings, database):
        for name in _names(brokers) or ():
            settings.broker(name)
        row, token = add(
            database, key_id, alg, by=who, reason=reason, public=public, secret_file=secret_file, make_file=make_file,
            owner=owner or who, strategies=_names(strategies), brokers=_names(brokers),
            symbols=None if wanted is None else [symbol.upper() for symbol in wanted],
            may_cancel=may_cancel, operator=operator_, needs_approval=needs_approval, may_approve=may_approve,
            not_before=moment("--not-before", not_before), not_after=moment("--not-after", not_after),
        )  # fmt: skip
        deployment = settings.security.deployment or database.deployment
        bounds = [("strategy", name) for name in row["strategies"] or ()] + [
            ("symbol", one) for one in row["symbols"] or ()
        ]
        unknown = unknown_names(database, settings, bounds)
    for line in unknown:
        show.note(f"corro: {line}")
    if json:
        show.document(
            _shown(row) | {"deployment": deployment} | ({} if token is None else {"token": token}), secret=True
        )
        return
    show.say(f"key {key_id} added: {alg}; signatures are made for deployment {deployment}")
    if make_file is not None:
        show.say(f"private key in {make_file}; public key {row['public_key']}")
    if token is not None:
        show.note("the token, shown this once:")
        show.secret(token)


def list_keys(out: Out = None, wide: Wide = False, json: Json = False) -> None:
    """List the keys, revoked ones too; none is shown with its secret."""
    from models.record.keys import all_keys
    from models.record.tables import keys

    with opened() as (_, database), database.read() as connection:
        found = [_shown(row) for row in all_keys(connection)]
    tell(found, _COLUMNS, Form(json, out, wide), title="" if found else "keys", table=keys)


def revoke_key(
    key_id: str,
    by: Annotated[str | None, typer.Option(help="who takes responsibility")] = None,
    reason: Annotated[str | None, typer.Option(help="why; kept for ever")] = None,
    json: Json = False,
) -> None:
    """Revoke a key: what is queued under it is denied; what is live stays until it is canceled."""
    from worker.control.keys import revoke

    if by is None or reason is None:
        raise typer.BadParameter("--by and --reason are required: the journal keeps who revoked it, and why")
    with opened() as (_, database):
        revoke(database, key_id, by=by, reason=reason)
    if json:
        show.document({"key_id": key_id, "state": "revoked"})
        return
    show.say(f"key {key_id} is revoked")


def _shown(row: "KeyRow") -> dict[str, object]:
    """Return a key as it may be shown: without its digest, and with its state."""
    from models.errors import Untrusted
    from models.messages import utcnow
    from models.trust import must_be_valid

    state = "valid"
    try:
        must_be_valid(row, utcnow())
    except Untrusted as error:
        state = str(error.code).removeprefix("key_")
    return {name: value for name, value in row.items() if name != "digest"} | {"state": state}
