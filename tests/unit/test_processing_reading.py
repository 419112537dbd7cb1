"""What of a mail is read as its text: charsets, transfer encodings, parts, and what people's programs get wrong."""

import base64
import email
import email.policy
import time

import pytest

from econeura_daemon.worker.processing.charsets import decode
from econeura_daemon.worker.processing.defects import MAX_DEFECTS, Defects
from econeura_daemon.worker.processing.head import decode_words, parse_content
from econeura_daemon.worker.processing.mime import MAX_DEPTH, MAX_PARTS, parse_parts
from econeura_daemon.worker.processing.readable import read_mail
from tests.support.cpython_mails import cpython_mails

HEAD = b"From: ana@example.com\nSubject: A question\nMIME-Version: 1.0\n"
SPANISH = "El camión llegó; la señal costó 3 €."


def read(content_type, body, *, encoding="8bit"):
    raw = HEAD + f"Content-Type: {content_type}\nContent-Transfer-Encoding: {encoding}\n\n".encode()
    defects = Defects()
    readable = read_mail(raw + (body if isinstance(body, bytes) else body.encode()), defects)
    return readable, defects.listed()


@pytest.mark.parametrize(
    ("label", "raw", "text"),
    [
        ("iso-8859-1", SPANISH.encode("cp1252"), SPANISH),
        ("ISO-8859-1", SPANISH.encode(), SPANISH),
        ("us-ascii", SPANISH.encode("cp1252"), SPANISH),
        ("utf-8", SPANISH.encode("cp1252"), SPANISH),
        ("unknown-8bit", SPANISH.encode(), SPANISH),
        (None, SPANISH.encode("cp1252"), SPANISH),
        ("no-such-charset", SPANISH.encode(), SPANISH),
        ("unicode_escape", b"\\x41", "\\x41"),
        ("punycode", b"maana-pta", "maana-pta"),
        ("utf-16", SPANISH.encode("utf-16"), SPANISH),
        ("utf-7", "mañana".encode("utf-7"), "mañana"),
        ("unicode-1-1-utf-7", b"+2AA-", "�"),
        ("gb2312", "你好朋友镕".encode("gbk"), "你好朋友镕"),
        ("iso-2022-jp", "こんにちは".encode("iso-2022-jp"), "こんにちは"),
        ("koi8-r", "Здравствуйте".encode("koi8-r"), "Здравствуйте"),
        ("'windows-1251'", "Привет".encode("cp1251"), "Привет"),
        ("ks_c_5601-1987", "안녕하세요".encode("cp949"), "안녕하세요"),
        ("shift_jis", "①②".encode("cp932"), "①②"),
        ("utf-8", "ok ñ".encode() + b"\xff", "ok ñ�"),
        ("windows-1252", b"\x81", "\x81"),
        ("utf\0-8", b"x", "x"),
    ],
)
def test_text_is_read_whatever_the_label_says(label, raw, text):
    assert decode(raw, label)[0] == text


