"""What the sender wrote, set apart from what is answered or passed on, the signature and the lawyers' lines."""

import re

import attrs

_END = r"\s{0,3}:?\s{0,3}$"
_WROTE = r"(?:wrote|writes|escribi[óo]|a écrit|schrieb|schreef|ha scritto|escreveu|va escriure)"
_ATTRIBUTION = re.compile(rf"(?i)^\W{{0,3}}(?:on|el|le|am|op|il|em|a)\s.{{0,300}}?{_WROTE}{_END}")
_ATTRIBUTION_BEGIN = re.compile(
    r"(?i)^\W{0,3}(?:on|el|le|am)\s.{0,200}(?:\d{4}|\d{1,2}:\d{2}|<[^>\s]{3,100}@)"
)
_ATTRIBUTION_END = re.compile(rf"(?i){_WROTE}\s{{0,3}}:\s{{0,3}}$")
_SEPARATOR = re.compile(
    r"(?i)^\W{0,3}[-_*]{2,}\s{0,3}(?:original message|mensaje original|missatge original|message d'origine"
    r"|ursprüngliche nachricht|original appointment|forwarded message|mensaje reenviado|reenviado"
    r"|forwarded by .{0,100}|messaggio originale|mensagem original)\s{0,3}[-_*]{2,}\s{0,3}$"
)
_FORWARD = re.compile(
    rf"(?i)^(?:begin forwarded message|inicio del mensaje reenviado|mensaje reenviado){_END}"
)
_FROM = re.compile(r"(?i)^\W{0,3}(?:from|de|von|da)\s{0,3}:\W{0,3}\s?\S")
_HEADER = re.compile(
    r"(?i)^\W{0,3}(?:sent|date|to|cc|subject|enviado(?: el)?|fecha|para|asunto|gesendet|an|betreff|envoyé|objet|à)"
    r"\s{0,3}:"
)
_SIGNATURE = re.compile(
    r"(?i)^(?:-- ?|—|__+|--+|sent from my .{0,60}|enviado desde mi .{0,60}|get outlook for .{0,40}"
    r"|obtener outlook para .{0,40}|enviado desde outlook.{0,40}|sent from (?:outlook|yahoo|mail).{0,60})$"
)
_DISCLAIMER = re.compile(
    r"(?i)^\W{0,5}(?:"
    r"(?:aviso legal|aviso de confidencialidad|cláusula de confidencialidad|confidentiality notice|disclaimer"
    r"|legal notice|información básica sobre protección de datos|protección de datos)\b"
    r"|este (?:mensaje|correo|e-?mail)\b.{0,200}\b(?:confidencial|destinatari)"
    r"|th(?:is|e information (?:contained )?in this) (?:e-?mail|message|communication)\b"
    r".{0,200}\b(?:confidential|intended|privileged)"
    r"|antes de imprimir|please consider the environment|piensa en el medio ?ambiente)"
)


@attrs.frozen
class Written:
    """A text in its parts; each is '' if there is none of it."""

    own: str
    signature: str
    quoted: str


def set_apart(text: str) -> Written:
    """Tell the parts of a text from each other by the marks that mail programs put between them."""
    lines = text.split("\n")
    own: list[str] = []
    quoted: list[str] = []
    rest = len(lines)
    number = 0
    while number < rest:
        line = lines[number].strip()
        taken = _quote_begins(lines, number)
        if line.startswith(">"):
            quoted.append(line.lstrip("> "))
        elif taken == 1 and _quotes_follow(lines, number + 1):
            pass
        elif taken == 2 and _quotes_follow(lines, number + 2):
            number += 1
        elif taken:
            rest = number
            break
        else:
            own.append(lines[number])
        number += 1
    quoted.extend(line.strip().lstrip("> ") for line in lines[rest:])
    body, signature = _signature(own)
    return Written(_tidy(body), _tidy(signature), _tidy(quoted))


def _quote_begins(lines: list[str], number: int) -> int:
    """Return how many lines from here introduce a quoted mail; 0: none does."""
    line = lines[number].strip()
    if not line or len(line) > 400:
        return 0
    following = lines[number + 1].strip() if number + 1 < len(lines) else ""
    if _ATTRIBUTION.match(line) or _SEPARATOR.match(line) or _FORWARD.match(line):
        return 1
    if _ATTRIBUTION_BEGIN.match(line) and _ATTRIBUTION_END.search(following[:400]):
        return 2
    if (
        _FROM.match(line)
        and sum(_HEADER.match(other.strip()[:200]) is not None for other in lines[number + 1 : number + 7])
        >= 2
    ):
        return 1
    return 0


def _quotes_follow(lines: list[str], number: int) -> bool:
    """Whether the next line that is not empty is marked as quoted: then the sender may write between the quotes."""
    for line in lines[number : number + 4]:
        if line.strip():
            return line.lstrip().startswith(">")
    return False


def _signature(lines: list[str]) -> tuple[list[str], list[str]]:
    """Cut where the signature or a lawyer's paragraph begins; what is above must say something."""
    has_text = False
    for number, line in enumerate(lines):
        stripped = line.strip()
        if has_text and (_SIGNATURE.match(stripped[:100]) or _DISCLAIMER.match(stripped[:400])):
            return lines[:number], lines[number:]
        has_text = has_text or any(character.isalnum() for character in stripped)
    return lines, []


def _tidy(lines: list[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")
