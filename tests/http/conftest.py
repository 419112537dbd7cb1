"""What the tests of TLS share: an authority of their own and a certificate."""

import pytest
import trustme


@pytest.fixture(scope="session")
def authority():
    """Nobody else trusts it."""
    return trustme.CA()


@pytest.fixture(scope="session")
def pem(authority, tmp_path_factory):
    """The file with key and certificate of ``localhost``."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)
