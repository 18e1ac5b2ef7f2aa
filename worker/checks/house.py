"""How the house is kept: who is told, files that others may read, ways without TLS, what a role may do, the clock.

Pure judgements of what `worker.checks.system` reads. What a broker that trades real money must have is an error where
it is missing; for simulated money it is a remark, or nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from models.errors import Untrusted
from models.record.key_rows import KeyRow
from models.record.postgres import RolePowers
from models.record.ways import is_here, unguarded
from models.settings import BrokerSettings, Settings
from models.trust import must_be_valid, must_reach
from worker.checks.judge import CLOCK_ADVICE
from worker.checks.steps import Verdict, fail, ok, warn
from worker.notify import sending

#: Seconds that our clock may be away from the database's: a remark, and where signatures are refused.
CLOCK_WARN_S, CLOCK_FAIL_S = 2.0, 5.0


def is_live(settings: Settings) -> bool:
    """Tell whether any broker trades real money."""
    return any(table.live for table in settings.all_brokers.values())


# -- PEOPLE ---
def judge_notify(settings: Settings) -> Verdict:
    """See that somebody is told, and that apprise can use every URL; nothing is sent.

    Raises:
        ConfigurationError: one of them cannot be used; says which.
    """
    notify = settings.notify
    if not notify.urls:
        words = "nobody is told when something needs a person"
        heartbeat = "; the heartbeat alone is sent" if notify.is_used else ""
        return warn(words + heartbeat, "Set [notify] urls, and try it with `corro notify test`.")
    sending.must_be_usable(notify.addresses)
    services = ", ".join(map(sending.shown, notify.addresses))
    kinds = "every kind of news" if not notify.events else ", ".join(notify.events)
    heartbeat = "a heartbeat each minute" if notify.heartbeat_url.get_secret_value() else "no heartbeat_url"
    return ok(f"{services} are told of {kinds}; {heartbeat}")


# -- KEYS ---
def judge_own_key(settings: Settings, key: KeyRow | None, now: datetime) -> Verdict:
    """See that workers with these settings can sign what they order themselves, where every order has to be signed.

    Args:
        settings: those in force; they name the key.
        key: its row; None where they name none.
        now: the time.
    """
    lost = "kill --flatten and on_partial close nothing"
    advice = (
        "A key for workers: `corro keys add` without bounds of strategies or symbols, and [security] key and key_file "
        "in their settings; --brokers may bound it."
    )
    if key is None:
        return fail(f"[security] require is all, and workers with these settings have no key: {lost}", advice)
    try:
        must_be_valid(key, now)
        for name in settings.all_brokers:
            must_reach(key, brokers=name)
    except Untrusted as error:
        return fail(f"{error}: {lost}", advice)
    bounds = [name for name in ("strategies", "symbols") if key[name] is not None]
    if bounds or key["needs_approval"]:
        words = f"is bounded in {' and '.join(bounds)}" if bounds else "needs approval for its orders"
        return warn(f"key {key['key_id']!r} {words}: {lost} beyond that", advice)
    return ok(f"key {key['key_id']!r} signs what workers order themselves")


# -- FILES ---
def judge_files(paths: Sequence[Path]) -> Verdict:
    """See that nobody else can read what is secret, or where orders are kept.

    Args:
        paths: files and folders; those that are not there, or another user's, are nobody's fault.
    """
    open_ = [path for path in paths if is_open_to_others(path)]
    if not open_:
        return ok("")
    named = ", ".join(map(str, open_))
    fixes = "; ".join(f"chmod {'700' if path.is_dir() else '600'} {path}" for path in open_)
    return warn(f"others on this machine may read {named}", fixes)


def private_paths(settings: Settings, config: Path | None) -> list[Path]:
    """Return the files and folders that are nobody else's business."""
    found = [settings.home, *_named_files(settings)]
    if config is not None and _holds_secrets(settings):
        found.append(config)
    if settings.database.startswith("sqlite:///"):
        found.append(Path(settings.database.removeprefix("sqlite:///").partition("?")[0]))
    return found


def _named_files(settings: Settings) -> Iterator[Path]:
    """Yield the files that settings name as holding a secret."""
    if settings.security.key_file:
        yield Path(settings.security.key_file)
    for table in settings.brokers.values():
        if path := table.get("token_path"):
            yield Path(str(path))
    yield from (Path(path) for name, path in os.environ.items() if name.startswith("CORRO_") and name.endswith("_FILE"))


def _holds_secrets(settings: Settings) -> bool:
    def secret(table: BrokerSettings) -> bool:
        return bool(table.secrets())

    return bool(settings.notify.urls) or any(map(secret, settings.brokers.values()))


def is_open_to_others(path: Path) -> bool:
    """Tell whether another user of this machine can read a file or folder of ours, by its mode and those above it."""
    try:
        found = path.stat()
        if found.st_uid != os.getuid() or not found.st_mode & 0o044:
            return False
        return all(parent.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH) for parent in path.absolute().parents)
    except OSError:
        return False


# -- WAYS AND ROLES ---
def judge_way(settings: Settings, to: str) -> Verdict:
    """See that TLS guards a way that leaves this machine.

    Args:
        settings: those in force.
        to: database or queue.
    """
    found = [words for words in unguarded(settings) if words.startswith(f"the way to the {to}")]
    if not found:
        return ok("")
    advice = "Or say [security] private_network = true, where the network itself is guarded (compose, a VPN)."
    return (
        fail(found[0], f"A broker is live: nothing is sent to it. {advice}")
        if is_live(settings)
        else warn(found[0], advice)
    )


def judge_password(settings: Settings) -> Verdict:
    """See that a queue that others can reach asks for a password."""
    address = settings.queue_address
    away = [host for host, _ in address.hosts if not is_here(host)]
    if not away or address.password or not is_live(settings):
        return ok("")
    return warn("the queue asks for no password: whoever reaches it can trade", "deploy/redis.acl; docs/security.md")


def judge_powers(powers: RolePowers, settings: Settings) -> Verdict:
    """See that the database's role may do no more than its work needs, where real money is traded."""
    told = {
        "is a superuser": powers.superuser,
        "owns the tables": powers.owner,
        "may change the journals": powers.changes_journal and not powers.superuser and not powers.owner,
    }
    found = [words for words, is_so in told.items() if is_so]
    if not found or not is_live(settings):
        return ok("")
    return warn(f"the role {powers.name} {' and '.join(found)}", "deploy/roles.sql makes roles that may not.")


def judge_privileges(lacks: Sequence[str]) -> Verdict:
    """See that the database's role may write what the code writes: roles were made before the schema's last change."""
    if not lacks:
        return ok("")
    return fail(
        f"the role of this connection lacks {'; '.join(lacks)}", "Run deploy/roles.sql again, after the upgrade."
    )


# -- CLOCK ---
def judge_clock(ahead_s: float, uncertain_s: float) -> Verdict:
    """Judge this machine's clock by the database's.

    Args:
        ahead_s: seconds that this machine is ahead; negative is behind.
        uncertain_s: how far that may be off.
    """
    certain = max(abs(ahead_s) - uncertain_s, 0.0)
    side = "ahead of" if ahead_s >= 0 else "behind"
    words = f"this clock is {abs(ahead_s):.1f} s {side} the database's"
    if certain > CLOCK_FAIL_S:
        return fail(f"{words}: orders and signatures are refused", CLOCK_ADVICE)
    return warn(words, CLOCK_ADVICE) if certain > CLOCK_WARN_S else ok("")
