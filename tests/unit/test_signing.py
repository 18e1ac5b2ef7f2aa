"""Signatures: which bytes, which algorithms, and which files hold a key."""

from __future__ import annotations

import base64
import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest

from models.errors import ConfigurationError, InvalidOrder
from models.outward import discreet
from models.signing import (
    Envelope,
    Signer,
    digest_of,
    from_base64,
    is_key_id,
    key_of,
    new_private_key,
    new_token,
    public_key,
    read_secret,
    signed_bytes,
    to_base64,
    verifies,
)

SECRET = b"0123456789abcdef0123456789abcdef"
DEPLOYMENT = "prod"
TEXT = '{"client_order_id":"o-1"}'


def test_a_bare_producer_signs_in_five_lines_with_the_standard_library_alone() -> None:
    order, secret = {"client_order_id": "o-1", "symbol": "KO"}, SECRET
    text = json.dumps(order)
    raw = hmac.digest(secret, f"corro/1 order\n{DEPLOYMENT}\n{text}".encode(), "sha256")
    sig = base64.urlsafe_b64encode(raw).decode()
    sealed = {"signed": text, "key": "dividends-2", "sig": sig}
    envelope = Envelope.of(sealed)
    assert envelope is not None
    assert verifies("hmac-sha256", SECRET, signed_bytes("order", DEPLOYMENT, envelope.text), envelope.sig)
    assert envelope.content() == order


def test_the_five_lines_of_the_page_sign() -> None:
    page = (Path(__file__).parents[2] / "docs" / "messages.md").read_text()
    [block] = [text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def sealed" in text]
    names: dict[str, Any] = {}
    exec(block, names)
    for kind in ("order", "cancel", "replace"):
        envelope = Envelope.of(names["sealed"](kind, {"a": 1}, "k", SECRET, DEPLOYMENT))
        assert envelope is not None
        assert verifies("hmac-sha256", SECRET, signed_bytes(kind, DEPLOYMENT, envelope.text), envelope.sig)  # type: ignore[arg-type]


@pytest.mark.parametrize("alg", ["hmac-sha256", "ed25519"])
def test_a_signature_is_good_for_its_text_its_kind_and_its_deployment_alone(alg: str) -> None:
    secret, key = SECRET, SECRET
    if alg == "ed25519":
        ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
        key = ed25519.Ed25519PrivateKey.from_private_bytes(SECRET).public_key().public_bytes_raw()
    envelope = Signer("k", alg, secret, DEPLOYMENT).sign("order", {"a": 1})
    data = signed_bytes("order", DEPLOYMENT, envelope.text)
    assert verifies(alg, key, data, envelope.sig)
    assert verifies(alg, key, data, envelope.sig + "=" * (-len(envelope.sig) % 4)), "padding is optional"
    others = [
        (signed_bytes("cancel", DEPLOYMENT, envelope.text), envelope.sig),
        (signed_bytes("order", "test", envelope.text), envelope.sig),
        (signed_bytes("order", DEPLOYMENT, envelope.text + " "), envelope.sig),
        (data, envelope.sig[:-4] + "AAAA"),
        (data, ""),
        (data, "not base64!"),
    ]
    assert [verifies(alg, key, given, sig) for given, sig in others] == [False] * len(others)


@pytest.mark.parametrize(
    "body",
    [
        {"signed": TEXT, "key": "k"},
        {"signed": TEXT, "key": "k", "sig": "s", "quantity": 5},
        {"signed": {"a": 1}, "key": "k", "sig": "s"},
        {"signed": TEXT, "key": 5, "sig": "s"},
        {"signed": "x" * 10_000, "key": "k", "sig": "s"},
        {"signed": TEXT, "key": "k", "sig": "s" * 200},
    ],
)
def test_what_is_half_an_envelope_is_none(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidOrder):
        Envelope.of(body)


def test_an_order_object_is_no_envelope() -> None:
    assert Envelope.of({"client_order_id": "o-1"}) is None
    assert Envelope.of(5) is None


@pytest.mark.parametrize("text", ["", "[]", "5", "{", '{"a":' * 2_000])
def test_a_text_that_is_no_object_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidOrder):
        Envelope(text, "k", "s").content()


# -- FILES ---
def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "key"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_shared_secret_is_its_file_without_the_end_of_the_line(tmp_path: Path, end: bytes) -> None:
    assert read_secret(written(tmp_path, SECRET + end), "hmac-sha256") == SECRET


def test_a_secret_that_can_be_guessed_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least 16 bytes, had 6") as caught:
        read_secret(written(tmp_path, b"s3cret\n"), "hmac-sha256")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [SECRET, SECRET.hex().encode(), to_base64(SECRET).encode() + b"\n", base64.b64encode(SECRET + bytes(32))],
)
def test_a_private_key_is_read_in_the_forms_that_people_have(tmp_path: Path, content: bytes) -> None:
    assert read_secret(written(tmp_path, content), "ed25519") == SECRET


def test_a_private_key_is_made_and_read_as_pem(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    pem, public = new_private_key()
    signer = Signer("k", "ed25519", read_secret(written(tmp_path, pem), "ed25519"), DEPLOYMENT)
    envelope = signer.sign("cancel", {"client_order_ids": ["o-1"]})
    data = signed_bytes("cancel", DEPLOYMENT, envelope.text)
    assert verifies("ed25519", public_key(public), data, envelope.sig)


@pytest.mark.parametrize("content", [b"", b"short", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_holds_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("cryptography")
    with pytest.raises(ConfigurationError, match="no Ed25519 private key"):
        read_secret(written(tmp_path, content), "ed25519")
    with pytest.raises(ConfigurationError, match="No such file"):
        read_secret(tmp_path / "nowhere", "ed25519")


@pytest.mark.parametrize("text", ["", "abc", to_base64(bytes(31)), "!" * 43])
def test_a_public_key_has_32_bytes(text: str) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        public_key(text)


def test_base64_is_read_in_both_alphabets() -> None:
    raw = bytes(range(248, 256))
    assert from_base64(base64.b64encode(raw).decode()) == from_base64(to_base64(raw)) == raw


# -- TOKENS ---
def test_a_token_names_its_key_and_is_shown_nowhere() -> None:
    token = new_token("page_2")
    assert key_of(token) == "page_2"
    assert key_of(token + "0") is None
    assert len(digest_of(token)) == 64
    assert discreet(f"login with {token} failed") == "login with corro_page_2_*** failed"


@pytest.mark.parametrize(("text", "good"), [("dividends-2", True), ("a.b_c", True), ("", False), ("-a", False),
                                            ("a b", False), ("a" * 64, False), ("a\n", False)])  # fmt: skip
def test_the_name_of_a_key_is_plain(text: str, good: bool) -> None:
    assert is_key_id(text) is good
