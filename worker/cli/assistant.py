"""`corro mcp`: let an assistant read, and propose orders, by the Model Context Protocol on stdin and stdout."""

from typing import Annotated

import typer

from models.extras import must_have
from producers.cli.app import client


def mcp(
    key: Annotated[
        str | None, typer.Option(help="id of a key for assistants: its orders are held if it says so")
    ] = None,
    key_file: Annotated[str | None, typer.Option(help="the file with its secret, or its token")] = None,
) -> None:
    """Serve an assistant on stdin and stdout: it reads everything; its orders are held until somebody approves them.

    A key that is named here, and needs no approval, submits at once, within its bounds.
    """
    must_have("corro mcp", "mcp", "mcp")
    with client() as c:
        from producers.signer import signer_of
        from worker.page.tools import Assistant, assistant_server

        signer = None if key is None else signer_of(c.settings, c.database, key, key_file)
        assistant_server(Assistant(c, signer)).run()
