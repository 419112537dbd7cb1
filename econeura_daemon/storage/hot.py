"""Hot statements: written once in SQLAlchemy Core, run on the driver from the compiled text."""

import sqlalchemy as sa


class Hot:
    """A statement whose text is compiled once a backend; its rows are sequences in the order of ``names``."""

    def __init__(self, statement: sa.Executable, *names: str) -> None:
        self.statement = statement
        self.names = names
