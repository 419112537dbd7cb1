"""Text from HTML as a reader sees it: in one pass, whatever the tags are.

Not `html.parser`: up to the versions that Debian 12 has it takes quadratic time for unclosed comments and
declarations (CVE-2025-6069), and a mail is written by anyone. This one looks at every character a bounded number
of times, and needs only what a mail has: blocks, lists, tables, quotes, what is hidden, and where links lead.
"""

import re
from html import unescape

_MARKUP = re.compile(r"<(?:/?([a-zA-Z][a-zA-Z0-9:_-]{0,40})|[!?])")
"""A ``<`` before anything else is a character."""
_ATTRIBUTE = re.compile(
    r"""([a-zA-Z_:][\w:.-]{0,60})\s{0,50}(?:=\s{0,50}("[^"]*"|'[^']*'|[^\s"'>][^\s>]*))?"""
)
_RAW = frozenset({"script", "style", "title", "textarea", "xmp", "noembed", "noframes", "iframe"})
_UNSEEN = frozenset(
    {"head", "template", "svg", "math", "object", "select", "canvas", "audio", "video", "datalist"}
)
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
)
_BREAKS = frozenset(
    {
        *(
            "address",
            "article",
            "aside",
            "body",
            "caption",
            "center",
            "dd",
            "details",
            "dir",
            "div",
            "dl",
            "dt",
            "fieldset",
        ),
        *(
            "figcaption",
            "figure",
            "footer",
            "form",
            "header",
            "hgroup",
            "html",
            "li",
            "main",
            "menu",
            "nav",
            "ol",
            "section",
        ),
        *("summary", "table", "tbody", "tfoot", "thead", "tr", "ul"),
    }
)
_PARAGRAPHS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "blockquote", "hr"})
_BLOCKS = _BREAKS | _PARAGRAPHS
_REPEATED = frozenset({"li", "td", "th", "tr", "option", "dd", "dt"})
_CELLS = frozenset({"td", "th"})
_IS = r"\s{0,9}:\s{0,9}"
_HIDDEN = re.compile(
    rf"display{_IS}none|visibility{_IS}hidden|mso-hide{_IS}all|(?:font-size|opacity|max-height){_IS}0(?![.\d])",
    re.IGNORECASE,
)
_QUOTE_MARKS = ("gmail_quote", "yahoo_quoted", "mail-editor-reference-message-container")
"""Classes and ids by which mail programs set the mail that is answered apart."""
_LONG_NUMBER = re.compile(r"&#[xX]?[0-9a-fA-F]{8,};?")
_SPACES = re.compile(r"[ \t\r\n\f]+")
_BLANKS = re.compile(r"[ \t]+")
_LINES = re.compile(r"\n{3,}")
MAX_LINKS = 200
MAX_OPEN = 500
"""Elements that are known to be open; those further in are taken for text."""


def html_to_text(html: str) -> tuple[str, list[str]]:
    """Return the text, quotes marked by ``> `` as in a plain mail, and the addresses that links lead to."""
    reader = _Reader()
    reader.read(html)
    return reader.text(), reader.links


