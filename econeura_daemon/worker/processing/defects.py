"""What is wrong with a mail, for people: each thing once, and not more than anyone reads."""

MAX_DEFECTS = 20


class Defects:
    """Collects them in the order in which they were met."""

    def __init__(self) -> None:
        self._met: dict[str, None] = {}

    def add(self, defect: str | None, where: str = "") -> None:
        """Note a defect; None is none."""
        if defect is not None and len(self._met) < MAX_DEFECTS:
            self._met[f"{where}: {defect}" if where else defect] = None

    def listed(self) -> tuple[str, ...]:
        """Return all of them."""
        return tuple(self._met)
