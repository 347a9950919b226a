"""The meta commands: mn mg ms md ma me, mixed with classic ones."""

from base64 import b64encode

from . import Pieces, table

#: What is left to live may be a second less by the time it is asked for.
TTL = rb"(?<= t)\d+(?=[ \r])"
SECONDS = rb"(?<= l)\d+(?=[ \r])"
#: Of me. A number that does not end is -1.
DEBUG_SECONDS = rb"(?<= exp=-)\d\d+|(?<= la=)\d+"

SET = b"ms k 5 F7\r\nvalue\r\n"
LONG = b"L" * 251
O32 = b"O" + b"x" * 31
O33 = b"O" + b"x" * 32
FOO = b64encode(b"foo")
SPACED = b64encode(b"two words")

CASES = (
    table(
        "meta",
        [
            (
                "mn",
                b"mn\r\n",
                b"mn x y\r\n",
                b"mn\n",
                b"mnx\r\n",
                b"MN\r\n",
                b"m\r\n",
                b"mx k\r\n",
                b"mm\r\n",
            ),
            ("quiet misses, ended by mn", b"mg a q v\r\nmg b q v\r\nmg c q\r\nmn\r\n"),
            (
                "get: miss",
                b"mg k\r\nmg k v\r\nmg k k O1 v\r\nmg k O1 k\r\nmg k q\r\nmg k s t f c h l\r\n",
            ),
            ("get: hit", SET + b"mg k\r\nmg k v\r\nmg k q\r\nmg k v q\r\n"),
            ("get: one flag each", SET + b"".join(b"mg k %c\r\n" % flag for flag in b"cfhklstuv")),
            ("get: order", SET + b"mg k v s f k O1\r\nmg k O1 k f s v\r\nmg k f v O1 s k\r\n"),
            ("get: hit before", SET + b"mg k h u\r\nmg k h\r\nmg k h\r\nmg k h u\r\n"),
            (
                "get: from classic commands",
                b"set k 9 0 3\r\nabc\r\nmg k v f s\r\n",
                b"get k\r\nmg k h\r\n",
            ),
            ("get: to classic commands", SET + b"get k\r\ngat 0 k\r\ndelete k\r\nmg k\r\n"),
            ("get: flags of others", SET + b"mg k MI D5 J6 C9 F1 I Pa La N0 R0\r\nmg k v\r\n"),
            (
                "vivify",
                b"mg k N100000 v s f c\r\nmg k v s f c\r\nget k\r\n",
                b"ms k 1\r\n1\r\nmg k v N100000\r\n",
            ),
            ("vivify, quietly", b"mg k N0 q\r\nmg k q\r\nmg k v q\r\n"),
            (
                "recache",
                b"ms k 1 T100\r\n1\r\nmg k R50\r\nmg k R5000\r\nmg k R5000\r\nmg k\r\n"
                b"ms k 1 T100\r\n2\r\nmg k\r\nmg k R5000 v\r\n",
            ),
            ("recache of what never ends", SET + b"mg k R5000\r\nmg k R-1\r\n"),
            ("recache and vivify", b"mg k N100 R5000\r\nmg k N100 R5000\r\n"),
            ("touch to an end", SET + b"mg k T-1 s\r\nmg k\r\n"),
            ("set: flags", SET + b"mg k v f\r\nms k 2 F4294967295\r\nab\r\nmg k v f\r\n"),
            (
                "set: answers",
                b"ms k 2 k O1\r\nab\r\n",
                b"ms k 2 O1 k s t v f h l\r\nab\r\n",
                b"ms k 2 q k O1\r\nab\r\nmn\r\n",
            ),
            ("set: empty", b"ms k 0\r\n\r\nmg k v s\r\n"),
            ("set: bare newlines", b"ms k 2\nab\r\nmg k v\n", b"ms k 2\r\nab\nmn\r\n"),
            ("set: in pieces", Pieces((b"ms k 5 T", b"0 k\r\nab", b"cde\r", b"\nmg k v\r\n"))),
            ("set: over quickly", b"ms k 1 T-1\r\n1\r\nmg k\r\nget k\r\n"),
            (
                "set: modes on nothing",
                *[b"ms k 1 M%c k\r\n1\r\nmg k v\r\nmd k\r\n" % mode for mode in b"SEARP"],
            ),
            (
                "set: modes on something",
                *[SET + b"ms k 1 M%c k\r\n1\r\nmg k v f\r\n" % mode for mode in b"SEARP"],
            ),
            (
                "set: unknown modes",
                *[b"ms k 1 M%b\r\n1\r\nmn\r\n" % mode for mode in (b"", b"X", b"e", b"SS", b"0")],
            ),
            (
                "set: quiet failures",
                b"ms k 1 MR q\r\n1\r\nms k 1 MA q\r\n1\r\nms k 1 C5 q\r\n1\r\n"
                + SET
                + b"ms k 1 ME q\r\n1\r\n",
            ),
            (
                "set: bad block",
                b"ms k 2 q\r\nabcd\r\nmn\r\n",
                SET + b"ms k 2\r\nabcd\r\nmg k v\r\n",
            ),
            (
                "set: length",
                b"ms k -1\r\nmn\r\n",
                b"ms k abc\r\nmn\r\n",
                b"ms k 4294967297\r\na\r\nmn\r\n",
                b"ms k 2147483646\r\nmn\r\n",
                b"ms k S1\r\na\r\n",
                b"ms k\r\na\r\n",
                b"ms k +1\r\na\r\nmn\r\n",
            ),
            (
                "set: errors swallow the block",
                *[
                    b"ms k 4 %b\r\nmn\r\n\r\nmn\r\n" % bad
                    for bad in (b"S", b"c c", b"Tx", b"Fx", b"MX", b"Cx", O33)
                ],
            ),
            (
                "set: but not these",
                b"ms %b 2\r\nmn\r\n" % LONG,
                b"ms k 2" + b" P" * 17 + b"\r\nmn\r\n",
            ),
            ("set: too large", SET + b"ms k 2000000 q MA\r\n" + b"x" * 2000000 + b"\r\nmg k\r\n"),
            ("set: large", b"ms k 1000000\r\n" + b"x" * 1000000 + b"\r\nmg k s\r\nmg k v\r\n"),
            (
                "cas: answers",
                b"ms k 1 c\r\n1\r\nmg k c\r\nms k 1 MA c\r\n1\r\nmg k c v\r\nms k 1 ME c\r\n1\r\n",
            ),
            (
                "cas: right, then used",
                b"ms k 1 c\r\n1\r\n",
                b"ms k 1 C<unique:0> c\r\n2\r\nms k 1 C<unique:0> c\r\n3\r\nmg k v c\r\n",
            ),
            (
                "cas: of gets",
                b"set k 0 0 1\r\n1\r\ngets k\r\n",
                b"ms k 1 C<unique>\r\n2\r\nmg k v\r\n",
            ),
            (
                "cas: to the cas command",
                b"ms k 1 c\r\n1\r\n",
                b"cas k 0 0 1 <unique>\r\n2\r\nmg k v\r\n",
            ),
            ("cas: on nothing", b"ms k 1 C1 c k\r\n1\r\nmd k C1\r\nma k C1\r\nma k C1 N0\r\n"),
            ("cas: zero", SET + b"ms k 1 C0\r\n1\r\nmd k C0\r\nms k 1\r\n1\r\nma k C0 v\r\n"),
            (
                "cas: too new",
                SET + b"ms k 1 C18446744073709551615 c k O1\r\n1\r\n"
                b"md k C18446744073709551615 q\r\nmg k v\r\n",
            ),
            (
                "cas: in each mode",
                b"ms k 1 c\r\n1\r\n",
                *[b"ms k 1 C99999999 M%c\r\n1\r\nmg k v\r\n" % mode for mode in b"SEARP"],
                b"ms k 1 C<unique:0> MA\r\n2\r\nmg k v\r\n",
            ),
            (
                "cas: no numbers",
                b"ms k 1 C\r\n1\r\nmg k Cx\r\nmd k C-1\r\nma k C18446744073709551616\r\n",
            ),
            (
                "stale",
                SET + b"md k I\r\nmg k v\r\nmg k v\r\nget k\r\nmd k I\r\nmg k\r\nms k 1\r\n1\r\n"
                b"mg k v\r\n",
            ),
            (
                "stale: cas",
                SET + b"mg k c\r\n",
                b"md k I\r\nmg k c\r\nms k 3 C<unique:0>\r\nnew\r\nmg k v c\r\n",
            ),
            (
                "stale: a late write",
                b"ms k 1 c\r\n1\r\n",
                b"ms k 1\r\n2\r\nms k 4 I C<unique:0> c\r\nlate\r\nmg k v c\r\nmg k v c\r\n",
            ),
            (
                "stale: a late write keeps the winner",
                b"ms k 1 c T100000\r\n1\r\n",
                b"md k I\r\nmg k\r\nms k 4 I C<unique:0>\r\nlate\r\nmg k v\r\nmg k v\r\n",
            ),
            (
                "stale: the right write repairs",
                b"ms k 1\r\n1\r\nmd k I\r\nmg k c\r\n",
                b"ms k 3 I C<unique>\r\nnew\r\nmg k v\r\n",
            ),
            ("stale: I alone", b"ms k 1 I\r\n1\r\nmg k v\r\nms k 1 I MA\r\n2\r\nmg k v\r\n"),
            ("stale: ends", SET + b"md k I T-1\r\nmg k\r\n"),
            (
                "delete",
                b"md k\r\n"
                + SET
                + b"md k\r\nmg k\r\nmd k k O1\r\n"
                + SET
                + b"md k O1 k q\r\nmd k q\r\nmn\r\n",
            ),
            (
                "delete: flags of others",
                SET + b"md k v s t c f h l u N0 R0 MX F1 J1 D1 T0\r\nmg k\r\n",
            ),
            ("count: nothing", b"ma k\r\nma k q\r\nma k k O1 v t c\r\nma k MD\r\n"),
            (
                "count",
                b"ms k 1\r\n1\r\nma k\r\nma k v\r\nma k v D10\r\nma k v MD\r\n"
                b"ma k v MD D99\r\nmg k v\r\n",
            ),
            (
                "count: modes",
                b"ms k 2\r\n50\r\n"
                + b"".join(
                    b"ma k v M%b\r\n" % mode
                    for mode in (b"I", b"+", b"D", b"-", b"i", b"X", b"", b"II")
                ),
            ),
            ("count: wraps", b"ms k 20\r\n18446744073709551615\r\nma k v\r\nmg k v s\r\n"),
            ("count: order", b"ms k 1\r\n1\r\nma k v t k O1\r\nma k O1 k t v\r\n"),
            (
                "count: quiet",
                b"ms k 1\r\n1\r\nma k q\r\nma k q v\r\nma n q N0\r\nma n q v N0\r\nmn\r\n",
            ),
            (
                "count: create",
                b"ma k N0 v\r\nma k N0 v\r\nma n N0 J13 v\r\nma n N0 J13 v\r\nma o J13 v\r\n"
                b"mg n v\r\n",
            ),
            (
                "count: no number",
                b"ms k 3\r\nabc\r\nma k\r\nma k q\r\nms k 0\r\n\r\nma k\r\nmg v N0\r\nma v\r\n",
            ),
            ("count: bad numbers", b"ma k Dx\r\nma k Jx\r\nma k Nx\r\nma k D\r\nma k D-1\r\n"),
            (
                "count: touch lost where a digit is added",
                b"ms k 1\r\n8\r\nma k T100000\r\nma k T0\r\nma k T100000 t\r\nmg k t\r\n",
            ),
            ("too few words", b"mg\r\n", b"ms\r\n", b"md\r\n", b"ma\r\n", b"me\r\n"),
            (
                "long keys",
                *[b"%b %b 1\r\n" % (verb, LONG) for verb in (b"mg", b"ms", b"md", b"ma", b"me")],
                b"mg %b k\r\n" % LONG[1:],
            ),
            (
                "too many flags",
                *[
                    b"%b%b\r\nmn\r\n" % (verb, b" P" * count)
                    for verb in (b"mg k", b"md k", b"ma k", b"ms k 2")
                    for count in (16, 17, 18, 30)
                ],
            ),
            (
                "wrong flags",
                *[
                    b"%b %b\r\n" % (verb, bad)
                    for verb in (b"mg k", b"md k", b"ma k")
                    for bad in (
                        b"S1",
                        b"v v",
                        b"\xff",
                        b"\x7f",
                        b"noreply",
                        b"Tx",
                        b"T",
                        b"Fx",
                        b"MXX",
                        b"=",
                    )
                ],
            ),
            (
                "the error that is told",
                *[
                    b"mg k %b\r\n" % bad
                    for bad in (
                        b"Tx Jx",
                        b"Jx Tx",
                        b"Jx Fx",
                        b"Fx Jx",
                        b"Fx w",
                        b"w Fx",
                        b"Tx v v",
                        b"v v Tx",
                    )
                ],
            ),
            (
                "opaques",
                b"mg k %b\r\nmg k %b\r\nmg k O\r\nmg k O\t\r\n" % (O32, O33),
                SET + b"mg k %b T-1\r\nmg k T-1 %b\r\nmg k v\r\n" % (O33, O33),
                SET + b"md k %b q\r\nmg k s\r\nma k %b\r\nms k 1 %b q\r\n1\r\n" % (O33, O33, O33),
                b"ms n 1\r\n1\r\nma n %b q\r\nmg n v\r\nma o N0 %b\r\nmg o v\r\nmg p N0 %b\r\n"
                b"mg p v\r\n" % (O33, O33, O33),
            ),
            (
                "base64",
                b"ms %b 1 b k\r\n1\r\nget foo\r\nmg foo k\r\nmg %b k\r\nmg %b b k v\r\nme foo\r\n"
                % (FOO, FOO, FOO),
                b"md %b b k\r\nmd %b b k\r\nma %b b k\r\nmg %b b k\r\n" % (FOO, FOO, FOO, FOO),
            ),
            (
                "base64: a key that is not text",
                b"ms %b 1 k b\r\n1\r\nmg %b k b v\r\nget two words\r\nme %b b\r\nmd %b b q\r\n"
                b"mg %b b k\r\n" % (SPACED, SPACED, SPACED, SPACED, SPACED),
            ),
            (
                "base64: forgotten by append, counting and creation",
                b"ms %b 1 b\r\n9\r\nmg foo k\r\nma %b b k\r\nmg foo k\r\nms %b 1 b MA k\r\n"
                b"1\r\nmg foo k\r\n" % (FOO, FOO, FOO),
                b"md foo\r\nmg %b b N0 k\r\nmd foo\r\nma %b b N0 k\r\nmg foo k\r\n" % (FOO, FOO),
            ),
            (
                "base64: broken",
                *[
                    b"mg %b b k\r\n" % bad
                    for bad in (
                        b"!",
                        b"abc",
                        b"abcde",
                        b"====",
                        b"Z===",
                        b"=AAB",
                        b"!Z!m!9v",
                        b"Zm9v==",
                        b"Zg==Zg==",
                        b"Zh==",
                        b"Z\xffm9v",
                    )
                ],
                b"ms abc 2 b\r\nmn\r\nmd abc b\r\nma abc b\r\nme abc b\r\n",
            ),
            (
                "base64: which error",
                b"mg abc Tx b\r\nmg abc b Tx\r\nmg abc b Fx\r\nmg abc b w\r\nmg abc b b\r\n",
            ),
        ],
        hide=(SECONDS, DEBUG_SECONDS),
    )
    + table(
        "meta",
        [
            (
                "ttl",
                b"ms k 1 T100\r\n1\r\nmg k t\r\nmg k T200 t\r\nmg k t T100000\r\nmg k t\r\n"
                b"ma k t\r\nma k T0 t\r\nmg k t\r\n",
            ),
            ("ttl: vivified", b"mg k N100 t\r\nmg n t N100\r\nmg n t\r\nma o N100 t\r\nma o t\r\n"),
            ("ttl: stale", b"ms k 1\r\n1\r\nmd k I T100\r\nmg k t\r\nmd k T200\r\nmg k t\r\n"),
            (
                "ttl: of the command before",
                b"set k 0 100 1\r\n1\r\nmg k t\r\ntouch k 200\r\nmg k t\r\ngat 0 k\r\nmg k t\r\n",
            ),
            (
                "debug",
                b"me k\r\nms k 1 T100\r\n1\r\nme k\r\nmg k\r\nme k\r\nme k x\r\nmg k T0\r\n"
                b"me k\r\n",
            ),
            (
                "debug: words",
                b"me\r\n",
                b"me " + LONG + b"\r\n",
                b"me k b\r\n",
                b"me k bb\r\n",
                b"me %b b\r\nme %b b b\r\n" % (FOO, FOO),
            ),
        ],
        hide=(TTL, SECONDS, DEBUG_SECONDS),
    )
    + table(
        "meta",
        [
            (
                "without cas",
                b"ms w 1 c\r\n1\r\nmg w c\r\nms w 1 C1\r\n2\r\nms w 1 C1 MA\r\n2\r\n"
                b"ms w 1 C1 ME\r\n1\r\n"
                b"ma w C1\r\nmd w C1\r\nmd w C0\r\n",
            ),
            (
                "without cas: stale",
                b"ms w 1\r\n1\r\nmd w I\r\nmg w c\r\nms w 1 I C1\r\n1\r\nmg w\r\n",
            ),
        ],
        switches="-C",
        fresh=True,
    )
    + table(
        "meta",
        [
            ("later flags: E", b"ms k 1 E5000000000 c\r\n1\r\nmg k v c\r\n"),
            ("later flags: x", b"ms k 1 F5\r\n1\r\nmd k x\r\nmg k v f\r\n"),
            (
                "later flags: E0",
                b"ms k 1 E0\r\n1\r\nmd k I E0\r\nmg k c\r\n"
                b"ma e N0 E0 c\r\nmd e x E0\r\nmg e c\r\nmd e\r\n",
            ),
            (
                "later flags: E, and a flush",
                b"ms k 1 E1\r\n1\r\nms e 1 E5000000000\r\n1\r\nflush_all\r\nmg k\r\nmg e\r\n"
                b"ms k 1 E1\r\n1\r\nmg k v\r\nmd k\r\n",
            ),
            (
                "get: C of what is there",
                b"ms k 1 E5000000000\r\n1\r\nmg k v C5000000000 s q\r\nmg k C5000000000\r\n"
                b"mg k v C1\r\nmg k v h C5000000000\r\nmg none v C0\r\nmd k\r\n",
            ),
            (
                "set: append and prepend that create",
                b"md k\r\nms k 2 MA N100 T5 F7 s\r\nab\r\nms k 1 MA N0 F9 s\r\nc\r\n"
                b"ms k 1 MP N0 C1 s\r\nd\r\nmg k v f\r\nmd k\r\nms k 1 MP N-1 s\r\nd\r\nmg k\r\n"
                b"ms azE= 1 b MA N0\r\n1\r\nmg k1 k\r\nms azE= 1 b MA N0\r\n"
                b"1\r\nmg k1 k\r\nmd k1\r\n",
            ),
            (
                "what cannot be a flag",
                b"mg k ~\r\nmg k v !\r\nmd k {\r\nma k @\r\nme k -\r\nmg k 5\r\nmg k [\r\n",
                b"ms k 2 +\r\nmn\r\nms k 2 5\r\nmn\r\nms " + b"k" * 251 + b" 2 +\r\nmn\r\n",
                b"mg k" + b" P" * 19 + b" =\r\nmg k" + b" P" * 21 + b" =\r\n",
            ),
            (
                "of a mode the first letter counts",
                b"ms k 1 MSx\r\n1\r\nma k MIx v\r\nms k 1 M\0\r\n1\r\nms k 2 M\r\nmn\r\n"
                b"ma k M\r\nmg k M v\r\nmd k M\r\n",
            ),
            (
                "base64: forgotten of a key that is not text",
                b"mg %b b N0 k\r\nmd %b b\r\nma %b b N0 k\r\nmg %b b k\r\n"
                % (SPACED, SPACED, SPACED, SPACED),
            ),
        ],
    )
)