class _Reader:
    def __init__(self) -> None:
        self.links: list[str] = []
        self._lines: list[str] = []
        self._line: list[str] = []
        self._open: list[tuple[str, bool, bool, bool]] = []  # tag, hides, quotes, keeps white space
        self._open_count: dict[str, int] = {}
        self._hidden = self._quotes = self._pre = 0
        self._rest_quoted = False

    def read(self, html: str) -> None:
        at = 0
        has_comment_end = True
        while at < len(html):
            markup = _MARKUP.search(html, at)
            if markup is None:
                self._text(html[at:])
                return
            opening = markup.start()
            self._text(html[at:opening])
            if html.startswith("<!--", opening):
                end = html.find("-->", opening + 2) if has_comment_end else -1
                has_comment_end = end >= 0
                at = end + 3 if end >= 0 else self._tag_end(html, opening)
            elif html.startswith(("<!", "<?"), opening):
                at = self._tag_end(html, opening)
            else:
                at = self._tag(html, opening, markup)

    def text(self) -> str:
        """Return what was read."""
        self._break()
        while self._lines and not self._lines[-1].strip("> "):
            self._lines.pop()
        return _LINES.sub("\n\n", "\n".join(self._lines)).strip("\n")

    @staticmethod
    def _tag_end(html: str, at: int) -> int:
        end = html.find(">", at)
        return end + 1 if end >= 0 else len(html)

    def _tag(self, html: str, opening: int, tag: "re.Match[str]") -> int:
        name = tag[1].lower()
        if html[opening + 1] == "/":
            self._close(name)
            return self._tag_end(html, opening)
        attributes: dict[str, str] = {}
        at = tag.end()
        while at < len(html) and html[at] != ">":
            found = _ATTRIBUTE.match(html, at)
            if found is None:
                at += 1
                continue
            if len(attributes) < 50:
                attributes.setdefault(found[1].lower(), found[2] or "")
            at = found.end()
        at += 1
        if name in _RAW:
            end = re.compile(f"</{name}", re.IGNORECASE).search(html, at)
            return self._tag_end(html, end.start()) if end else len(html)
        self._element(name, attributes)
        return at

    def _element(self, name: str, attributes: dict[str, str]) -> None:
        self._close_implied(name)
        if name == "br":
            self._break()
        elif name in _PARAGRAPHS:
            self._paragraph()
        elif name in _BREAKS:
            self._break(only_if_text=True)
        elif name in _CELLS and self._line:
            self._line.append("\t")
        if not self._hidden:
            self._show(name, attributes)
        if name not in _VOID:
            self._enter(name, attributes)
        if name == "li":
            self._text("- ")

    def _show(self, name: str, attributes: dict[str, str]) -> None:
        if name == "img":
            self._line.append(_value(attributes.get("alt", ""))[:200])
        elif name == "a" and len(self.links) < MAX_LINKS:
            href = _value(attributes.get("href", "")).strip()
            if href.lower().startswith(("http://", "https://", "mailto:", "tel:")):
                self.links.append(href[:2000])

    def _enter(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= MAX_OPEN:
            return
        marks = f"{attributes.get('class', '')} {attributes.get('id', '')}".lower()
        if (
            "divrplyfwdmsg" in marks or "appendonsend" in marks
        ):  # Outlook's: all that follows is the other mail
            self._break(only_if_text=True)
            self._rest_quoted = True
        hides = (
            name in _UNSEEN
            or "hidden" in attributes
            or _HIDDEN.search(attributes.get("style", "")) is not None
        )
        quotes = name == "blockquote" or any(mark in marks for mark in _QUOTE_MARKS)
        if quotes:
            self._paragraph()
        keeps = name == "pre"
        self._open.append((name, hides, quotes, keeps))
        self._open_count[name] = self._open_count.get(name, 0) + 1
        self._hidden += hides
        self._quotes += quotes
        self._pre += keeps

    def _close_implied(self, name: str) -> None:
        """Close what nobody closes: a head before the body, a paragraph before a block, a cell before the next."""
        if name == "body" and self._open_count.get("head"):
            self._close("head")
        innermost = self._open[-1][0] if self._open else ""
        if (innermost == "p" and name in _BLOCKS) or (innermost == name and name in _REPEATED):
            self._close(innermost)

    def _close(self, name: str) -> None:
        if not self._open_count.get(name):
            if name == "p":
                self._paragraph()
            return
        while True:
            tag, hides, quotes, keeps = self._open.pop()
            self._open_count[tag] -= 1
            if quotes or tag in _BLOCKS:
                self._break(only_if_text=True)
            self._hidden -= hides
            self._quotes -= quotes
            self._pre -= keeps
            if quotes or tag in _PARAGRAPHS:
                self._paragraph()
            if tag == name:
                return

    def _text(self, text: str) -> None:
        if not text or self._hidden:
            return
        text = _referenced(text)
        if self._pre:
            first, *others = text.split("\n")
            self._line.append(first)
            for line in others:
                self._break()
                self._line.append(line)
        elif text := _SPACES.sub(" ", text):
            self._line.append(text)

    def _break(self, *, only_if_text: bool = False) -> None:
        line = "".join(self._line)
        if not self._pre:
            line = _BLANKS.sub(lambda blanks: "\t" if "\t" in blanks[0] else " ", line).strip()
        if only_if_text and not line.strip():
            self._line.clear()
            return
        self._line.clear()
        depth = min(self._quotes + self._rest_quoted, 10)
        self._lines.append(f"{'>' * depth} {line}" if depth else line)

    def _paragraph(self) -> None:
        self._break(only_if_text=True)
        if self._lines and self._lines[-1].strip("> ") and not self._hidden:
            self._lines.append(">" * min(self._quotes + self._rest_quoted, 10))


def _value(attribute: str) -> str:
    """Return an attribute's value without its quotes."""
    if attribute[:1] in {'"', "'"}:
        attribute = attribute[1:-1]
    return _referenced(attribute)


def _referenced(text: str) -> str:
    """Resolve character references; a number too long for any character is more than `int` takes, and no reference."""
    return unescape(_LONG_NUMBER.sub("\ufffd", text)) if "&" in text else text
