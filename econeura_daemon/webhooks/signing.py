"""Signatures of webhooks, out and in: Standard Webhooks ``v1`` and ECONEURA's own, both HMAC-SHA256.

- Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md):
  ``webhook-signature: v1,<base64 of HMAC(secret, id + "." + timestamp + "." + body)>``, one per live secret,
  separated by spaces. A secret ``whsec_<base64>`` is decoded, any other text is used as its UTF-8 bytes.
- ECONEURA: ``X-Webhook-Signature: sha256=<hex of HMAC(secret, body)>``. It has room for one signature, the
  current secret's.

Everything works on bytes and compares in constant time. The asymmetric ``v1a`` (ed25519) is not spoken; its
keys (``whsk_``, ``whpk_``) are refused rather than used as text.
"""

import base64
import binascii
import contextlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs

from econeura_daemon.core.errors import EconeuraError
from econeura_daemon.webhooks.model import Secret

PREFIX = "whsec_"
NEW_SECRET_BYTES = 32
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
"""Of a ``whsec_`` secret, decoded: Standard Webhooks, "Signature scheme"."""
MAX_TEXT_BYTES = 256
"""Of any other secret."""

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
ECONEURA_HEADER = "x-webhook-signature"

_MAX_SIGNATURES = 64
"""Of one message that are looked at; ten live secrets are the most that a sender of ours has."""
_SECONDS = re.compile(rb"[0-9]{1,12}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class SignatureError(EconeuraError):
    """A webhook that came in is not signed by any of the secrets, or at another time."""


@attrs.frozen
class Verified:
    """What vouches for a message: the scheme (``standard`` or ``econeura``) and the index of the secret."""

    scheme: str
    secret: int


def new_secret(rng: Callable[[int], bytes]) -> str:
    """Return a new ``whsec_`` secret of 32 bytes; ``rng`` is `secrets.token_bytes` or its like."""
    return PREFIX + base64.b64encode(rng(NEW_SECRET_BYTES)).decode("ascii")


def secret_flaw(text: str) -> str | None:
    """Return what is wrong with a secret that somebody gave, None if nothing is. Never shows the secret."""
    if not text:
        return "a secret may not be empty"
    if text.startswith(("whsk_", "whpk_")):
        return "ed25519 keys (v1a) are not supported; give a whsec_ secret"
    if text.startswith(PREFIX):
        return _encoded_flaw(text)
    if _CONTROL.search(text) is not None or text != text.strip():
        return "a secret holds no control characters and neither begins nor ends with a blank"
    if len(text.encode()) > MAX_TEXT_BYTES:
        return f"a secret has at most {MAX_TEXT_BYTES} bytes"
    return None


def _encoded_flaw(text: str) -> str | None:
    try:
        length = len(_decode(text))
    except ValueError:
        return "what follows whsec_ is not base64 (RFC 4648 section 4)"
    if length == 0:
        return "a secret may not be empty: nothing follows whsec_"
    if not MIN_SECRET_BYTES <= length <= MAX_SECRET_BYTES:
        return f"a whsec_ secret holds {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, this one {length}"
    return None


def secret_key(text: str) -> bytes:
    """Return the HMAC key that a secret stands for; ValueError where there is none."""
    key = _decode(text) if text.startswith(PREFIX) else text.encode()
    if not key:
        raise ValueError("a secret may not be empty")
    return key


def sign(secrets: Iterable[str], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``, one ``v1,…`` per secret; ``timestamp`` in seconds."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return " ".join(_v1(secret_key(text), signed).decode("ascii") for text in secrets)


def econeura_signature(secret: str, body: bytes) -> str:
    """Return the value of ``X-Webhook-Signature``."""
    return _econeura(secret_key(secret), body).decode("ascii")


@attrs.frozen
class Signer:
    """The secrets of one subscription, decoded.

    Keys, not HMAC states that have taken them in: a state costs 800 bytes more, and copying it as much time as
    OpenSSL's one call does without.
    """

    _keys: tuple[tuple[int | None, bytes], ...] = attrs.field(repr=False)

    @classmethod
    def of(cls, secrets: Sequence[Secret]) -> "Signer":
        """Make a signer, the current secret (the one that expires last or never) first. Raises ValueError."""
        lasting = sorted(
            secrets, key=lambda secret: (secret.expires_at is not None, -(secret.expires_at or 0))
        )
        return cls(tuple((secret.expires_at, secret_key(secret.text)) for secret in lasting))

    def sign(self, message_id: str, timestamp: int, body: bytes) -> tuple[bytes, bytes] | None:
        """Return both headers' values, ``webhook-signature`` and ``X-Webhook-Signature``.

        ``timestamp``: seconds since the epoch, which also tells which secrets are alive; None if none is.
        """
        live = [key for expires_at, key in self._keys if expires_at is None or timestamp * 1000 < expires_at]
        if not live:
            return None
        signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
        return b" ".join([_v1(key, signed) for key in live]), _econeura(live[0], body)


def verify(
    secrets: Sequence[str], headers: Mapping[str, str], body: bytes, *, now_ms: int, tolerance_ms: int
) -> Verified:
    """Return which secret signed a message that came in; a message with both kinds must satisfy both.

    ``headers`` as they came, in any case. Raises `SignatureError` and nothing else, whatever they hold.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    keys = list(_usable(secrets))
    found: Verified | None = None
    econeura = lower.get(ECONEURA_HEADER)
    if econeura is not None:
        match = _matching([(index, _econeura(key, body)) for index, key in keys], [_bytes(econeura)])
        found = Verified("econeura", match)
    if SIGNATURE_HEADER in lower:
        signed = _signed(lower, body, now_ms, tolerance_ms)
        given = _bytes(lower[SIGNATURE_HEADER]).split(b" ", _MAX_SIGNATURES)[:_MAX_SIGNATURES]
        match = _matching([(index, _v1(key, signed)) for index, key in keys], given)
        found = Verified("standard", match)
    if found is None:
        raise SignatureError("the message carries no signature")
    return found


def _signed(headers: Mapping[str, str], body: bytes, now_ms: int, tolerance_ms: int) -> bytes:
    message_id, timestamp = _bytes(headers.get(ID_HEADER, "")), _bytes(headers.get(TIMESTAMP_HEADER, ""))
    if not message_id or not timestamp:
        raise SignatureError(f"{SIGNATURE_HEADER} needs {ID_HEADER} and {TIMESTAMP_HEADER} beside it")
    if _SECONDS.fullmatch(timestamp) is None:
        raise SignatureError(f"{TIMESTAMP_HEADER} is not a number of seconds")
    off = int(timestamp) * 1000 - now_ms
    if abs(off) > tolerance_ms:
        raise SignatureError(
            f"the message was signed {abs(off) / 1000:.0f} s {'after' if off > 0 else 'before'} the present"
        )
    return b"%b.%b.%b" % (message_id, timestamp, body)


def _usable(secrets: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    for index, text in enumerate(secrets):
        with contextlib.suppress(ValueError):  # a secret that is no key vouches for nothing
            yield index, secret_key(text)


def _matching(expected: Sequence[tuple[int, bytes]], given: Sequence[bytes]) -> int:
    match = -1
    for index, signature in expected:
        for other in given:
            # No early end: how long it takes tells nothing of which one nearly matched.
            if hmac.compare_digest(signature, other) and match < 0:
                match = index
    if match < 0:
        raise SignatureError("no signature matches")
    return match


def _decode(text: str) -> bytes:
    encoded = text.removeprefix(PREFIX)
    try:
        # The reference libraries accept secrets whose padding got lost.
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None


def _v1(key: bytes, signed: bytes) -> bytes:
    return b"v1," + binascii.b2a_base64(hmac.digest(key, signed, "sha256"), newline=False)


def _econeura(key: bytes, body: bytes) -> bytes:
    return b"sha256=" + binascii.hexlify(hmac.digest(key, body, "sha256"))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
