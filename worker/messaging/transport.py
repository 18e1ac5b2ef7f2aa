"""Kombu's Redis transport, with a guard at the door: what is no readable message is set aside, never fatal.

Without it a message that misses its content-type ends the worker, one without an id sends it into an endless reconnect,
and one that is no JSON is lost. The guard looks at each message before kombu does, and clears the way where something
else than a queue stands at a queue's key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

import redis
from kombu.message import Message
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from models.queue_url import QueueAddress
from models.troubles import trouble
from producers.bell import pool_of
from worker.messaging.dead_letters import DeadLetters
from worker.messaging.guard import Unreadable, clean
from worker.messaging.queue_health import health
from worker.messaging.rings import Gather, Rings, hand_over

#: What kombu calls this transport; the address itself never passes through kombu.
SCHEME = "corro"
#: Seconds that a worker gives to one connect, and to one answer. BRPOP answers after a second at the latest.
CONNECT_S, ANSWER_S = 2.0, 5.0
#: A worker's connections last, so they are looked after.
_LASTING = {"socket_keepalive": True, "health_check_interval": 10}
#: The priorities that kombu makes a key of its own of; BRPOP asks for all of them.
_PRIORITIES = ("", *(f"\x06\x16{step}" for step in (3, 6, 9)))


class GuardedRedis(redis.Redis):
    """A client whose BRPOP never hands out an unreadable message."""

    #: Takes more rings along with one; set on the client that reads the queues.
    gather: Gather | None = None

    def parse_response(self, connection: object, command_name: object, **options: object) -> object:
        """Read a reply; a message that is set aside as unreadable, or handed over, looks like an empty queue."""
        reply: tuple[bytes, bytes] | None = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name != "BRPOP" or not reply:
            return reply
        key, item = reply
        message = self.readable(key, item)
        if message is None:
            return None
        if self.gather is not None:
            message = self.gather(key, message)
            if hand_over(key.decode(), message):
                return None
        return key, message

    def readable(self, key: bytes, item: bytes) -> bytes | None:
        """Return a message as a worker may take it; None if it had to be set aside."""
        queue = key.decode(errors="replace").split("\x06")[0]
        try:
            return clean(item, queue)
        except Unreadable as error:
            self.set_aside(key, item, str(error), error.reason)
            return None

    def set_aside(self, key: bytes, item: bytes, why: str, reason: str = "not_a_message") -> None:
        """Keep a message that nobody can take where a person finds it."""
        queue = key.decode(errors="replace").split("\x06")[0]
        DeadLetters(redis.Redis(connection_pool=self.connection_pool)).put(queue, item, reason, why)


class _Careful(kombu_redis.QoS):
    """Kombu's book of the messages in hand, which survives that somebody else has written in it."""

    channel: Channel

    def append(self, message: Message, delivery_tag: str) -> None:
        """Note a message as taken; keys of a wrong type are set aside first, and the note is written then."""
        with self.channel.cleared():
            super().append(message, delivery_tag)
            return
        super().append(message, delivery_tag)

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Hand out again what nobody has acknowledged."""
        with self.channel.cleared():
            super().restore_visible(start, num, interval)

    def restore_by_tag(self, tag: str, client: object = None, leftmost: bool = False) -> None:
        """Hand one message out again; one that cannot be read would stop all those behind it."""
        try:
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
        except redis.RedisError:
            raise
        except Exception as error:  # whatever somebody has written there
            with self.channel.conn_or_acquire(client) as found:
                note = found.hget(self.unacked_key, tag) or b""
            self._remove_from_indices(tag).execute()  # type: ignore[attr-defined]
            self.channel.dead_letters(found).put(
                self.unacked_key, note, "not_a_message", f"not a note: {trouble(error)}"
            )


class QoS(Rings, _Careful):
    """The book of the messages in hand, without rings, and whatever somebody has written in it."""


class Channel(kombu_redis.Channel):
    """Kombu's channel with the guarded client, rings, and one client instead of one for every operation."""

    QoS = QoS
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "address", "master")
    address: QueueAddress
    master: str
    #: What the queue said no with while there was no way to stop: consuming stops before the next message is asked for.
    sick: Exception | None = None
    _sync_client: redis.Redis | None = None

    def _create_client(self, asynchronous: bool = False) -> object:
        """Return a client; for plain operations the same one, as long as its pool is the channel's.

        Source: docs/facts/celery.md#4.2.
        """
        if asynchronous:
            client = super()._create_client(asynchronous=True)  # type: ignore[misc]
            client.gather = Gather(self, client.readable, client.set_aside)
            return client
        if self._sync_client is None or self._sync_client.connection_pool is not self.pool:
            self._sync_client = super()._create_client()  # type: ignore[misc]
        return self._sync_client

    def dead_letters(self, client: redis.Redis) -> DeadLetters:
        """Return where messages are set aside, over a connection of this channel."""
        return DeadLetters(redis.Redis(connection_pool=client.connection_pool))

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Run commands; if one meets a key of the wrong type, set such keys aside and leave the block without an error.

        The command that met the key did nothing: whoever needs it repeats it behind the block. Other errors are raised.
        """
        try:
            yield
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            queues = {f"{queue}{step}": "list" for queue in self.active_queues for step in _PRIORITIES}
            notes = {self.unacked_key: "hash", self.unacked_index_key: "zset", self.unacked_mutex_key: "string"}
            with self.conn_or_acquire() as client:
                self.dead_letters(client).displace(queues | notes)

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Ask for the next message, unless the queue has said no to something since."""
        if self.sick is not None:
            raise self.sick
        super()._brpop_start(timeout)  # type: ignore[misc]

    def _brpop_read(self, **options: object) -> object:
        """Read the next message; the queue has answered, whatever it said."""
        with self.cleared():
            try:
                found = super()._brpop_read(**options)  # type: ignore[misc]
            except Empty:
                health.answered()
                raise
            health.answered()
            return found
        raise Empty  # it looks again

    def _get_pool(self, asynchronous: bool = False) -> object:
        """Return connections to the queue, of the same making as those of the strategies.

        A task that ends while the queue dies acknowledges on a channel that was given up already; kombu would trip
        over None there.
        """
        if self.connection is None or self.connection.client is None:
            raise redis.ConnectionError("the connection of this channel was given up")
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=self.address.db)
        watched = self._watched if asynchronous else (lambda connection: connection)
        pool = pool_of(self.address, self.master, CONNECT_S, ANSWER_S, watched, **_LASTING)
        manager = "_async_sentinel_manager" if asynchronous else "_sentinel_manager"
        setattr(self, manager, getattr(pool, "sentinel_manager", None))  # kombu closes it with the channel
        return pool

    def _watched(self, connection: type) -> type:
        """Return a class of connections that are taken out of the poller when they end."""
        channel: Any = self

        class Polled(connection):  # type: ignore[misc]
            def disconnect(self, *args: object, **kwargs: object) -> None:
                super().disconnect(*args, **kwargs)
                if channel._registered:
                    channel._on_connection_disconnect(self)

        return Polled

    def _get_client(self) -> type[redis.Redis]:
        client: type[redis.Redis] = super()._get_client()  # type: ignore[misc]
        return GuardedRedis if client is redis.Redis else client


class Transport(kombu_redis.Transport):
    """Kombu's transport with the guarded channel.

    Whatever goes wrong between a worker and its queue is the queue being sick: `worker.messaging.consuming` stops
    consuming, and tries again. By kombu's own list an error *reply* (READONLY, OOM, MISCONF ...) is none of the
    connection, and ends the worker.
    """

    Channel = Channel
    connection_errors = (Exception,)


def install() -> None:
    """Make the transport known to kombu under its name."""
    TRANSPORT_ALIASES[SCHEME] = "worker.messaging.transport:Transport"
