"""A settings file in the working directory, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.errors import ConfigurationError
from models.settings import load_settings

SECRET = "hunter2-hunter2"


def write(text: str, path: str = "corro.toml") -> None:
    Path(path).write_text(text)


def refusal(**overrides: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert "pydantic" not in message.lower()
    return message
