"""`make drill`: injects each fault of docs/page.md into a fleet of its own, and measures when it is seen, and where."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from models.notify import TOPICS
from tests.drill.faults import DRILLS, Drill, Scene
from tests.drill.watch import PageWatch, picture
from tests.kit import PostgresServer, World, eventually
from tests.kit.receiver import Receiver

#: What the page says it says within seconds, what an alert asks for within half a minute more.
_WITHIN_S = 90.0
_NOTIFY = {"disconnected_after": 3}


@dataclass
class DrillTimes:
    """Seconds from a fault's injection until it was told; None: it is not told this way."""

    fault: str
    page: float
    alert: float
    message: float | None
    over: float | None


def rehearse(drill: Drill, postgres: PostgresServer, home: Path, shots: Path | None = None) -> DrillTimes:
    """Inject one fault, and wait until the page, the alert's expression and the message have told of it.

    Raises:
        AssertionError: one of them did not, with what the page said instead.
    """
    receiver = Receiver()
    notify = {**_NOTIFY, "urls": [f"json://{receiver.place}/"]}
    with ExitStack() as stack:
        stack.callback(receiver.close)
        tables = {"notify": notify, **drill.tables}
        world = World(
            home, ("ibkr", "alpaca"), database_url=None if drill.on_sqlite else postgres.fresh(), tables=tables
        )
        stack.callback(world.close, check=False)
        world.fleet.start_all()
        watch = PageWatch(world.fleet.start_web())
        began = time.monotonic()

        def told(ready: Callable[[], object], what: Callable[[], object]) -> float:
            eventually(ready, _WITHIN_S, what)
            return round(time.monotonic() - began, 1)

        def heard(words: str) -> Callable[[], bool]:
            return lambda: any(words in message["title"] for message in receiver.told)

        with drill.strike(Scene(world, postgres)):
            page = told(lambda: re.search(drill.shows, watch.text(drill.path)), lambda: watch.text(drill.path))
            if shots and (chromium := shutil.which("chromium")):
                picture(chromium, watch.address + drill.path, shots / f"{drill.name.replace(' ', '-')}.png")
            message = told(heard(f"corro {drill.news}"), lambda: receiver.titles) if drill.news else None
            alert = told(lambda: watch.holds(drill.alert), watch.samples)
        began = time.monotonic()
        lasts = drill.news is not None and TOPICS[drill.news].lasts and drill.heals
        over = told(heard(f"corro {drill.news} over"), lambda: receiver.titles) if lasts else None
    return DrillTimes(drill.name, page, alert, message, over)


def main() -> int:
    """Rehearse those that are named, or all; returns 1 where one was not told."""
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("words", nargs="*", help="only faults whose names have one of these")
    parser.add_argument("--shots", type=Path, help="a folder for a picture of each page (needs chromium)")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    options = parser.parse_args()
    if options.shots:
        options.shots.mkdir(parents=True, exist_ok=True)
    wanted = [drill for drill in DRILLS if not options.words or any(word in drill.name for word in options.words)]
    found, failed = [], 0
    print(f"{'fault':44} {'page':>6} {'alert':>6} {'message':>8} {'over':>6}   seconds")
    for drill in wanted:
        server = PostgresServer()
        try:
            with tempfile.TemporaryDirectory(prefix="corro-drill-") as folder:
                seen = rehearse(drill, server, Path(folder), options.shots)
            found.append(asdict(seen))
            cells = ("-" if value is None else f"{value:.1f}" for value in (seen.message, seen.over))
            print(f"{seen.fault:44} {seen.page:6.1f} {seen.alert:6.1f} {next(cells):>8} {next(cells):>6}", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"{drill.name:44} NOT TOLD: {str(error)[:1500]}", flush=True)
        finally:
            server.close()
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
