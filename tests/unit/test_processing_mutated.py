"""Mails that were real once and were damaged since: none of them ends the program, or takes it long."""

import random
import time
import tomllib
from pathlib import Path

import orjson
import pytest

from econeura_daemon.worker.processing import Rules, UnprocessableError, process
from tests.support.cpython_mails import cpython_mails

OURS = tomllib.loads((Path(__file__).parents[1] / "cases" / "emails.toml").read_text(encoding="utf-8"))[
    "mail"
]
PIECES = [
    *(
        b"\n",
        b"\n\n",
        b"\r",
        b"\0",
        b"=",
        b"=?",
        b"?=",
        b"\xff",
        b"\xc3",
        b"--",
        b"\n--",
        b";",
        b'"',
        b"<",
        b"&#",
        b">",
    ),
    *(
        b"=?utf-8?B?",
        b"=?x?q?",
        b"Content-Type: multipart/mixed; boundary=a\n",
        b"\n--a\n",
        b"\n--a--\n",
        b"\x1b$B",
    ),
    *(
        b"Content-Transfer-Encoding: base64\n",
        b"Content-Transfer-Encoding: quoted-printable\n",
        b"<!--",
        b"<div",
        b"+AAA-",
    ),
    *(
        b"Content-Type: text/html; charset=utf-7\n",
        b"Content-Type: message/rfc822\n\n",
        b"charset=iso-2022-jp",
        b"begin 644 a\n",
    ),
    *(
        b"ES91 2100 0418 4502 0005 1332",
        b"912 345 678",
        b"1.234,56 \xe2\x82\xac",
        b"31/02/2026",
        b"a@b.example",
        b"http://",
    ),
]


def damaged(rng, mails):
    mail = bytearray(rng.choice(mails))
    for _ in range(rng.randint(1, 12)):
        at = rng.randrange(len(mail) + 1)
        match rng.randrange(6):
            case 0:
                mail[at:at] = rng.choice(PIECES) * rng.choice([1, 1, 1, 2, 50])
            case 1:
                del mail[at : at + rng.randint(1, 200)]
            case 2:
                mail[at : at + 1] = bytes([rng.randrange(256)])
            case 3:
                mail[at:at] = mail[rng.randrange(len(mail) + 1) :][: rng.randint(1, 500)]
            case 4:
                other = rng.choice(mails)
                mail[at:] = other[rng.randrange(len(other)) :]
            case 5:
                mail[at : at + 4] = rng.randbytes(4)
    return bytes(mail)


@pytest.mark.slow  # the mails are in a package of their own
@pytest.mark.rounds(short=500, soak=50_000)
def test_damaged_mails_have_a_result_or_a_named_refusal_within_the_time(rounds):
    rules = Rules.load()
    mails = [path.read_bytes() for path in cpython_mails()]
    mails += [f"From: a@b.example\nSubject: {case['subject']}\n\n{case['body']}".encode() for case in OURS]
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    named = set()
    for number in range(rounds):
        raw = damaged(rng, mails)
        started = time.process_time()
        try:
            result = process(raw, rules).as_result()
        except UnprocessableError as refused:
            named.add(refused.reason)
        except Exception as error:
            error.add_note(f"seed {seed}, mail {number}: {raw!r}")
            raise
        else:
            orjson.dumps(result)  # all of it is text that can be sent on
        assert time.process_time() - started < 2, (seed, number, raw)
    assert "" not in named
