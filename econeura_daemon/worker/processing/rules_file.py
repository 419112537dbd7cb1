"""What may stand in a rules file: its tables and keys, each checked where it stands."""

import re

import attrs

from econeura_daemon.core.errors import Flaw, InvalidInputError
from econeura_daemon.core.validators import between, choice
from econeura_daemon.worker.processing.words import Pattern

MAX_PATTERNS = 5000
"""In one list; a pattern costs less than a microsecond in a mail that does not have its first word."""
FIELDS = ("subject", "body", "from", "to", "attachments")
_HEADER = re.compile(r"header:[!-9;-~]{1,100}")
_CATEGORY = re.compile(r"[a-z][a-z0-9_-]{0,49}")
_NAME_EXPECTED = "expected a name of up to 50 small letters, digits, - and _, beginning with a letter"
_ADDRESS = re.compile(r"[^\s@]{1,64}@[^\s@]{1,255}")


def _patterns(_instance: object, _field: "attrs.Attribute[tuple[str, ...]]", value: tuple[str, ...]) -> None:
    if not 1 <= len(value) <= MAX_PATTERNS:
        raise ValueError(f"expected 1 to {MAX_PATTERNS} patterns, got {len(value)}")
    flaws = []
    for number, text in enumerate(value):
        try:
            Pattern.parse(text[:200])
        except ValueError as error:
            flaws.append(Flaw(f"$[{number}]", str(error)))
    if flaws:
        raise InvalidInputError(flaws)


def _fields(_instance: object, _field: "attrs.Attribute[tuple[str, ...]]", value: tuple[str, ...]) -> None:
    flaws = [
        Flaw(f"$[{number}]", f"expected {', '.join(FIELDS)} or header:NAME, got {name[:60]!r}")
        for number, name in enumerate(value)
        if name not in FIELDS and _HEADER.fullmatch(name) is None
    ]
    if flaws:
        raise InvalidInputError(flaws)


def _address(_instance: object, _field: "attrs.Attribute[str | None]", value: str | None) -> None:
    if value is not None and _ADDRESS.fullmatch(value) is None:
        raise ValueError(f"expected an address such as office@example.com, got {value[:60]!r}")


def misnamed(categories: object) -> list[Flaw]:
    """Return what is wrong with the names of the categories of a file as it was read."""
    return [
        Flaw(f"$.categories.{name}", _NAME_EXPECTED)
        for name in (categories if isinstance(categories, dict) else ())
        if _CATEGORY.fullmatch(name) is None
    ]


def _regions(
    _instance: object,
    _field: "attrs.Attribute[dict[str, tuple[str, ...]]]",
    value: dict[str, tuple[str, ...]],
) -> None:
    flaws = [
        Flaw(f"$.{language}[{number}]", f"expected a country such as ES, got {region[:20]!r}")
        for language, regions in value.items()
        for number, region in enumerate(regions)
        if re.fullmatch("[A-Z]{2}", region) is None
    ]
    if flaws:
        raise InvalidInputError(flaws)


@attrs.frozen(kw_only=True)
class WordRule:
    """Patterns, where they are looked for, and what meeting one is worth."""

    any: tuple[str, ...] = attrs.field(validator=_patterns)
    weight: float = attrs.field(default=1.0, validator=between(0.01, 100))
    where: tuple[str, ...] = attrs.field(default=("subject", "body"), validator=_fields)


@attrs.frozen(kw_only=True)
class CategoryRules:
    """One category: what speaks for it, what is suggested for it, and what it adds to a mail's urgency."""

    rules: tuple[WordRule, ...]
    action: str = attrs.field(
        default="categorize", validator=choice("none", "categorize", "archive", "forward")
    )
    forward_to: str | None = attrs.field(default=None, validator=_address)
    urgency: float = attrs.field(default=0.0, validator=between(-100, 100))

    def __attrs_post_init__(self) -> None:
        """Refuse a forward that leads nowhere, and an address that nothing is sent to."""
        if (self.action == "forward") != (self.forward_to is not None):
            raise ValueError('forward_to belongs to action = "forward", and is needed there')


@attrs.frozen(kw_only=True)
class General:
    """The category of mails that no rule knows, and what is suggested for them."""

    category: str = "general"
    action: str = attrs.field(default="none", validator=choice("none", "categorize", "archive"))
    evidence: float = attrs.field(default=2.0, validator=between(0.01, 100))
    """What a category must have at least; also what stands against it in its confidence."""
    act_at: float = attrs.field(default=0.5, validator=between(0, 1))
    """Confidence below which nothing is suggested."""


@attrs.frozen(kw_only=True)
class Negation:
    """Words that turn what follows them within ``window`` words."""

    words: tuple[str, ...] = ()
    window: int = attrs.field(default=3, validator=between(0, 10))


@attrs.frozen(kw_only=True)
class SentimentRules:
    """What is said by people who are content, and by those who are not."""

    positive: tuple[WordRule, ...] = ()
    negative: tuple[WordRule, ...] = ()


@attrs.frozen(kw_only=True)
class UrgencyRules:
    """What makes a mail urgent and what makes it wait; the sums at which it is called so."""

    raises: tuple[WordRule, ...] = ()
    lowers: tuple[WordRule, ...] = ()
    urgent_at: float = attrs.field(default=5.0, validator=between(0.01, 1000))
    high_at: float = attrs.field(default=2.0, validator=between(0.01, 1000))
    low_at: float = attrs.field(default=-2.0, validator=between(-1000, -0.01))


@attrs.frozen(kw_only=True)
class Phones:
    """Countries by language, whose numbers are known without a country code; those of ``default`` always."""

    regions: dict[str, tuple[str, ...]] = attrs.field(
        factory=lambda: {"default": ("ES",)}, validator=_regions
    )


@attrs.frozen(kw_only=True)
class RulesFile:
    """The whole file."""

    categories: dict[str, CategoryRules]
    languages: tuple[str, ...] = ("es", "en")
    general: General = General()
    negation: Negation = Negation()
    sentiment: SentimentRules = SentimentRules()
    urgency: UrgencyRules = UrgencyRules()
    phones: Phones = Phones()
