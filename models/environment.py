"""The environment: which of its names are ours, and how their values are read.

A misspelt name that is passed over in silence is worse than an error: simulated brokers would answer where real ones
were meant.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from models.errors import ConfigurationError
from models.secret_files import with_files

PREFIX = "CORRO_"
#: Names that are no settings: where these are, and what corro's own processes, tests, tools and benchmarks are told.
_ALSO = re.compile(r"CORRO_(CONFIG|SECRETS_DIR|UP_PID|CRASH|PAUSE|BENCH|TEST_\w+|PROPERTY_\w+)")
#: What Kubernetes and container links put into every environment for a service that is called corro-something.
_SERVICE = re.compile(r"CORRO_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_LINK = re.compile(r"(tcp|udp|sctp)://")
#: A broker's variable as it is meant, however its underscores were counted.
_BROKERS_KEY = re.compile(r"CORRO_BROKERS?_+([A-Z0-9-]+?)_+(\w+)")
_SECRET = re.compile(r"key|secret|token|password", re.IGNORECASE)


def must_be_known(environment: Mapping[str, str], fields: Mapping[str, FieldInfo]) -> None:
    """See that no setting is misspelt: a name that begins with ours and is close to a setting's is an error.

    What is close to none is somebody else's: a harness around corro may call its own variables CORRO_ROOT.

    Args:
        environment: values by names.
        fields: of the settings.

    Raises:
        ConfigurationError: names the variable, and the one that was probably meant.
    """
    keys = set(_names(fields))
    known = keys | {f"{PREFIX}{field.upper()}" for field in fields} | {f"{key}_FILE" for key in keys}
    for name, value in environment.items():
        given = name.upper()
        top = given.removeprefix(PREFIX).split("__")[0].lower()
        if not given.startswith(PREFIX) or given in known or _is_foreign(given, value):
            continue
        if "__" in given and _has_keys(fields.get(top)):
            continue  # its key is judged with the table that it belongs to
        if near := _nearest(given, keys):
            raise ConfigurationError(
                f"settings: {name} is in the environment, and no setting has that name: did you mean {near}?"
            )


def _is_foreign(name: str, value: str) -> bool:
    link = name.endswith("_PORT") and _LINK.match(value)
    return bool(_ALSO.fullmatch(name) or _SERVICE.fullmatch(name) or link)


def _has_keys(field: FieldInfo | None) -> bool:
    return field is not None and (_table(field) is not None or _is_dict(field))


def _is_dict(field: FieldInfo) -> bool:
    return getattr(field.annotation, "__origin__", None) is dict


def _table(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _names(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    """Yield the variables of single settings: a table has one for each of its keys."""
    for name, field in fields.items():
        own = f"{PREFIX}{name.upper()}"
        if table := _table(field):
            yield from (f"{own}__{key.upper()}" for key in table.model_fields)
        elif not _is_dict(field):
            yield own


def _nearest(name: str, known: set[str]) -> str | None:
    """Return the setting that a misspelt variable most likely means; None where it resembles none."""
    if meant := _BROKERS_KEY.fullmatch(name):
        return f"{PREFIX}BROKERS__{meant[1]}__{meant[2]}"
    rest = name.removeprefix(PREFIX)
    keys = [other for other in sorted(known) if other.rsplit("__", 1)[-1].removeprefix(PREFIX) == rest]
    if keys:
        return keys[0]
    names = [other.removeprefix(PREFIX) for other in (*sorted(known), f"{PREFIX}CONFIG")]
    near = get_close_matches(rest, names, n=1, cutoff=0.7)
    return PREFIX + near[0] if near else None


class Environment(EnvSettingsSource):
    """The environment, where a secret is text: `1e5` must not become 100000.0 on its way."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        names = set(_names(self.settings_cls.model_fields))
        return with_files(super()._load_env_vars(), (name for name in names if f"{name}_FILE" not in names))

    def __call__(self) -> dict[str, object]:
        """Read it; no name of ours may be misspelt, and what is empty is not set."""
        must_be_known(os.environ, self.settings_cls.model_fields)
        return _without_empty(super().__call__())

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: object) -> object:
        """Leave secrets as they are.

        Raises:
            ValueError: names the variable, without its value.
        """
        if _SECRET.search(field_name):
            return value
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError as error:
            name = f"{PREFIX}{field_name.upper()}"
            raise ValueError(
                f"{name} holds a whole table, so it has to be JSON ({error}); {name}__KEY is one key"
            ) from None


def _without_empty(values: Mapping[str, object]) -> dict[str, object]:
    """Return settings without those that are the empty text, in tables too."""
    return {
        key: _without_empty(value) if isinstance(value, dict) else value for key, value in values.items() if value != ""
    }


def as_list(value: object) -> object:
    """Return a text as a list: `1,2,5`, or JSON; anything else as it is.

    Raises:
        ValueError: it begins like JSON and is none.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"is neither a list such as 1,2,5 nor JSON such as [1,2,5]: {error}") from None
