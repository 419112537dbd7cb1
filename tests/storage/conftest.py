from contextlib import asynccontextmanager

import pytest

from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage import open_store


class Database:
    """One fresh database and how to open a store on it."""

    def __init__(self, backend, settings, folder):
        self.backend = backend
        self.settings = settings
        self.folder = folder

    @asynccontextmanager
    async def open(self, **options):
        """Open a store; ``queue`` and ``patience`` may be set."""
        patience = options.pop("patience", 1.0)
        settings = StorageSettings(url=self.settings.url, **options)
        async with open_store(settings, self.folder, ingest_patience=patience) as store:
            yield store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request, tmp_path):
    """A fresh database on each engine."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    return Database(request.param, StorageSettings(url=url), tmp_path)


@pytest.fixture
def postgres_database(postgres_url, tmp_path):
    """A fresh database on PostgreSQL."""
    return Database("postgresql", StorageSettings(url=postgres_url), tmp_path)