@pytest.mark.parametrize(
    ("encoding", "body", "text"),
    [
        ("base64", base64.encodebytes(SPANISH.encode()), SPANISH),
        ("BASE64", b"SG9s*Y\nSBxd!WUgdGFs\n", "Hola que tal"),
        ("base64", b"SG9sYSBxdWUgdGFs\nSG", "Hola que tal\x48"),
        ("base64", b"SG9sYQ==\n____\nA list's footer, in plain words\n", "Hola"),
        ("base64", b"SG9sYQ==\nIHF1ZQ==", "Hola que"),
        ("quoted-printable", b"se=C3=B1al=\n es=20=  \nto =ZZ", "señal es to =ZZ"),
        ("x-uuencode", b"begin 644 a\n$2&]L80``\n`\nend\n", "Hola"),
        ("rot-13", b"Hola", "Hola"),
    ],
)
def test_a_transfer_encoding_is_undone_as_far_as_it_goes(encoding, body, text):
    readable, _ = read("text/plain; charset=utf-8", body, encoding=encoding)
    assert readable.text == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("=?utf-8?Q?Se=C3=B1al?=", "Señal"),
        ("=?utf-8?B?U2XD?= =?utf-8?B?sWFs?=", "Señal"),
        ("=?iso-8859-1?q?a_b?= c =?utf-8?q?d?=", "a b c d"),
        ("=?utf-8?Q?is it so? yes?=", "is it so? yes"),
        ("Re:=?utf-8?Q?_a?=(b)", "Re: a(b)"),
        ("=?utf-8*es?Q?a?=", "a"),
        ("=?nonsense?Q?a?=", "a"),
        ("=?utf-8?B?U2X?=", "Se"),
        ("=?utf-8?X?U2X?=", "=?utf-8?X?U2X?="),
        ("=?utf-8?B?", "=?utf-8?B?"),
    ],
)
def test_encoded_words_are_decoded_even_when_they_are_broken(raw, text):
    assert decode_words(raw) == text


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ('a/b; name="x; y.pdf"', "x; y.pdf"),
        ("a/b; name*=utf-8''se%C3%B1al.pdf", "señal.pdf"),
        ("a/b; name*0*=utf-8''se%C3; name*1*=%B1al; name*2=.pdf", "señal.pdf"),
        ("a/b; name*1=b; name*0=a", "ab"),
        ('a/b; name="=?utf-8?Q?se=C3=B1al.pdf?="', "señal.pdf"),
        ('a/b; name="a\\"b"', 'a"b'),
        ("a/b;;; name = x y.pdf ; z", "x y.pdf"),
        ('a/b; name="open', "open"),
    ],
)
def test_file_names_are_read_in_all_the_ways_they_are_written(value, name):
    assert parse_content(value).parameters["name"] == name


def multipart(kind, *parts, boundary="b", **parameters):
    extra = "".join(f"; {key}={value}" for key, value in parameters.items())
    body = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f'multipart/{kind}; boundary="{boundary}"{extra}', f"{body}--{boundary}--\n"


PLAIN = "Content-Type: text/plain\n\nSee you at ten in the office."
HTML = "Content-Type: text/html\n\n<p>See you at <b>ten</b> in the office.</p>"
FILE = (
    'Content-Type: application/pdf\nContent-Disposition: attachment; filename="../../etc/a.pdf"\n\nJVBERi0='
)
MAIL = "Content-Type: message/rfc822\n\nSubject: =?utf-8?Q?Otra_se=C3=B1al?=\n\nText of another."


@pytest.mark.parametrize(
    ("kind", "parts", "text", "attached"),
    [
        ("alternative", [PLAIN, HTML], "See you at ten in the office.", []),
        ("alternative", ["\n", HTML], "See you at ten in the office.", []),
        (
            "alternative",
            ["\nYour browser cannot show HTML.", HTML.replace("<b>ten", "<b>" + "ten o&rsquo;clock " * 4)],
            "See you at" + " ten o\u2019clock" * 4 + " in the office.",
            [],
        ),
        ("mixed", [PLAIN, FILE], "See you at ten in the office.", [("application/pdf", "a.pdf")]),
        ("mixed", [PLAIN, MAIL], "See you at ten in the office.", [("message/rfc822", "Otra señal")]),
        (
            "signed",
            [PLAIN, "Content-Type: application/pgp-signature\n\nxx"],
            "See you at ten in the office.",
            [],
        ),
        (
            "related",
            [HTML, "Content-Type: image/png\n\nxx"],
            "See you at ten in the office.",
            [("image/png", "")],
        ),
        (
            "mixed",
            [PLAIN, "Content-Type: text/calendar\n\nBEGIN:VCALENDAR"],
            "See you at ten in the office.",
            [("text/calendar", "")],
        ),
        (
            "mixed",
            [PLAIN, "Content-Type: application/ms-tnef; name=winmail.dat\n\nxx"],
            "See you at ten in the office.",
            [("application/ms-tnef", "winmail.dat")],
        ),
        ("digest", [f"\n{MAIL}"], "", [("message/rfc822", "Otra señal")]),
    ],
)
def test_the_text_is_chosen_among_the_parts(kind, parts, text, attached):
    readable, _ = read(*multipart(kind, *parts))
    assert readable.text == text
    assert [(file.kind, file.name) for file in readable.attachments] == attached


