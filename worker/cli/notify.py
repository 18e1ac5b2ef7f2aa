"""`corro notify test`: say something to everybody who is told when something needs a person."""

import typer

from models.errors import ConfigurationError
from producers.cli.app import Form, Json, Wide, tell

_COLUMNS = ("number", "service", "state", "error")


def try_out(wide: Wide = False, json: Json = False) -> None:
    """Send a test message to every URL of notify.urls, and ask for the heartbeat's; exit 1 unless all took it."""
    from models.logs import configure
    from models.settings import load_settings
    from worker.notify import sending

    configure("CRITICAL")  # what went wrong is in the table
    settings = load_settings()
    if not settings.notify.is_used:
        raise ConfigurationError("nobody is told of anything: set [notify] urls, or heartbeat_url")
    urls = settings.notify.addresses
    if urls:
        sending.must_be_usable(urls)
    words = "A test, by hand: nothing is wrong.\nSent by `corro notify test`."
    found = [(url, sending.send(url, "corro test", words, sending.INFO)) for url in urls]
    if beat := settings.notify.heartbeat_url.get_secret_value():
        found.append((beat, sending.beat(beat)))
    rows = [
        {"number": number, "service": sending.shown(url), "state": "failed" if why else "sent", "error": why}
        for number, (url, why) in enumerate(found, 1)
    ]
    tell(rows, _COLUMNS, Form(json, wide=wide), title="notifications")
    raise typer.Exit(1 if any(why for _, why in found) else 0)
