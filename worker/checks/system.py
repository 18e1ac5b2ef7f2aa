"""The checks that all brokers share: settings, database, queue, and who is at work."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import redis
from pydantic import SecretStr

from models.errors import ConfigurationError
from models.record.controls import NOUNS, ControlRow, in_force
from models.record.database import Database, current_revision, head_revision, make_url
from models.record.keys import named
from models.record.postgres import powers
from models.record.privileges import lacking
from models.record.reading import answer, lease_holders, leave_no_trace, server_clock, worker_rows
from models.record.rows import WorkerRow
from models.secret_files import variable
from models.settings import ALPACA_KEYS, Settings, config_file
from models.troubles import trouble
from models.vocabulary import CANNOT_READ
from producers.bell import connect
from producers.signer import signer_of
from worker.checks.advice import advice_for
from worker.checks.house import (
    judge_clock,
    judge_files,
    judge_notify,
    judge_own_key,
    judge_password,
    judge_powers,
    judge_privileges,
    judge_way,
    private_paths,
)
from worker.checks.steps import CheckLane, CheckState, CheckStep, Verdict, fail, ok, skip, warn, worst
from worker.control.scopes import scope_of
from worker.messaging import unread
from worker.messaging.dead_letters import SET_ASIDE
from worker.messaging.embedded_queue import server_binary
from worker.risk.live import objection
from worker.runtime.clock import utcnow

#: A commit slower than this is worth knowing: every batch of orders costs a few.
SLOW_COMMIT_MS = 100.0
_PASSWORD = re.compile(r"(://[^:@/;]*):[^@;]*@")
#: Shorter "secrets" are words such as `sandbox`, which must stay readable.
_SECRET_LENGTH = 8


@dataclass
class System:
    """What the shared checks work with."""

    settings: Settings
    limit_s: float
    database: Database | None = None
    doing: str = "settings"


def system_lane(settings: Settings, names: Sequence[str], limit_s: float) -> CheckLane[System]:
    """Return the lane of the shared checks; workers and halts are looked up for the brokers named."""
    steps: list[CheckStep[System]] = [
        CheckStep(name="settings", look=look_at_settings),
        CheckStep(name="database", look=look_at_database),
        CheckStep(name="queue", look=look_at_queue),
    ]
    steps += [
        CheckStep(name="workers", look=partial(_workers, name), needs=("database",), broker=name) for name in names
    ]
    live = [name for name in names if settings.broker(name).live]
    if settings.notify.is_used or live:
        steps.append(CheckStep(name="notify", look=_notify))
    if settings.security.require == "all":
        steps.append(CheckStep(name="keys", look=_own_key, needs=("database",)))
    steps += [CheckStep(name="limits", look=partial(_limits, name), needs=("database",), broker=name) for name in live]
    return CheckLane(
        None, steps, System(settings, limit_s), limit_s, explain=_explain, close=_close, secrets=secrets_of(settings)
    )


def secrets_of(settings: Settings) -> list[str]:
    """Return every secret of the settings that could stand in a message, longest first."""
    found = [
        value.get_secret_value()
        for table in settings.all_brokers.values()
        for value in (table.__pydantic_extra__ or {}).values()
        if isinstance(value, SecretStr)
    ]
    found += [variable(name) or "" for name in ALPACA_KEYS]
    found += [_password_in(url) for url in (settings.database_url, settings.redis_url)]
    found += settings.notify.secrets()
    return sorted({text for text in found if len(text) >= _SECRET_LENGTH}, key=len, reverse=True)


def _password_in(url: str) -> str:
    found = re.search(r"://[^:@/;]*:([^@;]*)@", url)
    return found[1] if found else ""


def _explain(error: Exception, system: System) -> Verdict:
    words = trouble(error)
    return fail(words, advice_for(system.doing, words, {}))


def _close(system: System) -> None:
    if system.database is not None:
        system.database.close()


# -- SETTINGS ---
def look_at_settings(system: System) -> Verdict:
    """Say which file and which environment variables are in force; names only, never a value."""
    path, settings = config_file(), system.settings
    names = sorted(name for name in os.environ if name.startswith(("CORRO_", "APCA_")))
    parts = [
        f"file {path.absolute()}" if path else "no corro.toml",
        f"environment {', '.join(names)}" if names else "no CORRO_ or APCA_ variables",
        "brokers of the sandbox" if settings.is_sandbox else f"brokers {', '.join(settings.all_brokers)}",
        f"route {', '.join(settings.route)}",
    ]
    words = "; ".join(parts)
    verdict = judge_files(private_paths(settings, path))
    return ok(words) if verdict.state is CheckState.OK else replace(verdict, words=f"{words}; {verdict.words}")


# -- DATABASE ---
def look_at_database(system: System) -> Verdict:
    """Open the database, compare its schema, and time one commit that leaves nothing behind."""
    system.doing = "database"
    url = make_url(system.settings.database)
    path = Path(url.database or "") if url.get_backend_name() == "sqlite" and url.database != ":memory:" else None
    if path is not None and not path.exists():
        return warn(f"{url!r} does not exist yet", "The first worker makes it; `corro db upgrade` makes it now.")
    database = Database(system.settings.database)
    current, head = current_revision(database), head_revision()
    if current != head:
        database.close()
        return fail(f"{url!r} is at schema {current or 'none'}, corro needs {head}", "Run `corro db upgrade`.")
    took = _commit_ms(database)
    system.database = database
    words = f"{url!r}, schema {current}, a commit takes {took:.1f} ms"
    verdict = worst([_speed(took), judge_way(system.settings, "database"), *_server(database, system.settings)], words)
    return verdict if verdict.state is CheckState.OK else replace(verdict, words=f"{words}; {verdict.words}")


def _speed(took_ms: float) -> Verdict:
    advice = "Every batch of orders costs a few commits: put the database on a faster or nearer disk."
    return warn("that is slow", advice) if took_ms > SLOW_COMMIT_MS else ok("")


def _server(database: Database, settings: Settings) -> list[Verdict]:
    """Look at what a server alone has: roles, and a clock of its own."""
    if database.is_sqlite:
        return []
    with database.read() as connection:
        role, lacks = powers(connection), lacking(connection)
        watch, before = time.perf_counter(), utcnow()
        theirs = server_clock(connection)
        way = time.perf_counter() - watch
    ahead = (before - theirs).total_seconds() + way / 2
    return [judge_privileges(lacks), judge_powers(role, settings), judge_clock(ahead, way / 2)]


def _commit_ms(database: Database) -> float:
    """Time one real commit."""
    with database.read() as connection:
        answer(connection)  # the connection itself is not timed
    started = time.perf_counter()
    with database.write() as connection:
        leave_no_trace(connection, utcnow())
    return (time.perf_counter() - started) * 1000


# -- QUEUE ---
def look_at_queue(system: System) -> Verdict:
    """Ping the queue, and see that it neither drops messages nor has some that no worker could read."""
    system.doing, settings = "queue", system.settings
    address = settings.queue_address
    where = f"embedded, {address.shown}" if settings.embedded_queue else address.shown
    if settings.embedded_queue and not Path(address.path).exists():
        server_binary()
        return warn(f"{where}: not running", "`corro up` or any worker starts it.")
    patience = min(2.0, system.limit_s / 3)
    client = connect(settings, connect_s=patience, answer_s=patience)
    try:
        client.ping()
        started = time.perf_counter()
        client.ping()
        took = (time.perf_counter() - started) * 1000
        troubles = [_writes(client), _policy(client), _set_aside(client), _unread(client, settings)]
        troubles += [judge_way(settings, "queue"), judge_password(settings)]
    finally:
        client.close()
    verdict = worst(troubles, f"{where}, round trip {took:.1f} ms")
    if verdict.words.startswith(where):
        return verdict
    return replace(verdict, words=f"{where}: {verdict.words}")


def _writes(client: redis.Redis) -> Verdict:
    """Write to the keys that producers and workers write to: a PING is no proof of that."""
    said = unread.refusal(client)
    if said is None:
        return ok("")
    return fail(
        f"it answers PING and refuses writes: {said}",
        "Orders go on from the database at the sweep's pace. Look at the server: is it a replica, full, out of disk, "
        "or does its ACL leave out corro.*, unacked* or _kombu.*?",
    )


def _unread(client: redis.Redis, settings: Settings) -> Verdict:
    found = unread.unread_lists(client, settings.all_brokers)
    advice = "A producer names a queue that no broker here has: orders.<broker>, control.<broker> or data.<broker>."
    return warn(unread.words(found), advice) if found else ok("")


def _policy(client: redis.Redis) -> Verdict:
    """See that Redis refuses writes when it is full, and does not drop queued messages instead."""
    try:
        answer: Any = client.config_get("maxmemory-policy")
    except redis.ResponseError:
        return ok("")  # managed servers do not tell
    policy = answer.get("maxmemory-policy", "noeviction")
    if policy == "noeviction":
        return ok("")
    return warn(
        f"maxmemory-policy is {policy}: when memory is short it drops messages",
        "Set `maxmemory-policy noeviction`; a lost message only costs time, but it need not be lost.",
    )


def _set_aside(client: redis.Redis) -> Verdict:
    """Tell of messages that nobody could read."""
    count: object = client.llen(SET_ASIDE)
    if not count:
        return ok("")
    return warn(
        f"{count} message(s) could not be read and were set aside",
        "`corro dead-letters` tells what was wrong with them; `corro dead-letters --drop all` forgets them.",
    )


# -- PEOPLE ---
def _notify(system: System) -> Verdict:
    system.doing = "notify"
    return judge_notify(system.settings)


def _own_key(system: System) -> Verdict:
    """See that workers with these settings have a key, and that its secret can be read here."""
    if system.database is None:
        return skip("no database, so there are no keys yet")
    try:
        signer = signer_of(system.settings, system.database)
    except ConfigurationError as error:
        return fail(str(error), "[security] key and key_file; `corro keys list` names the keys.")
    with system.database.read() as connection:
        key = None if signer is None else named(connection, signer.key_id)
    return judge_own_key(system.settings, key, utcnow())


# -- WORKERS ---
def _workers(name: str, system: System) -> Verdict:
    """See that somebody works for a broker, and that nothing stops it."""
    if system.database is None:
        return skip("no database, so no worker has run yet")
    now = utcnow()
    silent = now - timedelta(seconds=system.settings.timing.dead_after)
    with system.database.read() as connection:
        running = [row for row in worker_rows(connection) if row["broker"] == name and row["state"] != "stopped"]
        leader = lease_holders(connection, now).get(f"leader.{name}")
        stops = [row for row in in_force(connection) if row["scope_kind"] == "*" or row["scope"] == name]
    alive = [row for row in running if row["heartbeat_at"] >= silent]
    return worst([_alive(name, alive, leader), *map(_stopped, stops)], _named(alive, leader))


def _limits(name: str, system: System) -> Verdict:
    """See that a broker that trades real money has the limits without which nothing is sent to it."""
    if system.database is None:
        return skip("no database, so nobody has set a limit in it")
    if (why := objection(system.settings, system.database, name)) is not None:
        return fail(why, f"corro limits set max_value 20000 --broker {name} --by NAME --reason WHY")
    return ok("every order at this broker is limited in size and in value, or meant not to be")


def _alive(name: str, alive: Sequence[WorkerRow], leader: str | None) -> Verdict:
    """See that a broker's workers are connected, and that one of them leads."""
    if not alive:
        return warn(
            "no worker runs; its orders go to the next broker of their route", f"`corro worker {name}` or `corro up`"
        )
    cut = [row for row in alive if row["state"] != "ready"]
    if len(cut) == len(alive):
        told = "; ".join(f"{row['state']}: {row['detail']}" if row["detail"] else row["state"] for row in cut)
        return warn(f"{len(alive)} worker(s), none is connected ({told})", "The checks below say why.")
    if unread := [row for row in alive if (row["detail"] or "").startswith(CANNOT_READ)]:
        return warn(f"{len(alive)} worker(s), and one that {unread[0]['detail']}", "The checks below say why.")
    if leader is None:
        return warn(f"{len(alive)} worker(s), none leads: nobody sweeps and reconciles", "It should change in seconds.")
    return ok("")


def _stopped(row: ControlRow) -> Verdict:
    scope = scope_of(row)
    words = (
        f"{NOUNS[row['state']]} of {scope.words} since {row['at']:%Y-%m-%d %H:%M} UTC by {row['by']}: {row['reason']}"
    )
    return warn(words, f"`{scope.resume}` ends it.")


def _named(alive: Sequence[WorkerRow], leader: str | None) -> str:
    ready = sum(row["state"] == "ready" for row in alive)
    return f"{len(alive)} alive, {ready} ready, {leader or 'nobody'} leads"
