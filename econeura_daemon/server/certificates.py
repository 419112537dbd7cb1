"""The daemon's own certificate."""

import ssl

from econeura_daemon.core.errors import SettingsError
from econeura_daemon.core.settings import HttpSettings


def open_context(settings: HttpSettings) -> ssl.SSLContext | None:
    """Read certificate and key; None without one. Raises `SettingsError` that says what is wrong."""
    if not settings.tls_certificate:
        if settings.tls_key:
            raise SettingsError.at("$.http.tls_key", "is of no use without http.tls_certificate")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError.at(
            "$.http.tls_certificate",
            f"{settings.tls_certificate} and its key cannot be used: {reason}",
        ) from error
    return context


def _no_password() -> str:
    """Keep OpenSSL from asking for one on the terminal."""
    return ""
