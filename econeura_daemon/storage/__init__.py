"""The store: one writer with group commit, readers beside it, topics to watch; on SQLite or PostgreSQL."""

from econeura_daemon.storage.connection import Connection as Connection
from econeura_daemon.storage.hot import Hot as Hot
from econeura_daemon.storage.joining import Joint as Joint
from econeura_daemon.storage.model import Store as Store
from econeura_daemon.storage.model import StoreStatistics as StoreStatistics
from econeura_daemon.storage.model import Watch as Watch
from econeura_daemon.storage.model import Work as Work
from econeura_daemon.storage.opening import open_store as open_store
