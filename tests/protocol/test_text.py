"""The classic text commands on items, as tables of request and reply."""

from __future__ import annotations

import pytest

from tests.protocol.helpers import converse

KEY_251 = b"k" * 251
BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"

CASES = [
    ("get, missing", b"get a\r\n", b"END\r\n"),
    ("get without a key", b"get\r\n", BAD_FORMAT),
    ("get, bare newline", b"get a\n", b"END\r\n"),
    ("get, key too long", b"get %b\r\n" % KEY_251, BAD_FORMAT + b"\r\n"),
    ("get, key too long, silent", b"get %b noreply\r\n" % KEY_251, b"\r\n"),
    ("get, a later key too long", b"get a %b noreply\r\n" % KEY_251, BAD_FORMAT + b"\r\n"),
    ("empty line", b"\r\n", BAD_FORMAT),
    ("unknown command", b"GET a\r\n", b"ERROR\r\n"),
    ("set and get", b"set a 5 0 2\r\nhi\r\nget a\r\n", b"STORED\r\nVALUE a 5 2\r\nhi\r\nEND\r\n"),
    (
        "gets gives the cas unique",
        b"set a 0 0 1\r\n1\r\ngets a\r\n",
        b"STORED\r\nVALUE a 0 1 1\r\n1\r\nEND\r\n",
    ),
    (
        "several keys, one missing",
        b"set a 0 0 1\r\n1\r\nset b 0 0 1\r\n2\r\nget a c b\r\n",
        b"STORED\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n2\r\nEND\r\n",
    ),
    ("noreply is silent", b"set a 0 0 1 noreply\r\n1\r\nget b\r\n", b"END\r\n"),
    ("value holds a newline", b"set a 0 0 4\r\n\r\n\r\n\r\n", b"STORED\r\n"),
    ("empty value", b"set a 0 0 0\r\n\r\nget a\r\n", b"STORED\r\nVALUE a 0 0\r\n\r\nEND\r\n"),
    (
        "block without its end",
        b"set a 0 0 1\r\nabc\r\nget a\r\n",
        b"CLIENT_ERROR bad data chunk\r\n" + BAD_FORMAT + b"END\r\n",
    ),
    (
        "malformed header: the block is read as a command",
        b"set a 0 0 x\r\nhello\r\n",
        b"CLIENT_ERROR bad command line format\r\nERROR\r\n",
    ),
    ("add twice", b"add a 0 0 1\r\n1\r\nadd a 0 0 1\r\n2\r\n", b"STORED\r\nNOT_STORED\r\n"),
    ("replace nothing", b"replace a 0 0 1\r\n1\r\n", b"NOT_STORED\r\n"),
    (
        "append and prepend",
        b"set a 0 0 1\r\nb\r\nappend a 0 0 1\r\nc\r\nprepend a 0 0 1\r\na\r\nget a\r\n",
        b"STORED\r\nSTORED\r\nSTORED\r\nVALUE a 0 3\r\nabc\r\nEND\r\n",
    ),
    ("append to nothing", b"append a 0 0 1\r\nc\r\n", b"NOT_STORED\r\n"),
    ("cas of nothing", b"cas a 0 0 1 5\r\n1\r\n", b"NOT_FOUND\r\n"),
    (
        "cas, wrong then right",
        b"set a 0 0 1\r\n1\r\ncas a 0 0 1 9\r\n2\r\ncas a 0 0 1 1\r\n3\r\nget a\r\n",
        b"STORED\r\nEXISTS\r\nSTORED\r\nVALUE a 0 1\r\n3\r\nEND\r\n",
    ),
    (
        "delete",
        b"set a 0 0 1\r\n1\r\ndelete a\r\ndelete a\r\n",
        b"STORED\r\nDELETED\r\nNOT_FOUND\r\n",
    ),
    ("delete, words behind the key", b"delete a 0 5 x\r\n", b"NOT_FOUND\r\n"),
    (
        "delete of a key by that name is silent, too",
        b"set noreply 0 0 1\r\n1\r\ndelete noreply\r\nget noreply\r\n",
        b"STORED\r\nEND\r\n",
    ),
    ("incr", b"set a 0 0 1\r\n9\r\nincr a 1\r\nincr a 0\r\n", b"STORED\r\n10\r\n10\r\n"),
    (
        "decr keeps the width",
        b"set a 0 0 2\r\n10\r\ndecr a 5\r\nget a\r\n",
        b"STORED\r\n5\r\nVALUE a 0 2\r\n5 \r\nEND\r\n",
    ),
    ("decr stops at 0", b"set a 0 0 1\r\n3\r\ndecr a 5\r\n", b"STORED\r\n0\r\n"),
    ("incr nothing", b"incr a 1\r\n", b"NOT_FOUND\r\n"),
    (
        "incr by no number",
        b"incr a x\r\n",
        b"CLIENT_ERROR invalid numeric delta argument\r\n",
    ),
    (
        "incr of text",
        b"set a 0 0 1\r\nx\r\nincr a 1\r\n",
        b"STORED\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    ),
    (
        "touch",
        b"set a 0 0 1\r\n1\r\ntouch a 9\r\ntouch b 9\r\n",
        b"STORED\r\nTOUCHED\r\nNOT_FOUND\r\n",
    ),
    ("touch without a time", b"touch a\r\n", BAD_FORMAT),
    ("gat without keys", b"gat 10\r\n", BAD_FORMAT),
    (
        "gat",
        b"set a 0 0 1\r\n1\r\ngat 9 a\r\ngats 9 a\r\n",
        b"STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nVALUE a 0 1 1\r\n1\r\nEND\r\n",
    ),
    ("negative exptime", b"set a 0 -1 1\r\n1\r\nget a\r\n", b"STORED\r\nEND\r\n"),
    ("gat alone", b"gat\r\n", BAD_FORMAT),
    ("gat, no number", b"gat x a\r\n", b"CLIENT_ERROR invalid exptime argument\r\n"),
    ("gets alone", b"gets\r\n", BAD_FORMAT),
    ("bget is gone", b"set a 0 0 1\r\n1\r\nbget a\r\n", b"STORED\r\nERROR\r\n"),
    ("touch, key too long", b"touch %b 1\r\n" % KEY_251, BAD_FORMAT),
    ("touch, no number", b"touch a x\r\n", b"CLIENT_ERROR invalid exptime argument\r\n"),
    ("touch, silent", b"set a 0 0 1\r\n1\r\ntouch a 0 noreply\r\n", b"STORED\r\n"),
    ("delete alone", b"delete\r\n", BAD_FORMAT),
    ("delete, key too long", b"delete %b\r\n" % KEY_251, BAD_FORMAT),
    ("delete, silent", b"set a 0 0 1\r\n1\r\ndelete a noreply\r\nget a\r\n", b"STORED\r\nEND\r\n"),
    ("delete with 0, silent", b"delete a 0 noreply\r\n", b""),
    ("delete, key too long, silent", b"delete %b noreply\r\n" % KEY_251, b""),
    ("delete, words behind the key, silent", b"delete a 5 x noreply\r\n", b""),
    ("incr alone", b"incr a\r\n", BAD_FORMAT),
    ("incr, words behind", b"incr a 1 2 3\r\n", b"NOT_FOUND\r\n"),
    ("incr, words behind, silent", b"incr a 1 2 3 noreply\r\n", b""),
    ("incr, key too long", b"incr %b 1\r\n" % KEY_251, BAD_FORMAT),
    (
        "incr, silent",
        b"set a 0 0 1\r\n1\r\nincr a 1 noreply\r\nget a\r\n",
        b"STORED\r\nVALUE a 0 1\r\n2\r\nEND\r\n",
    ),
    ("set, key too long", b"set %b 0 0 1\r\na\r\n" % KEY_251, BAD_FORMAT),
    ("set, too few words", b"set a 0 0\r\n", BAD_FORMAT),
    ("set, too few words, not silent", b"set a 0 0 noreply\r\n", BAD_FORMAT),
    ("set, too many words", b"set a 0 0 1 x y\r\n1\r\n", b"STORED\r\n"),
    ("set, too many words, silent", b"set a 0 0 1 x noreply\r\n1\r\n", b""),
    (
        "set, flags beyond 32 bits wrap",
        b"set a 4294967297 0 1\r\n1\r\nget a\r\n",
        b"STORED\r\nVALUE a 1 1\r\n1\r\nEND\r\n",
    ),
    ("set, negative flags", b"set a -1 0 1\r\n1\r\n", BAD_FORMAT),
    ("set, negative flags, silent", b"set a -1 0 1 noreply\r\n1\r\n", b""),
    ("set, time with a sign", b"set a 0 +1 1\r\n1\r\n", b"STORED\r\n"),
    ("set, length with a sign", b"set a 0 0 +1\r\n", BAD_FORMAT),
    ("set, negative length", b"set a 0 0 -1\r\n", BAD_FORMAT),
    ("set, no length, not silent", b"set a 0 0 x noreply\r\n", BAD_FORMAT),
    ("cas, no number", b"cas a 0 0 1 x\r\n1\r\n", BAD_FORMAT),
    ("cas without a number", b"cas a 0 0 1\r\n1\r\n", BAD_FORMAT),
    ("cas, silence instead of a number", b"cas a 0 0 1 noreply\r\n1\r\n", b""),
    (
        "cas, silent",
        b"set a 0 0 1\r\n1\r\ncas a 0 0 1 9 noreply\r\n2\r\nget a\r\n",
        b"STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n",
    ),
    ("a browser", b"GET / HTTP/1.1\r\n", b""),
]


@pytest.mark.parametrize("word", [b"noreply", b"x"])
@pytest.mark.parametrize("count", range(1, 30))
def test_words_that_are_not_looked_at(word, count):
    line = b"delete" + b" k" * count + b" %b\r\n" % word
    silent = word == b"noreply" and count <= 21
    assert converse(line) == (b"" if silent else b"NOT_FOUND\r\n")


@pytest.mark.parametrize(("name", "request_", "reply"), CASES, ids=[case[0] for case in CASES])
def test_reply(name, request_, reply):
    assert converse(request_) == reply


def test_value_too_large_deletes_the_old_one():
    request = b"set a 0 0 2000\r\n%b\r\nget a\r\n" % (b"x" * 2000)
    reply = converse(
        request,
        before=b"set a 0 0 1\r\n1\r\n",
        item_size_max_bytes=1024,
        slab_chunk_max_bytes=512,
    )
    assert reply == b"SERVER_ERROR object too large for cache\r\nEND\r\n"


def test_a_key_too_long_takes_back_what_was_found():
    """memcached even forgets the answers to commands that came in the same packet."""
    reply = converse(b"get a %b\r\n" % KEY_251, before=b"set a 0 0 1\r\n1\r\n")
    assert reply == BAD_FORMAT + b"\r\n"
