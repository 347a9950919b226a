"""The meta commands, as tables of request and reply. What is not told apart by time is here in the
words of memcached 1.6.45."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymcd.protocol.meta import answer_plain
from pymcd.protocol.metaflags import KEPT_MAX_BYTES, decode_flags, decode_key
from pymcd.store.status import Status
from tests.protocol.helpers import Client, converse, make_service

from ..clocks import ManualClock

BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
BAD_FLAGS = b"CLIENT_ERROR invalid or duplicate flag\r\n"
KEY_251 = b"k" * 251
SPACED = b64encode(b"a b")  # a key that text cannot say
SET = b"ms a 1\r\n1\r\n"

NO_OP = [
    ("mn", b"mn\r\n", b"MN\r\n"),
    ("mn takes anything", b"mn x y\r\n", b"MN\r\n"),
    ("unknown", b"mx a\r\n", b"ERROR\r\n"),
    ("case matters", b"MG a\r\n", b"ERROR\r\n"),
]

GET = [
    ("miss", b"mg a\r\n", b"EN\r\n"),
    ("miss, quiet", b"mg a q\r\n", b""),
    ("miss, quiet, looking closer", b"mg a q T5 h\r\n", b""),
    ("miss echoes key and opaque", b"mg a s t k v Oxy\r\n", b"EN ka Oxy\r\n"),
    ("hit", SET + b"mg a\r\n", b"HD\r\nHD\r\n"),
    ("quiet hit", SET + b"mg a q v\r\n", b"HD\r\nVA 1\r\n1\r\n"),
    ("value", SET + b"mg a v\r\n", b"HD\r\nVA 1\r\n1\r\n"),
    (
        "flags in the order asked",
        b"ms a 2 F7\r\nhi\r\nmg a v s t h l f c k O1\r\n",
        b"HD\r\nVA 2 s2 t-1 h0 l0 f7 c1 ka O1\r\nhi\r\n",
    ),
    (
        "and in another order",
        b"ms a 2 F7\r\nhi\r\nmg a O% k c f s v\r\n",
        b"HD\r\nVA 2 O% ka c1 f7 s2\r\nhi\r\n",
    ),
    ("hit before", SET + b"mg a h\r\nmg a h\r\n", b"HD\r\nHD h0\r\nHD h1\r\n"),
    (
        "u leaves no trace",
        SET + b"mg a u\r\nmg a h u\r\nmg a h\r\n",
        b"HD\r\nHD\r\nHD h0\r\nHD h0\r\n",
    ),
    ("ttl", b"ms a 1 T50\r\n1\r\nmg a t\r\n", b"HD\r\nHD t50\r\n"),
    ("touch", SET + b"mg a T30 t\r\nmg a t\r\n", b"HD\r\nHD t30\r\nHD t30\r\n"),
    ("t before T", SET + b"mg a t T30\r\n", b"HD\r\nHD t-1\r\n"),
    ("touch to an end", SET + b"mg a T-1 s\r\nmg a\r\n", b"HD\r\nHD s1\r\nEN\r\n"),
    ("hints are ignored", SET + b"mg a Ppath L v\r\n", b"HD\r\nVA 1\r\n1\r\n"),
    (
        "only what mg knows",
        SET + b"mg a MI D5 J6 C9 F1 I\r\n",
        b"HD\r\nHD\r\n",
    ),
    ("vivify", b"mg a N30 v t\r\nmg a v\r\n", b"VA 0 t30 W\r\n\r\nVA 0 Z\r\n\r\n"),
    ("vivify, then ttl", b"mg a t N30\r\nmg a N60 t\r\n", b"HD t-1 W\r\nHD t30 Z\r\n"),
    ("get sees it", b"mg a N0\r\nget a\r\n", b"HD W\r\nVALUE a 0 0\r\n\r\nEND\r\n"),
    (
        "recache: one wins",
        b"ms a 1 T30\r\n1\r\nmg a R20\r\nmg a R31\r\nmg a R31\r\nmg a\r\n",
        b"HD\r\nHD\r\nHD W\r\nHD Z\r\nHD Z\r\n",
    ),
    ("recache of what never ends", SET + b"mg a R100\r\n", b"HD\r\nHD\r\n"),
    (
        "a new value ends the story",
        b"ms a 1 T30\r\n1\r\nmg a R31\r\nms a 1 T30\r\n2\r\nmg a\r\n",
        b"HD\r\nHD W\r\nHD\r\nHD\r\n",
    ),
]

SETTING = [
    ("set", SET, b"HD\r\n"),
    ("empty", b"ms a 0\r\n\r\nmg a v\r\n", b"HD\r\nVA 0\r\n\r\n"),
    ("quiet", b"ms a 1 q k c O1\r\n1\r\n", b""),
    ("quiet twice", b"ms a 1 q\r\n1\r\nms a 1 q\r\n2\r\nmg a v\r\n", b"VA 1\r\n2\r\n"),
    ("quiet add", b"ms a 1 q ME\r\n1\r\n", b""),
    ("echo", b"ms a 1 k c O1 s v\r\n1\r\n", b"HD ka c1 O1 s1\r\n"),
    ("echo of nothing stored", b"ms a 2 MR s c k\r\n11\r\n", b"NS s2 c0 ka\r\n"),
    ("client flags", b"ms a 1 F5\r\n1\r\nget a\r\n", b"HD\r\nVALUE a 5 1\r\n1\r\nEND\r\n"),
    ("ends at once, whatever its name", b"ms Zm9v 1 b T-1\r\n1\r\nmg foo\r\n", b"HD\r\nEN\r\n"),
    ("ends at once", b"ms a 1 T-1\r\n1\r\nmg a\r\n", b"HD\r\nEN\r\n"),
    ("add", b"ms a 1 ME\r\n1\r\nms a 1 ME c\r\n2\r\nmg a v\r\n", b"HD\r\nNS c0\r\nVA 1\r\n1\r\n"),
    ("append to nothing", b"ms a 1 MA s c\r\n1\r\n", b"NS s1 c0\r\n"),
    (
        "append, or create",
        b"ms a 2 MA N30 T9 F5 s\r\nab\r\nms a 1 MA N99 F7 s\r\nc\r\n"
        b"ms a 1 MP N0 s\r\nd\r\nmg a v t f\r\n",
        b"HD s2\r\nHD s3\r\nHD s4\r\nVA 4 t30 f5\r\ndabc\r\n",
    ),
    (
        "append, or create, at another cas unique",
        b"ms a 2 MA N0 C9\r\nab\r\nms a 1 MA N0 C9 c s\r\nc\r\nmg a v\r\n",
        b"HD\r\nEX c0 s1\r\nVA 2\r\nab\r\n",
    ),
    (
        "who creates by appending says how the key came",
        b"ms Zm9v 1 b MA N0\r\n1\r\nmg foo k\r\nms Zm9v 1 b MA N0\r\n1\r\nmg foo k\r\n",
        b"HD\r\nHD kZm9v b\r\nHD\r\nHD kfoo\r\n",
    ),
    ("replace nothing", b"ms a 1 MR\r\n1\r\n", b"NS\r\n"),
    ("replace", SET + b"ms a 1 MR\r\n2\r\nmg a v\r\n", b"HD\r\nHD\r\nVA 1\r\n2\r\n"),
    ("append to nothing", b"ms a 1 MA\r\n1\r\n", b"NS\r\n"),
    (
        "append and prepend",
        SET + b"ms a 1 MA c\r\n2\r\nms a 1 MP c\r\n0\r\nmg a v\r\n",
        b"HD\r\nHD c2\r\nHD c3\r\nVA 3\r\n012\r\n",
    ),
    ("explicit set", b"ms a 1 MS\r\n1\r\n", b"HD\r\n"),
    ("cas of nothing", b"ms a 1 C5 c\r\n1\r\n", b"NF c0\r\n"),
    ("cas", SET + b"ms a 1 C1 c\r\n2\r\nms a 1 C1\r\n3\r\n", b"HD\r\nHD c2\r\nEX\r\n"),
    ("cas 0 never matches", SET + b"ms a 1 C0\r\n2\r\n", b"HD\r\nEX\r\n"),
    (
        "replace with cas",
        SET + b"ms a 1 C9 MR\r\n2\r\nms a 1 C1 MR\r\n2\r\n",
        b"HD\r\nEX\r\nHD\r\n",
    ),
    ("append with cas", SET + b"ms a 1 C9 MA\r\n2\r\nms a 1 C1 MA\r\n2\r\n", b"HD\r\nEX\r\nHD\r\n"),
    ("add with cas", b"ms a 1 C9 ME\r\n2\r\n", b"HD\r\n"),
    ("quiet tells failures", b"ms a 1 q MR\r\n1\r\nms a 1 q C4\r\n1\r\n", b"NS\r\nNF\r\n"),
    (
        "the block is not what was said",
        b"ms a 1 q\r\nabc\r\nmn\r\n",
        b"CLIENT_ERROR bad data chunk\r\n" + BAD_FORMAT + b"MN\r\n",
    ),
    (
        "a late write becomes stale, and only one client is to repair it",
        SET + b"ms a 1\r\n2\r\nms a 1 I C1\r\n3\r\nmg a v\r\nmg a v\r\n",
        b"HD\r\nHD\r\nHD\r\nVA 1 X W\r\n3\r\nVA 1 Z X\r\n3\r\n",
    ),
    ("but one that is too new does not", SET + b"ms a 1 I C9\r\n3\r\n", b"HD\r\nEX\r\n"),
    ("and I alone means nothing", SET + b"ms a 1 I\r\n3\r\nmg a\r\n", b"HD\r\nHD\r\nHD\r\n"),
]

DELETION = [
    ("nothing", b"md a\r\n", b"NF\r\n"),
    ("nothing, quiet", b"md a q\r\n", b"NF\r\n"),
    ("something", SET + b"md a\r\nmg a\r\n", b"HD\r\nHD\r\nEN\r\n"),
    ("quiet", SET + b"md a q\r\nmg a\r\n", b"HD\r\nEN\r\n"),
    ("echo", SET + b"md a O1 k c\r\nmd a k O2\r\n", b"HD\r\nHD O1 ka\r\nNF ka O2\r\n"),
    ("cas", SET + b"md a C5 q\r\nmd a C1\r\n", b"HD\r\nEX\r\nHD\r\n"),
    ("cas 0 never matches", SET + b"md a C0\r\n", b"HD\r\nEX\r\n"),
    (
        "stale: one client wins, until the next value",
        SET + b"md a I\r\nmg a c v\r\nmg a v\r\nms a 1\r\n2\r\nmg a v\r\n",
        b"HD\r\nHD\r\nVA 1 c2 X W\r\n1\r\nVA 1 Z X\r\n1\r\nHD\r\nVA 1\r\n2\r\n",
    ),
    (
        "stale again: another wins",
        SET + b"md a I\r\nmg a\r\nmd a I\r\nmg a\r\n",
        b"HD\r\n" * 2 + b"HD X W\r\nHD\r\nHD X W\r\n",
    ),
    ("stale for a while", SET + b"md a I T30\r\nmg a t\r\n", b"HD\r\nHD\r\nHD t30 X W\r\n"),
    ("T without I", SET + b"md a T30\r\nmg a\r\n", b"HD\r\nHD\r\nEN\r\n"),
    (
        "get serves what is stale",
        SET + b"md a I q\r\nget a\r\n",
        b"HD\r\nVALUE a 0 1\r\n1\r\nEND\r\n",
    ),
    (
        "x takes the value, and leaves the item and its cas unique",
        b"ms a 1 F5 T9\r\n1\r\nmd a x\r\nmg a v f t c\r\n",
        b"HD\r\nHD\r\nVA 0 f0 t-1 c1\r\n\r\n",
    ),
    (
        "x with more",
        SET + b"md a x I T30 F4\r\nmg a v f t\r\n",
        b"HD\r\nHD\r\nVA 0 f4 t30 X W\r\n\r\n",
    ),
]

ARITHMETIC = [
    ("nothing", b"ma a\r\n", b"NF\r\n"),
    ("nothing, quiet", b"ma a q k O1\r\n", b"NF ka O1\r\n"),
    ("incr", SET + b"ma a v\r\nma a\r\n", b"HD\r\nVA 1\r\n2\r\nHD\r\n"),
    ("by more", SET + b"ma a v D10\r\n", b"HD\r\nVA 2\r\n11\r\n"),
    (
        "decr keeps the width",
        b"ms a 2\r\n10\r\nma a MD v\r\nmg a v\r\n",
        b"HD\r\nVA 1\r\n9\r\nVA 2\r\n9 \r\n",
    ),
    ("decr stops at 0", SET + b"ma a M- D5 v\r\n", b"HD\r\nVA 1\r\n0\r\n"),
    ("modes", SET + b"ma a MI v\r\nma a M+ v\r\n", b"HD\r\nVA 1\r\n2\r\nVA 1\r\n3\r\n"),
    ("quiet", SET + b"ma a q v\r\n", b"HD\r\n"),
    ("only what ma knows", SET + b"ma a s f h l u R5 I\r\n", b"HD\r\nHD\r\n"),
    ("flags", SET + b"ma a t c k O1 v\r\n", b"HD\r\nVA 1 t-1 c2 ka O1\r\n2\r\n"),
    ("touch", SET + b"ma a T30 t\r\nmg a t\r\n", b"HD\r\nHD t30\r\nHD t30\r\n"),
    (
        "a longer number is a new item, which misses the touch",
        b"ms a 1\r\n9\r\nma a T30 t\r\nmg a t\r\n",
        b"HD\r\nHD t30\r\nHD t-1\r\n",
    ),
    (
        "... and the cas unique",
        b"ms a 1 E5\r\n9\r\nma a E7 c\r\nma a E9 C7\r\nma a E9 c\r\nmg a c\r\n",
        b"HD\r\nHD c7\r\nEX\r\nHD c9\r\nHD c9\r\n",
    ),
    ("create", b"ma a N0 J5 v\r\nma a N0 J5 v\r\n", b"VA 1\r\n5\r\nVA 1\r\n6\r\n"),
    ("create, quiet", b"ma a N30 q t\r\nmg a t\r\n", b"HD t30\r\n"),
    ("cas", SET + b"ma a C7\r\nma a C1 c\r\n", b"HD\r\nEX\r\nHD c2\r\n"),
    (
        "no number",
        b"ms a 1\r\nx\r\nma a q\r\n",
        b"HD\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    ),
]

MISTAKES = [
    ("no key", b"mg\r\nms\r\nmd\r\nma\r\n", BAD_FORMAT * 4),
    ("no length", b"ms a\r\n", b"CLIENT_ERROR bad command line format\r\n"),
    ("old syntax", b"ms a S1\r\n1\r\n", BAD_FORMAT * 2),
    ("negative length", b"ms a -1\r\n", b"CLIENT_ERROR bad command line format\r\n"),
    (
        "key too long",
        b"".join(b"%b %b 1\r\n" % (verb, KEY_251) for verb in (b"mg", b"md", b"me")),
        BAD_FORMAT * 3,
    ),
    ("key too long, ma", b"ma %b\r\n" % KEY_251, BAD_FLAGS),
    ("key too long, the block is swallowed", b"ms %b 2\r\nmn\r\n" % KEY_251, BAD_FORMAT),
    (
        "key at its limit",
        b"ms %b 2\r\nmn\r\n" % KEY_251[1:],
        b"HD\r\n",
    ),
    ("flag twice", b"mg a v v\r\n", b"CLIENT_ERROR duplicate flag\r\n"),
    (
        "what cannot be a flag",
        b"mg a \xff\r\nmg a v {\r\nmd a !\r\nma a @\r\nme a ~\r\nmg a v -1 v\r\n",
        BAD_FORMAT * 6,
    ),
    ("the same, the block is a command", b"ms a 2 +\r\nmn\r\n", BAD_FORMAT + b"MN\r\n"),
    (
        "the same, before what else is wrong",
        b"ms %b 2 +\r\nmn\r\n" % KEY_251,
        BAD_FORMAT + b"MN\r\n",
    ),
    ("the same, of too many words", b"mg a" + b" P" * 19 + b" =\r\n", BAD_FORMAT),
    (
        "the same, beyond the words that count",
        b"mg a" + b" P" * 21 + b" =\r\n",
        b"CLIENT_ERROR options flags are too long\r\n",
    ),
    ("what might be one", b"mg a 5\r\nmg a [\r\n", b"CLIENT_ERROR invalid flag\r\n" * 2),
    ("unknown flag", b"mg a S1\r\n", b"CLIENT_ERROR invalid flag\r\n"),
    ("unknown flag, block swallowed", b"ms a 2 w\r\nmn\r\n", b"CLIENT_ERROR invalid flag\r\n"),
    (
        "ma says less",
        b"ma a v v\r\nma a Dx\r\nma abc b\r\nma a" + b" P" * 19 + b"\r\n",
        BAD_FLAGS * 4,
    ),
    (
        "md does not",
        b"md a v v\r\nmd a Dx\r\nmd abc b\r\n",
        b"CLIENT_ERROR duplicate flag\r\nCLIENT_ERROR invalid numeric delta value\r\n"
        b"CLIENT_ERROR error decoding key\r\n",
    ),
    ("not a time", b"mg a Tx\r\n", b"CLIENT_ERROR bad token in command line format\r\n"),
    ("not client flags", b"ms a 2 Fx\r\nmn\r\n", b"CLIENT_ERROR bad command line format\r\n"),
    (
        "the last error is told",
        b"mg a Tx Jx\r\n",
        b"CLIENT_ERROR invalid numeric initial value\r\n",
    ),
    (
        "but F tells nothing",
        b"ms a 2 Dx Fx\r\nmn\r\n",
        b"CLIENT_ERROR invalid numeric delta value\r\n",
    ),
    ("only the first letter of a mode counts", b"ms a 2 MEx\r\nmn\r\n", b"HD\r\n"),
    ("no mode", b"ms a 2 M\r\nmn\r\n", b"CLIENT_ERROR invalid mode for ms M token\r\n"),
    ("no mode, for whom it means nothing", b"mg a M\r\nmd a M\r\n", b"EN\r\nNF\r\n"),
    ("a NUL as mode is as none", b"ms a 2 M\0\r\nmn\r\n", b"HD\r\n"),
    ("ms mode", b"ms a 2 MX\r\nmn\r\n", b"CLIENT_ERROR invalid mode for ms M token\r\n"),
    ("ma mode", b"ma a MX\r\n", b"CLIENT_ERROR invalid mode for ma M token\r\n"),
    ("opaque", b"mg a O%b\r\n" % (b"x" * 31), b"EN O%b\r\n" % (b"x" * 31)),
    (
        "opaque too long",
        SET
        + b"".join(
            b"%b a q O%b\r\n" % (verb, b"x" * 32) for verb in (b"mg", b"md", b"ma", b"ms a")
        ).replace(b"ms a a", b"ms a 2")
        + b"mn\r\nmd a\r\nmg a O%b\r\nma a O%b\r\n" % (b"x" * 32, b"x" * 32),
        b"HD\r\n"
        + b"CLIENT_ERROR opaque token too long\r\n" * 4
        + b"HD\r\n"
        + b"CLIENT_ERROR opaque token too long\r\n" * 2,
    ),
    (
        "too many flags",
        b"mg a" + b" P" * 19 + b"\r\n",
        b"CLIENT_ERROR options flags are too long\r\n",
    ),
    ("not too many", b"md a" + b" P" * 18 + b"\r\n", b"CLIENT_ERROR duplicate flag\r\n"),
    (
        "too many flags, the block is swallowed",
        b"ms a 2" + b" P" * 18 + b"\r\nmn\r\n",
        b"CLIENT_ERROR options flags are too long\r\n",
    ),
    (
        "not base64",
        b"mg ! b\r\nmg abc b\r\nmg Z=== b\r\n",
        b"CLIENT_ERROR error decoding key\r\n" * 3,
    ),
    (
        "not base64, later error",
        b"mg abc b Tx\r\n",
        b"CLIENT_ERROR bad token in command line format\r\n",
    ),
    ("not base64, earlier error", b"mg abc Tx b\r\n", b"CLIENT_ERROR error decoding key\r\n"),
    ("not base64, unknown flag", b"mg abc b w\r\n", b"CLIENT_ERROR invalid flag\r\n"),
    ("not base64, ms", b"ms abc 2 b\r\nmn\r\n", b"CLIENT_ERROR error decoding key\r\n"),
]

BINARY_KEYS = [
    (
        "the same key as text",
        b"ms Zm9v 1 b k\r\n1\r\nget foo\r\nmg foo k\r\n",
        b"HD kZm9v b\r\nVALUE foo 0 1\r\n1\r\nEND\r\nHD kZm9v b\r\n",
    ),
    (
        "a key with a blank",
        b"ms %b 1 b\r\n1\r\nmg %b b k v\r\nget a b\r\nmd %b b k\r\n" % (SPACED, SPACED, SPACED),
        b"HD\r\nVA 1 k%b b\r\n1\r\nEND\r\nHD k%b b\r\n" % (SPACED, SPACED),
    ),
    (
        "vivified under a plain name",
        b"mg Zm9v b N0 k\r\nget foo\r\n",
        b"HD kfoo W\r\nVALUE foo 0 0\r\n\r\nEND\r\n",
    ),
    ("vivified", b"mg %b b N0 k\r\nget a b\r\n" % SPACED, b"HD k%b b W\r\nEND\r\n" % SPACED),
    (
        "counted",
        b"ma %b b N0 J9 k\r\nma %b b v\r\nmg %b b k v\r\nget a b\r\n" % (SPACED, SPACED, SPACED),
        b"HD k%b b\r\nVA 2\r\n10\r\nVA 2 k%b b\r\n10\r\nEND\r\n" % (SPACED, SPACED),
    ),
    (
        "appended",
        b"ms %b 1 b\r\n1\r\nms %b 1 b MA k\r\n2\r\nmg %b b k v\r\nget a b\r\n"
        % (SPACED, SPACED, SPACED),
        b"HD\r\nHD k%b b\r\nVA 2 k%b b\r\n12\r\nEND\r\n" % (SPACED, SPACED),
    ),
    (
        "emptied",
        b"ms %b 1 b\r\n1\r\nmd %b b x\r\nmg %b b k v\r\nget a b\r\n" % (SPACED, SPACED, SPACED),
        b"HD\r\nHD\r\nVA 0 k%b b\r\n\r\nEND\r\n" % SPACED,
    ),
    ("miss", b"mg Zm9v b k\r\nma Zm9v k b\r\n", b"EN kZm9v b\r\nNF kZm9v b\r\n"),
]

DEBUG = [
    ("miss", b"me a\r\n", b"EN\r\n"),
    ("hit", SET + b"me a\r\n", b"HD\r\nME a exp=-1 la=0 cas=1 fetch=no cls=1 size=61\r\n"),
    (
        "fetched",
        SET + b"mg a\r\nme a x\r\n",
        b"HD\r\nHD\r\nME a exp=-1 la=0 cas=1 fetch=yes cls=1 size=61\r\n",
    ),
    (
        "ends",
        b"ms a 1 T30\r\n1\r\nme a\r\n",
        b"HD\r\nME a exp=30 la=0 cas=1 fetch=no cls=1 size=61\r\n",
    ),
    (
        "base64",
        b"ms Zm9v 1 b\r\n1\r\nme foo\r\nme Zm9v b x\r\nme Zm9v b\r\nme Zm9v\r\n",
        b"HD\r\n" + b"ME Zm9v exp=-1 la=0 cas=1 fetch=no cls=1 size=63\r\n" * 2 + b"EN\r\n" * 2,
    ),
    ("no key", b"me\r\n", b"CLIENT_ERROR bad command line format\r\n"),
    ("not base64", b"me abc b b\r\n", b"CLIENT_ERROR bad command line format\r\n"),
]

NEW_CAS = [
    (
        "mg sends no value to who has it",
        b"ms a 1 E7\r\n1\r\nmg a v C7 q s\r\nmg a v C8\r\nmg a C7\r\nmg b v C7\r\n",
        b"HD\r\nHD s1\r\nVA 1\r\n1\r\nHD\r\nEN\r\n",
    ),
    (
        "nor one that it creates itself, nor a stale one",
        b"mg a v C7 E7 N0\r\nmd a I E9\r\nmg a v C9\r\nmg a h v C9\r\n",
        b"HD W\r\nHD\r\nHD X W\r\nHD h1 Z X\r\n",
    ),
    ("set", b"ms a 1 E7 c\r\n1\r\nmg a c\r\n", b"HD c7\r\nHD c7\r\n"),
    (
        "compare and give",
        b"ms a 1 E7\r\n1\r\nms a 1 C7 E9 c\r\n2\r\nms a 1 C7 E8\r\n3\r\n",
        b"HD\r\nHD c9\r\nEX\r\n",
    ),
    ("append", SET + b"ms a 1 E7 MA c\r\n2\r\nmg a c\r\n", b"HD\r\nHD c7\r\nHD c7\r\n"),
    ("vivify", b"mg a N0 E7 c\r\nmg a E9 c\r\n", b"HD c7 W\r\nHD c7 Z\r\n"),
    ("invalidate", SET + b"md a I E7\r\nmg a c\r\n", b"HD\r\nHD\r\nHD c7 X W\r\n"),
    ("empty", SET + b"md a x E7\r\nmg a c\r\n", b"HD\r\nHD\r\nHD c7\r\n"),
    ("calculate", SET + b"ma a E7 c\r\nma b N0 E9 c\r\n", b"HD\r\nHD c7\r\nHD c9\r\n"),
    ("0 means nothing to ms", b"ms a 1 E0 c\r\n1\r\n", b"HD c1\r\n"),
    ("but to mg", b"mg a N0 E0 c\r\nmg a c\r\n", b"HD c0 W\r\nHD c0 Z\r\n"),
    ("and to md", SET + b"md a I E0\r\nmg a c\r\n", b"HD\r\nHD\r\nHD c0 X W\r\n"),
    ("and to md x", SET + b"md a x E0\r\nmg a c\r\n", b"HD\r\nHD\r\nHD c0\r\n"),
    ("and to ma", SET + b"ma a E0 c\r\nma b N0 E0 c\r\n", b"HD\r\nHD c0\r\nHD c0\r\n"),
    (
        "a small one is no older than a flush",
        SET + b"flush_all\r\nms a 1 E1\r\n1\r\nmg a c\r\nflush_all\r\nmg a c\r\n",
        b"HD\r\nOK\r\nHD\r\nHD c1\r\nOK\r\nEN\r\n",
    ),
    ("no number", b"mg a Ex\r\n", b"CLIENT_ERROR bad token in command line format\r\n"),
]

CASES = [
    *NO_OP, *GET, *SETTING, *DELETION, *ARITHMETIC, *MISTAKES, *BINARY_KEYS, *DEBUG, *NEW_CAS,
]  # fmt: skip


@pytest.mark.parametrize(("name", "request_", "reply"), CASES, ids=[case[0] for case in CASES])
def test_reply(name, request_, reply):
    assert converse(request_) == reply


def test_without_cas_uniques_nothing_is_compared_when_appending():
    request = SET + b"ms a 1 C9 MA c\r\n2\r\nms a 1 C9\r\n3\r\nms b 1 E5 c\r\n1\r\nmd a C9\r\n"
    assert converse(request, disable_cas=True) == b"HD\r\nHD c0\r\nEX\r\nHD c0\r\nEX\r\n"


def test_a_value_too_large_deletes_the_old_one_in_every_mode():
    for mode in (b"MS", b"ME", b"MA", b"C5"):
        request = SET + b"ms a 2000 q %b\r\n%b\r\nmg a\r\n" % (mode, b"x" * 2000)
        reply = converse(request, item_size_max_bytes=1024, slab_chunk_max_bytes=512)
        assert reply == b"HD\r\nSERVER_ERROR object too large for cache\r\nEN\r\n"


def test_no_memory_is_told_and_the_old_value_deleted():
    client = Client(memory_limit_bytes=2 << 20, disable_evictions=True, item_size_max_bytes=1 << 20)
    value = b"x" * 300_000
    stored = 0
    while client.send(b"ms k%d 300000\r\n%b\r\n" % (stored, value)) == b"HD\r\n":
        stored += 1
    reply = client.send(b"ms k0 300000 q MR\r\n%b\r\nmg k0\r\n" % value)
    assert reply == b"SERVER_ERROR out of memory storing object\r\nEN\r\n"
    client.service.cache.check()


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"mg a N0\r\n", b"EN\r\n"),
        (b"ma a N0\r\n", b"SERVER_ERROR Out of memory allocating new item\r\n"),
        (b"md k x\r\n", b"SERVER_ERROR out of memory\r\n"),
    ],
)
def test_nothing_is_created_without_memory(monkeypatch, request_, reply):
    client = Client()
    client.send(b"ms k 1\r\n1\r\n")
    monkeypatch.setattr(client.service.cache, "create", lambda *args, **options: None)
    assert client.send(request_) == reply


@pytest.mark.parametrize(
    ("method", "outcome", "request_", "reply"),
    [
        (
            "increment",
            (Status.NO_MEMORY, 0),
            b"ma k q\r\n",
            b"SERVER_ERROR out of memory\r\n",
        ),
        (
            "store",
            Status.NO_MEMORY_READING,
            b"ms k 1 q MA\r\n2\r\n",
            b"SERVER_ERROR Out of memory during read\r\n",
        ),
        (
            "store",
            Status.NO_MEMORY,
            b"ms k 1 q MA\r\n2\r\nmg k\r\n",
            b"SERVER_ERROR out of memory storing object\r\nEN\r\n",
        ),
    ],
)
def test_memory_ends_within_a_command(monkeypatch, method, outcome, request_, reply):
    client = Client()
    client.send(b"ms k 1\r\n1\r\n")
    monkeypatch.setattr(client.service.cache, method, lambda *args, **more: outcome)
    assert client.send(request_) == reply


def test_time_passes():
    clock = ManualClock()
    client = Client(make_service(clock))
    client.send(b"ms a 1 T100\r\n1\r\n")
    clock.advance(40)
    assert client.send(b"mg a t l h\r\nmg a R50\r\nme a\r\n") == (
        b"HD t60 l40 h0\r\nHD\r\nME a exp=60 la=0 cas=1 fetch=yes cls=1 size=61\r\n"
    )
    clock.advance(20)
    # The first fetch left but a mark; the second counted as an access, and none after it does.
    assert client.send(b"mg a l R50 t\r\nmg a l R50\r\n") == b"HD l20 t40 W\r\nHD l20 Z\r\n"
    clock.advance(40)
    assert client.send(b"mg a N10 R5\r\n") == b"HD W\r\n"
    clock.advance(10)
    assert client.send(b"mg a\r\n") == b"EN\r\n"
    client.service.cache.check()


def test_what_is_counted():
    client = Client()
    client.send(
        b"mg a\r\nmg a u\r\nmg a T5\r\nms a 1\r\n1\r\nmg a\r\nmg a u\r\nmg a T5\r\nmg b N0\r\n"
        b"me a\r\nme x\r\nme\r\nma x\r\nma x MD\r\nma a\r\nma a MD\r\nma n N0\r\n"
        b"md x\r\nmd a C999\r\nmd a I\r\nmd a\r\nms n 1 C77\r\n1\r\nms x 1 C1\r\n1\r\n"
    )
    stats = dict(line.split()[1:] for line in client.send(b"stats\r\n").split(b"\r\n")[:-2])
    expected = {
        "cmd_get": 5, "get_hits": 3, "get_misses": 2, "cmd_touch": 2, "touch_hits": 1,
        "touch_misses": 1, "cmd_set": 3, "cmd_meta": 2, "incr_misses": 1, "decr_misses": 1,
        "incr_hits": 1, "decr_hits": 1, "delete_misses": 2, "delete_hits": 1, "cas_badval": 1,
        "cas_misses": 1, "total_items": 3, "curr_items": 2,
    }  # fmt: skip
    assert {name: int(stats[name.encode()]) for name in expected} == expected


def test_what_watchers_see():
    service = make_service()
    watcher = Client(service)
    watcher.send(b"watch fetchers mutations deletions\r\n")
    client = Client(service)
    client.send(
        b"mg a\r\nms a 1 T30\r\n1\r\nmg a t\r\nmg a h\r\nme a\r\nma n N0 J12\r\nms a 9999999\r\n"
        + b"x" * 9999999
        + b"\r\nms b 1 C5\r\n1\r\nms b 1\r\n1\r\nmd b I\r\nmd b\r\n"
    )
    lines = [line.split(b" ", 2)[2] for line in watcher.take().split(b"\n")[:-1]]
    cfd = b"cfd=%d" % client.connection.id
    no_a, no_b, no_n = [
        b"type=item_get key=%b status=not_found clsid=0 %b size=0" % (key, cfd)
        for key in (b"a", b"b", b"n")
    ]
    found_a, found_b = [
        b"type=item_get key=%b status=found clsid=1 %b size=1" % (key, cfd) for key in (b"a", b"b")
    ]
    assert lines == [
        no_a,
        no_a,
        b"type=item_store key=a status=stored cmd=set ttl=30 clsid=1 %b size=1" % cfd,
        *[found_a] * 3,
        *[no_n] * 2,
        b"type=item_store key=n status=stored cmd=add ttl=0 clsid=1 %b size=2" % cfd,
        b"type=item_store key=a status=too_large cmd=set ttl=0 clsid=0 %b size=0" % cfd,
        found_a,
        no_b,
        b"type=item_store key=b status=not_found cmd=cas ttl=0 clsid=1 %b size=1" % cfd,
        no_b,
        b"type=item_store key=b status=stored cmd=set ttl=0 clsid=1 %b size=1" % cfd,
        found_b,
        found_b,
        b"type=deleted key=b cmd=md clsid=1 size=1",
    ]


def test_a_win_is_given_once_however_many_ask():
    service = make_service()
    clients = [Client(service) for _ in range(20)]
    answers = [client.send(b"mg a N30 v\r\n") for client in clients]
    assert answers == [b"VA 0 W\r\n\r\n"] + [b"VA 0 Z\r\n\r\n"] * 19


def test_flags_are_decoded_once():
    client = Client()
    client.send(b"mg a v Oonce\r\n")
    assert decode_flags((b"v", b"Oonce")) is decode_flags((b"v", b"Oonce"))


def test_long_flags_are_not_kept():
    words = (b"v", b"L" + b"x" * KEPT_MAX_BYTES)
    assert decode_flags(words) is not decode_flags(words)


PLAIN = [
    (b"mg a v\r\n", b"VA 1\r\n1\r\n"),
    (b"mg a\r\n", b"HD\r\n"),
    (b"mg a \r\n", b"HD\r\n"),
    (b"mg a v c f k t s O%d q\r\n", b"VA 1 c1 f0 ka t-1 s1 O%d\r\n1\r\n"),
    (b"ms a 2\r\nhi\r\n", b"HD\r\n"),
    (b"ms c 2 T30 F5\r\nhi\r\n", b"HD\r\n"),
    (b"ms a 2 k c O1\r\nhi\r\n", b"HD ka c2 O1\r\n"),
    (b"ms b 2 T0 q\r\n\r\n\r\n", b""),
]
NOT_PLAIN = [
    b"mg b v\r\n", b"mg a v\n", b"ms a 2 F5\r\nhi\r\n", b"mg a  v\r\n", b"mg  a v\r\n",
    b"mg a v\r\nmn\r\n", b"mg a h\r\n", b"mg a\tv\r\n", b"mg YQ== b\r\n", b"mg a v v\r\n",
    b"mg a\r\nmg a\r\n", b"mg a \0\r\n",
    b"mg a" + b" P" * 18 + b"\r\n", b"mg a L" + b"x" * 400 + b"\r\n", b"mg \r\n", b"mg\r\n",
    b"m\r\n", b"mn\r\n", b"md a\r\n", b"ms a 2 I\r\nhi\r\n", b"ms a 2 C1\r\nhi\r\n",
    b"ms a 2 ME\r\nhi\r\n", b"ms YQ== 2 b\r\nhi\r\n", b"ms a 3\r\nhi\r\n", b"ms a 2\nhi\r\n",
    b"ms a 2 E5\r\nhi\r\n", b"ms a 2 O" + b"x" * 32 + b"\r\nhi\r\n", b"ms a 2 Tx\r\nhi\r\n",
    b"ms a 2 \r\nhi\r\n", b"ms a 2\r\nhi\r\nmn\r\n", b"ms a 2\r\nhi",
]  # fmt: skip


@pytest.mark.parametrize(("request_", "reply"), PLAIN)
def test_the_usual_is_answered_fast(request_, reply):
    client = Client()
    client.send(SET)
    assert answer_plain(client.connection, request_) == reply
    client.service.cache.check()


@pytest.mark.parametrize("request_", NOT_PLAIN)
def test_the_unusual_is_left_to_the_general_path(request_):
    client = Client()
    client.send(SET)
    before = client.send(b"me a\r\n")
    assert answer_plain(client.connection, request_) is None
    assert client.send(b"me a\r\n") == before


def test_a_large_value_is_answered_fast_but_in_pieces():
    client = Client()
    value = b"x" * 500_000
    client.send(b"ms a 500000\r\n%b\r\n" % value)
    assert answer_plain(client.connection, b"mg a v\r\n") is None
    assert client.connection.pieces == [b"VA 500000\r\n", value, b"\r\n"]


def test_what_is_stale_or_won_is_told_by_the_fast_path_too():
    client = Client()
    client.send(SET + b"md a I\r\n")
    assert answer_plain(client.connection, b"mg a s\r\n") == b"HD s1 X W\r\n"
    assert answer_plain(client.connection, b"mg a v\r\n") == b"VA 1 Z X\r\n1\r\n"


def test_a_key_that_text_cannot_say_is_not_found_fast():
    client = Client()
    client.send(b"ms %b 1 b\r\n1\r\n" % b64encode(b"a\r\nmg"))
    assert answer_plain(client.connection, b"mg a\r\nmg\r\n") is None


@given(st.binary(min_size=1, max_size=100))
def test_any_key_survives_base64(key):
    assert decode_key(b64encode(key)) == key


@given(st.binary(max_size=40))
def test_decoding_never_fails_otherwise_than_by_none(word):
    key = decode_key(word)
    if key is not None:
        assert 0 < len(key) <= len(word) * 3 // 4


@given(st.lists(st.binary(min_size=1, max_size=6), max_size=19))
def test_any_flags_are_decoded(words):
    flags = decode_flags(tuple(words))
    assert flags.error == b"" or flags.error.endswith(b"\r\n")
    if flags.key_binary:
        assert flags.decode_error.endswith(b"\r\n")


LINES = (
    "mg a v, mg a N5 k, mg YSBi b N5, ms a 1, ms a 1 T-1, ms YSBi 1 b MA, md a I, ms a 1 I C1, "
    "md a x, md YSBi b x, ma a N0, ma YSBi b N3 J9, md a, ms a 1 E3, mg a T-1, mg a T9, "
    "flush_all, set a 0 0 1"
)


@given(st.lists(st.sampled_from(LINES.encode().split(b", ")), max_size=30))
def test_the_store_stays_in_order(lines):
    client = Client()
    for line in lines:
        block = b"1\r\n" if line.startswith((b"ms", b"set")) else b""
        client.send(line + b"\r\n" + block)
    client.service.cache.check()


@pytest.mark.parametrize(
    "command",
    [
        b"ms k 1 E500\r\nx\r\n",
        b"ms k 1 E5 MA\r\nx\r\n",
        b"ms k 1 E5 ME\r\nx\r\n",
        b"ms n 1 E5 MR\r\nx\r\n",
        b"ms k 1 C1 E5\r\nx\r\n",
        b"ms n 1 C1 E5\r\nx\r\n",
        b"ms k 1 C1 I E500\r\nx\r\n",
        b"ms k 1 E5 T-1\r\nx\r\n",
        b"md k I E7\r\n",
        b"md k x E7\r\n",
        b"ma n N0 E9\r\n",
        b"ma c E9\r\n",
        b"mg n N30 E9\r\n",
    ],
)
def test_a_cas_unique_of_ones_own_takes_none(command):
    """As in memcached 1.6.45, whatever comes of it."""
    client = Client()
    client.send(b"ms k 1\r\nv\r\nms c 1\r\n1\r\n")
    before = client.service.cache.cas_unique
    client.send(command)
    assert client.send(b"ms z 1 c\r\nz\r\n") == b"HD c%d\r\n" % (before + 1)