def test_a_mail_says_what_is_wrong_with_it():
    kind, body = multipart("mixed", PLAIN)
    assert "a multipart has no end" in read(kind, body.replace("--b--", ""))[1]
    assert "a multipart's boundary is nowhere; read as one part" in read(kind, "Only text.")[1]
    assert read(kind, "Only text.")[0].text == "Only text."
    readable, defects = read("multipart/mixed", body)
    assert readable.text == "See you at ten in the office."
    assert defects == ("a multipart says no boundary",)
    assert "utf-8 is broken" in read("text/plain; charset=utf-8", "ñ".encode() + b"\xff\xff")[1]


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (
            "encrypted",
            ["Content-Type: application/pgp-encrypted\n\nVersion: 1", "Content-Type: text/plain\n\nhQEM"],
        ),
        ("mixed", ["Content-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nMIAG"]),
    ],
)
def test_an_encrypted_mail_has_no_text_and_says_why(kind, parts):
    readable, defects = read(*multipart(kind, *parts))
    assert readable.text == ""
    assert len(defects) == 1
    assert "encrypted" in defects[0]


def test_parts_are_bounded_in_number_and_in_depth():
    kind, body = multipart("mixed", *[PLAIN] * 10_000)
    started = time.process_time()
    readable, defects = read(kind, body)
    assert len(readable.root.parts) == MAX_PARTS - 1
    assert any("parts; the others were not read" in defect for defect in defects)
    inner = PLAIN
    for number in range(1000):
        inner_kind, inner = multipart("mixed", inner, boundary=f"b{number}")
        inner = f"Content-Type: {inner_kind}\n\n{inner}"
    defects = Defects()
    part = parse_parts(inner.encode(), defects)
    depth = 0
    while part.parts:
        part = part.parts[0]
        depth += 1
    assert depth == MAX_DEPTH
    assert any("deep" in defect for defect in defects.listed())
    assert time.process_time() - started < 5


def test_a_head_is_bounded():
    raw = b"Subject: " + b"x" * 1_000_000 + b"\n" + b"A: b\n" * 100_000 + b"To: z\n\nHello."
    defects = Defects()
    readable = read_mail(raw, defects)
    assert readable.text == "Hello."
    assert len(readable.head.get("subject")) < 20_000
    assert sum(map(len, readable.head.fields.values())) <= 1000
    assert len(defects.listed()) == 2


def test_defects_are_said_once_and_not_for_ever():
    defects = Defects()
    for number in range(1000):
        defects.add(f"defect {number // 2}")
    assert len(defects.listed()) == MAX_DEFECTS


def test_flowed_lines_are_joined():
    body = "One line that \ngoes on.\n> quoted \n> too\n-- \nAna\n"
    assert (
        read("text/plain; format=flowed", body)[0].text == "One line that goes on.\n> quoted too\n-- \nAna\n"
    )
    assert read("text/plain; format=flowed; delsp=yes", "own \nership")[0].text == "ownership"


def test_files_between_the_lines_of_a_text_are_named_and_taken_out():
    readable, _ = read("text/plain", "Here:\nbegin 644 a.bin\n$2&]L80``\n`\nend\nBye.")
    assert readable.text == "Here:\n\nBye."
    assert [file.name for file in readable.attachments] == ["a.bin"]


@pytest.mark.slow  # the mails are in a package of their own
def test_the_mails_of_cpythons_tests_are_read_as_the_standard_library_reads_them():
    compared = 0
    for path in cpython_mails():
        raw = path.read_bytes()
        theirs = email.message_from_bytes(raw, policy=email.policy.compat32)
        ours = read_mail(raw, Defects())
        if theirs.get_content_type() != "text/plain" or theirs.is_multipart():
            continue
        payload = theirs.get_payload(decode=True).decode("utf-8")
        assert ours.text.rstrip("\n") == payload.replace("\r\n", "\n").rstrip("\n"), path.name
        compared += 1
    assert compared >= 8
