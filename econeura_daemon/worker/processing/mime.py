"""A mail's parts: one pass over its bytes, without recursion, and never more than the bounds.

The standard library's parser keeps a generator for each open part and asks each of them about every line, which a
thousand nested parts make slow until Python's own depth ends it. Here only lines that begin with ``--`` are
looked at, and a dictionary says whose boundary they are (RFC 2046, 5.1). What is attached as a mail
(message/rfc822) is one part and stays closed: it is not what the sender wrote.
"""

import re

import attrs

from econeura_daemon.worker.processing.defects import Defects
from econeura_daemon.worker.processing.head import Content, Head, parse_content, read_head

MAX_PARTS = 1000
MAX_DEPTH = 50
_LINE = re.compile(rb"^--([^\r\n]{0,200})[^\n]*(?:\n|\Z)", re.MULTILINE)
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")


@attrs.define(eq=False)
class Part:
    """An entity: its head, its kind, where its body lies in the mail, and the parts that are in it."""

    head: Head
    content_type: Content
    start: int
    end: int
    depth: int
    parts: list["Part"] = attrs.Factory(list)

    @property
    def kind(self) -> str:
        """Type and subtype in lower case: ``text/plain``."""
        return self.content_type.value

    @property
    def is_container(self) -> bool:
        """Whether it holds parts."""
        return bool(self.parts)

    @property
    def encoding(self) -> str:
        """Content-Transfer-Encoding in lower case, without comments."""
        return self.head.get("content-transfer-encoding").partition(";")[0].strip().strip("\"'").lower()

    @property
    def disposition(self) -> str:
        """``inline``, ``attachment``, another word or ''."""
        return parse_content(self.head.get("content-disposition")).value

    @property
    def file_name(self) -> str:
        """The name that the sender gave the file, without folders; '' if none."""
        name = parse_content(self.head.get("content-disposition")).parameters.get("filename", "")
        name = name or self.content_type.parameters.get("name", "")
        return " ".join(re.split(r"[/\\]", name)[-1].split())[:255]


def parse_parts(raw: bytes, defects: Defects) -> Part:
    """Return the mail as one part that holds the others."""
    return _Parsing(raw, defects).parse()


@attrs.define(eq=False)
class _Open:
    """A multipart that goes on."""

    part: Part
    boundary: bytes
    has_begun: bool = False


class _Parsing:
    def __init__(self, raw: bytes, defects: Defects) -> None:
        self.raw = raw
        self.defects = defects
        self.stack: list[_Open] = []
        self.whose: dict[bytes, int] = {}  # where in the stack the multipart with this boundary is
        self.leaf: Part | None = None

    def parse(self) -> Part:
        root = self._entity(0, 0, "text/plain")
        self._open(root)
        at = root.start
        count = 1
        while self.stack and (line := _LINE.search(self.raw, at)):
            at = line.end()
            index, is_close = self._found(line[1].rstrip())
            if index is None:
                continue
            self._end_parts(index, _without_line_end(self.raw, line.start()), is_close=is_close)
            if is_close:
                continue
            if count >= MAX_PARTS:
                self.defects.add(f"more than {MAX_PARTS} parts; the others were not read")
                break
            count += 1
            at = self._begin_part(self.stack[index], line.end())
        for unfinished in self.stack:
            if unfinished.has_begun:
                self.defects.add("a multipart has no end")
            else:
                self.defects.add("a multipart's boundary is nowhere; read as one part")
        return root

    def _found(self, token: bytes) -> tuple[int | None, bool]:
        """Return which open multipart the line belongs to, and whether it ends it."""
        index = self.whose.get(token)
        if index is None and token.endswith(b"--"):
            return self.whose.get(token[:-2]), True
        return index, False

    def _end_parts(self, index: int, before: int, *, is_close: bool) -> None:
        """End what is open within the multipart at ``index``, and itself if its end was met."""
        if self.leaf is not None:
            self.leaf.end = max(self.leaf.start, before)
            self.leaf = None
        for gone in self.stack[index + 1 :]:
            gone.part.end = max(gone.part.start, before)
            self.defects.add("a multipart has no end")
        self.stack[index].has_begun = True
        if is_close:
            self.stack[index].part.end = before
        length = index if is_close else index + 1
        while len(self.stack) > length:
            del self.whose[self.stack.pop().boundary]

    def _begin_part(self, opened: _Open, start: int) -> int:
        default = "message/rfc822" if opened.part.kind == "multipart/digest" else "text/plain"
        part = self._entity(start, opened.part.depth + 1, default)
        opened.part.parts.append(part)
        if not self._open(part):
            self.leaf = part
        return part.start

    def _entity(self, start: int, depth: int, default: str) -> Part:
        head = read_head(self.raw, start, len(self.raw), self.defects)
        content = Content(default, {})
        if "content-type" in head.fields:
            content = parse_content(head.get("content-type"))
        if _TYPE.fullmatch(content.value) is None:
            self.defects.add(f"content type {content.value[:40]!a} is none; read as text")
            content = Content("text/plain", content.parameters)  # RFC 2045, 5.2
        return Part(head, content, head.body, len(self.raw), depth)

    def _open(self, part: Part) -> bool:
        """Look for the parts of a multipart from now on; False if it is none, or cannot be read as one."""
        if not part.kind.startswith("multipart/"):
            return False
        if part.encoding not in {"", "7bit", "8bit", "binary"}:
            said = f"{part.encoding[:40]!a}"
            self.defects.add(
                f"a multipart is said to be encoded ({said}), which is not allowed; read as it is"
            )
        if part.depth >= MAX_DEPTH:
            self.defects.add(f"parts are nested more than {MAX_DEPTH} deep; the inner ones were not read")
            return False
        boundary = self._boundary_of(part)
        if not boundary:
            return False
        if boundary in self.whose:
            self.defects.add("a multipart has the boundary of the one around it")
            return False
        self.whose[boundary] = len(self.stack)
        self.stack.append(_Open(part, boundary))
        return True

    def _boundary_of(self, part: Part) -> bytes:
        boundary = part.content_type.parameters.get("boundary", "").rstrip().encode("utf-8", "replace")[:200]
        if boundary:
            return boundary
        self.defects.add("a multipart says no boundary")
        first = _LINE.search(self.raw, part.start)
        return first[1].rstrip() if first else b""


def _without_line_end(raw: bytes, at: int) -> int:
    """Return where the line before ``at`` ends: the line end belongs to the boundary."""
    if raw[at - 1 : at] == b"\n":
        at -= 1
        if raw[at - 1 : at] == b"\r":
            at -= 1
    return at
