"""Text from HTML, and what the sender wrote apart from all else."""

import time

import pytest

from econeura_daemon.worker.processing.html_text import html_to_text
from econeura_daemon.worker.processing.quoting import set_apart


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>Two &amp; three&nbsp;€ &#8364; &#x20AC;</p>", "One\n\nTwo & three\xa0€ € €"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<div>a<div>b</div></div>c", "a\nb\nc"),
        ("<head><title>t</title><style>p{}</style></head><body>x<script>if (a<b) y()</script>z", "xz"),
        ("<head><meta x><body>seen", "seen"),
        ("<STYLE>p</STYLE>x<!-- no -->y<!---->z", "xyz"),
        ("<div style='display: none'>hidden</div><span hidden>h</span>x", "x"),
        ('<p style="font-size:0px">preheader</p><p style="font-size:0.9em">x', "x"),
        ("<p style='display:none'>a<p>b", "b"),
        ("<ul><li>a<li>b</ul>", "- a\n- b"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c<td>d</table>", "a\tb\nc\td"),
        ("<blockquote>q<br>r</blockquote>mine", "> q\n> r\n\nmine"),
        (
            "hi<div class='gmail_quote'>On x wrote:<blockquote>q</blockquote></div>",
            "hi\n\n> On x wrote:\n>\n>> q",
        ),
        ("hi<div id='divRplyFwdMsg'>From: x</div><div>q</div>", "hi\n> From: x\n> q"),
        ("<pre>a\n  b</pre>", "a\n  b"),
        ("a\n  b\t c", "a b c"),
        ("<img alt='Logo &amp; co' src=x>", "Logo & co"),
        ("1 < 2 <3 a<b", "1 < 2 <3 a"),
        ("<a href='x'>l</a", "l"),
        ("<o:p>x</o:p>", "x"),
        ("a&#99999999999999999999;b&#xD800;", "a\ufffdb\ufffd"),
        ("a&#" + "9" * 5000 + ";b", "a\ufffdb"),
        ("<!DOCTYPE html><?xml version='1'?>x", "x"),
        ('"quoted"', '"quoted"'),
        ("<!-- never ends <p>x</p>", "x"),
        ("<p title='a>b'>x</p>", "x"),
        ("", ""),
    ],
)
def test_html_is_read_as_it_is_seen(html, text):
    assert html_to_text(html)[0] == text


def test_links_are_kept_apart():
    html = '<a href="https://a.example/?x=1&amp;y=2">a</a><a href="javascript:x()">b</a>'
    html += "<a href=mailto:a@b.example>c</a>"
    assert html_to_text(html)[1] == ["https://a.example/?x=1&y=2", "mailto:a@b.example"]


@pytest.mark.parametrize(
    "piece",
    [
        "<!--",
        "<!-- >",
        "<!",
        "<",
        "<a",
        "<a href='",
        "&#1",
        "<div>",
        "</p>",
        "<script>",
        "<a b=\" '",
        "<b></i>",
        "<p style='a:b",
    ],
)
def test_time_is_linear_whatever_the_tags(piece):
    started = time.process_time()
    html_to_text(piece * (300_000 // len(piece)))
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("text", "own", "signature", "quoted"),
    [
        (
            "Hello\n\nOn Mon, Nov 23, 2026 at 9:12 AM Ana <a@b.example> wrote:\n> old\n> text",
            "Hello",
            "",
            "old\ntext",
        ),
        ("Hola\nEl lun, 23 nov 2026 a las 9:12, Ana escribió:\n\n> viejo", "Hola", "", "viejo"),
        (
            "Hola\nEl lunes, 23 de noviembre de 2026, Ana <ana@example.com>\nescribió:\n> viejo",
            "Hola",
            "",
            "viejo",
        ),
        (
            "Yes.\n\n-----Original Message-----\nFrom: x\nold",
            "Yes.",
            "",
            "-----Original Message-----\nFrom: x\nold",
        ),
        ("Sí.\n----- Mensaje original -----\nviejo", "Sí.", "", "----- Mensaje original -----\nviejo"),
        (
            "Sí.\nDe: Ana\nEnviado: lunes\nPara: Luis\nAsunto: x\nviejo",
            "Sí.",
            "",
            "De: Ana\nEnviado: lunes\nPara: Luis\nAsunto: x\nviejo",
        ),
        ("> one?\nYes.\n> two?\nNo.", "Yes.\nNo.", "", "one?\ntwo?"),
        ("Hi\n-- \nAna\n912 345 678", "Hi", "-- \nAna\n912 345 678", ""),
        ("Hola\nEnviado desde mi iPhone", "Hola", "Enviado desde mi iPhone", ""),
        (
            "Hola\n\nEste mensaje es confidencial y para su destinatario.",
            "Hola",
            "Este mensaje es confidencial y para su destinatario.",
            "",
        ),
        ("De: la mesa a la silla.\nPara: siempre.", "De: la mesa a la silla.\nPara: siempre.", "", ""),
        ("On Monday we wrote a lot about it.", "On Monday we wrote a lot about it.", "", ""),
        ("-- \nOnly a signature", "--\nOnly a signature", "", ""),
        ("", "", "", ""),
    ],
)
def test_what_the_sender_wrote_is_set_apart(text, own, signature, quoted):
    written = set_apart(text)
    assert written.own == own
    assert written.signature.replace("--\n", "-- \n") == signature
    assert written.quoted == quoted
