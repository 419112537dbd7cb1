"""A service's side of service discovery: registers it for the length of a block.

Needs anyio and httpx alone, and runs on Trio and on asyncio::

    async with registered("orders", "127.0.0.1", 8080) as service:
        await serve()
"""

from econeura_daemon.registrant.errors import ConfigurationError as ConfigurationError
from econeura_daemon.registrant.errors import RefusedError as RefusedError
from econeura_daemon.registrant.errors import RegistrantError as RegistrantError
from econeura_daemon.registrant.errors import UnavailableError as UnavailableError
from econeura_daemon.registrant.registering import Check as Check
from econeura_daemon.registrant.registering import Endpoint as Endpoint
from econeura_daemon.registrant.registering import registered as registered
from econeura_daemon.registrant.service import Service as Service
