"""An error in words for a person: where, what, and what to look at; never Python's own picture of it.

Libraries wrap errors in errors, and write classes, tuples and addresses in memory into their texts. Whatever is told of
such an error (a reason, a row, a page, a log) is told by `trouble`. Our own errors are words already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from pydantic import ValidationError

from models.errors import CorroError
from models.explaining import explain

#: Errors inside an error that are looked at.
_DEEPEST = 12
#: Characters of what is told.
_LONGEST = 300
#: Objects, classes and numbers that Python and its libraries write into their texts.
_PICTURES = re.compile(r"<[\w.]+(?: object)? at 0x[0-9a-f]+>:? ?|\[Errno -?\d+\] ?|\(_ssl\.c:\d+\)")
#: redis-py says so of Sentinels, with a picture of each client and error behind it.
_NO_MASTER = re.compile(r"No master found for '([^']*)'.*", re.DOTALL)
#: How asyncio and redis-py say where they could not connect to, and why.
_CALL_FAILED = re.compile(r"Connect call failed \('([^']+)', (\d+)")
_CONNECTING = re.compile(r"Error (-?\d+) (?:while )?connecting to (\S+?)\. (.*?)\.?$")
_LATE = re.compile(r"timed out\.?|Timeout (reading from|connecting to|writing to) \S+.*", re.IGNORECASE)
_NO_WAY = "timed out while connecting (is the address right, and no firewall between?)"
#: Where redis-py puts the command of a pipeline before the reply.
_IN_A_PIPELINE = "of pipeline caused error: "
_REFUSED = "connection refused (is it running there?)"


def trouble(error: object) -> str:
    """Return what an error says: `127.0.0.1:8183: connection refused (is it running there?)`.

    Args:
        error: any error, of ours or of a library; of something else its text.
    """
    if isinstance(error, CorroError):
        return str(error)
    if isinstance(error, ValidationError):
        return explain(error)
    if not isinstance(error, BaseException):
        return _tidy(str(error))
    chain = list(_chain(error))
    words = next(filter(None, map(_said, reversed(chain))), "")
    over = _over(error)
    words = (over if over.endswith(words) else ": ".join(filter(None, (over, words)))) if words else _own_words(error)
    place = next(filter(None, map(_place, chain)), "")
    return _tidy(words if not place or place in words else f"{place}: {words}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it wraps, from the outside to the inside."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _DEEPEST:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        below = one.__context__ if isinstance(one.__context__, OSError) and not one.__suppress_context__ else None
        inner = (getattr(one, "reason", None), *one.args, one.__cause__, below)
        waiting += [found for found in inner if isinstance(found, BaseException)]


# -- WHAT ---
def _tls(error: BaseException) -> str:
    reason = str(getattr(error, "reason", None) or "")
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return "no TLS is spoken there (is it the right port, and https?)"
    return f"TLS failed: {reason.replace('_', ' ').lower()}" if reason else ""


def _broken_off(error: BaseException) -> str:
    come, missing = getattr(error, "partial", None), getattr(error, "expected", None)
    count = len(come) if isinstance(come, bytes) else come
    counted = f" after {count} bytes, {missing} more were to come" if isinstance(missing, int) else ""
    return f"the answer broke off{counted}"


def _late(error: BaseException) -> str:
    """Say that no answer came; in our own words, where an exchange of ours was over."""
    own = _own_text(error) if all(isinstance(one, str) for one in error.args) else ""
    return own if own and not _LATE.fullmatch(own) else "no answer in time"


def _system(error: BaseException) -> str:
    """Say what the operating system said, and of which file."""
    if _CALL_FAILED.search(str(error)):
        return _REFUSED if "rrno 111" in str(error) else "no connection"
    said, file = getattr(error, "strerror", None), getattr(error, "filename", None)
    return (f"{file}: " if isinstance(file, str) else "") + said[:1].lower() + said[1:] if isinstance(said, str) else ""


def _connecting(error: BaseException) -> str:
    """Say why redis-py could not connect."""
    found = _CONNECTING.search(str(error))
    return "" if found is None else _REFUSED if found[1] == "111" else found[3].lower()


#: What a class of errors says, by the name of the class: nothing is imported for it.
_WORDS: dict[str, str | Callable[[BaseException], str]] = {
    "ConnectionRefusedError": _REFUSED,
    "gaierror": "the name does not resolve (is it right, and does DNS answer?)",
    "SSLCertVerificationError": lambda error: (
        f"its certificate is not accepted: {getattr(error, 'verify_message', '')}"
    ),
    "SSLError": _tls,
    "ConnectTimeoutError": _NO_WAY,
    "ConnectTimeout": _NO_WAY,
    "ReadTimeoutError": "no answer in time",
    "ReadTimeout": _late,
    "TimeoutError": _late,
    "RemoteDisconnected": "the other side closed the connection without an answer",
    "ConnectionResetError": "connection reset by the other side",
    "BrokenPipeError": "the other side has closed the connection",
    "IncompleteRead": _broken_off,
    "BadStatusLine": "the answer is no HTTP",
    "InvalidChunkLength": "the answer broke off",
    "JSONDecodeError": lambda error: f"no JSON: {str(error)[:1].lower()}{str(error)[1:]}",
    "UnicodeDecodeError": "the text is no UTF-8",
    "InvalidOperation": "no number",
    "KeyError": lambda error: f"{error.args[0]} is missing" if error.args else "",
    "ReadOnlyError": lambda error: _reply("READONLY", error),
    "OutOfMemoryError": lambda error: _reply("OOM", error),
    "BusyLoadingError": lambda error: _reply("LOADING", error),
    "NoPermissionError": lambda error: _reply("NOPERM", error),
    "MasterDownError": lambda error: _reply("MASTERDOWN", error),
    "ClusterCrossSlotError": lambda error: _reply("CROSSSLOT", error),
    "OSError": _system,
    "ConnectionError": _connecting,
}
#: A mistake of a program: the name of the class helps whoever has to mend it.
_DEFECTS = (TypeError, AttributeError, NameError, LookupError, AssertionError, ArithmeticError, RecursionError)


def _reply(code: str, error: BaseException) -> str:
    """Put the code before the words of a reply, where redis-py has made a class of it."""
    text = _own_text(error)
    return text if text.startswith(code) else f"{code} {text}"


def _said(error: BaseException) -> str:
    for kind in type(error).__mro__:
        words = _WORDS.get(kind.__name__, "")
        if found := words if isinstance(words, str) else words(error):
            return found
    return ""


def _over(error: BaseException) -> str:
    """Return what an error that was raised from another one adds: words of its own, and no picture of the other."""
    text, cause = str(error), error.__cause__
    if cause is None or _said(error) or any(isinstance(one, BaseException) for one in error.args):
        return ""
    text = text.removesuffix(str(cause)).rstrip(": ")  # told in its own words
    copied = text in str(cause) or any(picture.search(text) for picture in (_PICTURES, _CALL_FAILED, _CONNECTING))
    return "" if copied else text


def _own_text(error: BaseException) -> str:
    text = ": ".join(str(one) for one in error.args if not isinstance(one, BaseException)) or str(error)
    return text.rpartition(_IN_A_PIPELINE)[2]


def _own_words(error: BaseException) -> str:
    text = _own_text(error)
    if text and not isinstance(error, _DEFECTS):
        return text
    name = type(error).__name__
    return f"{name}: {text}" if text else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


# -- WHERE ---
def _place(error: BaseException) -> str:
    """Return the host and port that an error of requests, urllib3, redis-py or asyncio is about."""
    for held in ("pool", "conn"):
        where = vars(error).get(held)
        host, port = getattr(where, "host", None), getattr(where, "port", None)
        if isinstance(host, str) and port:
            return f"{host}:{port}"
    text = str(error)
    if found := _CALL_FAILED.search(text):
        return f"{found[1]}:{found[2]}"
    if found := _CONNECTING.search(text):
        return found[2]
    url = getattr(getattr(error, "request", None), "url", None)
    return urlsplit(url).netloc.rpartition("@")[2] if isinstance(url, str) else ""


def _tidy(text: str) -> str:
    known = _NO_MASTER.sub(r"no sentinel that answers knows the master '\1' (redis_master names it)", text)
    line = " ".join(_PICTURES.sub("", known).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
