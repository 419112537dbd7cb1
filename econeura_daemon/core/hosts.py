"""What stands for a host in a setting or a body: a name, or an address."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address

import idna

_MAX_NAME = 253
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)


def host_flaw(host: str, *, in_brackets: bool = False) -> str | None:
    """Return what is wrong with a host, None if nothing is. An IPv6 address stands without its brackets.

    ``in_brackets``: it stood in some, so nothing but an IPv6 address will do.
    """
    if in_brackets or ":" in host:
        return _address_flaw(host, IPv6Address)
    if len(host) > _MAX_NAME:
        return f"a host name has at most {_MAX_NAME} characters, this one has {len(host)}"
    try:
        name = ascii_host(host)
        if "xn--" in name.lower():
            idna.decode(name)
    except (idna.IDNAError, UnicodeError) as error:
        return f"the host {host!r} is no internationalized name (IDNA 2008): {error}"
    labels = name.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Resolvers read 2130706433, 0x7f.1, 0177.0.0.1, 127.1 as 127.0.0.1: WHATWG URL, "ends in a number".
        return _address_flaw(host, IPv4Address)
    bad = next((label for label in labels if _LABEL.fullmatch(label) is None), None)
    return None if bad is None else f"{bad!r} is no part of a host name: 1 to 63 of a-z, 0-9, - and _"


def ascii_host(host: str) -> str:
    """Return a host as the DNS has it. Raises `idna.IDNAError` or UnicodeError: see `host_flaw`."""
    return host if host.isascii() else idna.encode(host).decode("ascii")


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that ``host`` spells out, None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _address_flaw(host: str, family: type[IPv4Address | IPv6Address]) -> str | None:
    try:
        address = family(host)
    except AddressValueError:
        return f"the host {host!r} is an address in an unusual form; write 192.0.2.1 or [2001:db8::1]"
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return f"the host {host!r} names a network interface, which only this machine understands"
    return None
