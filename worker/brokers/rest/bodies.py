"""The body of an answer, read as a stream and unpacked piece by piece: never more than allowed, never past its time.

A kilobyte of gzip unpacks to a megabyte, so the packed size says nothing: what counts is what has come out so far.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator

import requests
from requests import exceptions as failed

from worker.pacing.budget import Use, current_use

#: Largest bodies, bytes unpacked. A page of 500 orders has 0.6 MB, a page of 10,000 bars 1.2 MB, a year of minutes 12.
MOST_BYTES, MOST_DATA_BYTES = 8 * 2**20, 64 * 2**20
#: What answers may be packed with, as asked for in every request.
ENCODINGS = "gzip"
#: Bytes handled at once, packed or unpacked.
_PIECE = 2**16
#: zlib finds out by itself whether it is gzip or zlib.
_EITHER_HEADER = 32 + zlib.MAX_WBITS


class TooLarge(Exception):
    """An answer has more bytes than any answer of its kind; not an OSError, so that nobody takes it for a lost line."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the answer is larger than {most / 2**20:g} MB")


def most_bytes() -> int:
    """Return how large an answer to the present question may be, unpacked."""
    return MOST_DATA_BYTES if current_use() is Use.DATA else MOST_BYTES


def read_whole(response: requests.Response, most: int, is_over: Callable[[], bool]) -> bytes:
    """Read and unpack a streamed answer.

    Args:
        response: made with stream=True, nothing read yet.
        most: bytes that it may have, unpacked.
        is_over: asked between pieces; True ends the reading.

    Raises:
        TooLarge: it has more.
        requests.RequestException: its time is up, it broke off, or it is packed in a way nobody asked for.
    """
    packing = response.raw.headers.pop("Content-Encoding", "").strip().lower()  # or the library unpacks without a bound
    pieces: Iterable[bytes] = response.iter_content(_PIECE)
    if packing in ("gzip", "x-gzip", "deflate"):
        pieces = _unpacked(pieces)
    elif packing not in ("", "identity"):
        raise failed.ContentDecodingError(f"the answer is packed with {packing[:40]!r}")
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > most:
            raise TooLarge(most)
        if is_over():
            raise failed.ReadTimeout("reading the answer took as long as the whole exchange may take")
    return bytes(body)


def _unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack gzip, also of several members, or zlib; never more than a piece at once."""
    unpacker, is_begun = zlib.decompressobj(_EITHER_HEADER), False
    try:
        for piece in pieces:
            rest = piece
            while rest:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(_EITHER_HEADER)
                is_begun = True
                yield unpacker.decompress(rest, _PIECE)
                rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    except zlib.error as error:
        raise failed.ContentDecodingError(f"the answer cannot be unpacked: {error}") from error
    if is_begun and not unpacker.eof:
        raise failed.ContentDecodingError("the packed answer ends in its middle")
