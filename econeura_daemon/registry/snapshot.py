"""What callers resolve against: an immutable view of all instances by type."""

from collections.abc import Mapping

import attrs

from econeura_daemon.registry.model import Change, Instance


@attrs.frozen
class Snapshot:
    """Every instance as of one index."""

    index: int
    types: Mapping[str, tuple[Instance, ...]]
    """By type; one that has no instance is not in it. Never changed."""

    def resolve(self, type: str) -> tuple[Instance, ...]:  # noqa: A002 - the word for it
        """Return the instances of a service, whatever their status."""
        return self.types.get(type, ())


class Catalogue:
    """Every committed instance, and the snapshots of it.

    A change notes which type it touched, the next look makes that type's tuple anew: a thousand changes in a row
    cost one.
    """

    def __init__(self, index: int, instances: list[Instance]) -> None:
        self.instances = {instance.id: instance for instance in instances}
        """By id."""
        self.index = index
        self._members: dict[str, dict[str, Instance]] = {}
        for instance in instances:
            self._members.setdefault(instance.type, {})[instance.id] = instance
        self._touched = set(self._members)
        self._snapshot = Snapshot(index, {})

    def __repr__(self) -> str:
        return f"<Catalogue at {self.index}: {len(self.instances)} instances of {len(self._members)} types>"

    def apply(self, change: Change) -> None:
        """Take over a committed change."""
        self.index = change.index
        before, after = change.before, change.after
        if before is not None and (after is None or after.type != before.type):
            members = self._members[before.type]
            del members[before.id]
            if not members:
                del self._members[before.type]
            self._touched.add(before.type)
        if after is None:
            del self.instances[change.instance.id]
            return
        self.instances[after.id] = after
        self._members.setdefault(after.type, {})[after.id] = after
        self._touched.add(after.type)

    def snapshot(self) -> Snapshot:
        """Return all as it is now."""
        if self._touched:
            types = dict(self._snapshot.types)
            for touched in self._touched:
                members = self._members.get(touched)
                if members:
                    types[touched] = tuple(members.values())
                else:
                    types.pop(touched, None)
            self._touched.clear()
            self._snapshot = Snapshot(self.index, types)
        elif self._snapshot.index != self.index:
            self._snapshot = Snapshot(self.index, self._snapshot.types)
        return self._snapshot
