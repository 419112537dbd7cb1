"""An authority of the tests' own: what its certificates name, and who trusts it."""

import ssl

import trustme

AUTHORITY = trustme.CA()


def trusting():
    """Return a client's context that trusts nobody else."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def server_context(*hosts):
    """Return a server's context with a certificate for ``hosts``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert(*hosts).configure_cert(context)
    return context
