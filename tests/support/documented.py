"""Documents whose examples are run: a ``curl`` and what it is answered, with ``…`` where that differs each time."""

import re
import shlex

import attrs

_EXAMPLE = re.compile(
    r"```sh\ncurl (?P<curl>.+?)\n```\n\nAnswer `(?P<status>\d+)`(?::\n\n```(?P<kind>json|text)\n(?P<answer>.*?)```)?",
    re.DOTALL,
)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@attrs.frozen
class Example:
    """One ``curl`` of the document, and what it says is answered."""

    arguments: list[str]
    status: int
    kind: str | None
    answer: str

    def request(self, variables):
        """Read the few options of curl that the document uses."""
        method, url, headers, body = None, None, [], None
        arguments = iter(self.arguments)
        for argument in arguments:
            match argument:
                case "-X":
                    method = next(arguments)
                case "-H":
                    name, _, value = next(arguments).partition(": ")
                    headers.append((name, value))
                case "-d":
                    body = next(arguments)
                case "-N":
                    pass
                case _:
                    assert not argument.startswith("-"), f"an option this test does not know: {argument}"
                    url = re.sub(r"\$([A-Z]+)", lambda name: variables[name[1]], argument)
        return method or ("GET" if body is None else "POST"), url, headers, body


def examples(text):
    """Return all examples of a document, in their order."""
    found = [
        Example(shlex.split(match["curl"]), int(match["status"]), match["kind"], match["answer"] or "")
        for match in _EXAMPLE.finditer(text)
    ]
    assert len(found) == text.count("```sh"), "an example of another form"
    return found


def assert_like(shown, got, path="$", varying=("uptime",)):
    """Compare an answer with the one that is shown, but for instants, where ``…`` stands, and numbers that vary."""
    if isinstance(shown, dict):
        assert isinstance(got, dict), path
        assert list(shown) == list(got), f"{path}: {list(shown)} is shown, {list(got)} came"
        for name, value in shown.items():
            assert_like(value, got[name], f"{path}.{name}", varying)
    elif isinstance(shown, list):
        assert isinstance(got, list), path
        assert len(shown) == len(got), path
        for index, value in enumerate(shown):
            assert_like(value, got[index], f"{path}[{index}]", varying)
    elif isinstance(shown, str) and _INSTANT.fullmatch(shown):
        assert _INSTANT.fullmatch(got), path
    elif isinstance(shown, str) and "…" in shown:
        pattern = ".*".join(map(re.escape, shown.split("…")))
        assert re.fullmatch(pattern, got), f"{path}: {shown!r} is shown, {got[:500]!r} came"
    elif path.rpartition(".")[2] in varying:
        assert got >= 0, path
    else:
        assert (type(shown), shown) == (type(got), got), path
