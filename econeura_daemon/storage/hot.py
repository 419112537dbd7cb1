"""Hot statements: written once in SQLAlchemy Core, run on the driver from the compiled text.

SQLAlchemy Core costs about four times what the driver costs for one row; a hot statement pays for the
compiler once a backend and then only for arranging its parameters.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import attrs
import sqlalchemy as sa
from sqlalchemy.sql import visitors

from econeura_daemon.storage.dialect import DRIVER_SUFFIX, compiler_dialect

Arrange = Callable[[Sequence[Any]], Sequence[Any]]


@attrs.frozen
class Compiled:
    """What goes to the driver: the text, and how a row becomes its parameters."""

    text: str
    arrange: Arrange | None
    """None: the row is the parameters, as it is."""


class Hot:
    """A statement whose text is compiled once a backend; its rows are sequences in the order of ``names``.

    ``names`` are the statement's parameters: columns of an ``INSERT`` without values, or the names of
    explicit ``bindparam``. Constants that stand in the statement are written into the text as literals (but
    for ``INSERT``), so that a partial index can match them. Lists as parameters (an expanding ``IN``) are not
    possible.

    Rows that come back are the driver's: what is a Boolean in Core is 0 or 1 on SQLite.
    """

    def __init__(self, statement: sa.Executable, *names: str) -> None:
        self.statement = statement
        self.names = names
        self._compiled: dict[str, Compiled] = {}

    def compiled(self, backend: str) -> Compiled:
        """Return the statement for ``backend``; TypeError if ``names`` are not its parameters."""
        compiled = self._compiled.get(backend)
        if compiled is None:
            compiled = self._compiled[backend] = self._compile(backend)
        return compiled

    def _compile(self, backend: str) -> Compiled:
        statement: Any = self.statement
        if isinstance(statement, sa.Insert):
            options: dict[str, Any] = {"column_keys": list(self.names)}
        else:
            statement = visitors.cloned_traverse(statement, {}, {"bindparam": self._write_constant_out})
            options = {"compile_kwargs": {"render_postcompile": True}}
        compiled = statement.compile(dialect=compiler_dialect(backend), for_executemany=True, **options)
        order: list[str] = list(compiled.positiontup or ())
        constants = [name for name in dict.fromkeys(order) if name not in self.names]
        missing = [name for name in self.names if name not in order]
        unknown = [name for name in constants if compiled.binds[name].required]
        if missing or unknown:
            raise TypeError(
                f"a hot statement names {missing} and lacks {unknown}, unlike its text: {compiled}"
            )
        text = str(compiled) + DRIVER_SUFFIX[backend]
        if order == list(self.names):
            return Compiled(text, None)
        values = tuple(compiled.params[name] for name in constants)
        places = [[*self.names, *constants].index(name) for name in order]
        if not places:
            return Compiled(text, lambda _row: ())
        pick = itemgetter(*places) if len(places) > 1 else itemgetter(slice(places[0], places[0] + 1))
        return Compiled(text, lambda row: pick((*row, *values)))

    def _write_constant_out(self, parameter: Any) -> None:
        """Mark a parameter of a cloned statement: ours, or a constant that becomes a literal."""
        if parameter.key in self.names:
            parameter.required = False  # its value comes with each row
        elif not parameter.required:
            parameter.literal_execute = True

    def __repr__(self) -> str:
        return f"<Hot {' '.join(str(self.statement).split())[:80]!r} of {', '.join(self.names) or 'nothing'}>"
