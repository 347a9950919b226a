"""verbosity, cache_memlimit, lru, lru_crawler, slabs, watch, metadump, stats: one line each."""

from . import Closes, Pieces, table

STORE = b"set a 1 0 1\r\n1\r\nset b 2 0 2\r\n22\r\n"
TIMES = (rb"(?<= la=)\d+", rb"(?<= cas=)\d+", rb"(?<= exp=)\d{6,}")

CASES = [
    *table(
        "admin",
        [
            (
                "verbosity",
                b"verbosity\r\nverbosity 0\r\nverbosity 1\r\nverbosity 0 x\r\nverbosity abc\r\n"
                b"verbosity -1\r\n"
                b"verbosity 0 noreply\r\nverbosity 1 2 3\r\nverbosity noreply\r\nverbosity 0\r\n",
            ),
            (
                "cache_memlimit",
                b"cache_memlimit\r\ncache_memlimit 64\r\ncache_memlimit 7\r\ncache_memlimit 0\r\n"
                b"cache_memlimit abc\r\ncache_memlimit -1\r\ncache_memlimit 1000000001\r\n"
                b"cache_memlimit 64 x\r\ncache_memlimit 64 noreply\r\ncache_memlimit 1 2 3\r\n"
                b"cache_memlimit 4294967297\r\ncache_memlimit 64\r\n",
            ),
            (
                "lru",
                b"lru\r\nlru bogus\r\nlru tune\r\nlru tune 10 25 0.1 2.0\r\n"
                b"lru tune 50 31 0.1 2.0\r\nlru tune 50 30 1 1\r\n"
                b"lru tune 10 25 0 2.0\r\nlru tune 10 25 1 -2\r\nlru tune a b c d\r\n"
                b"lru tune 10 25 0.1\r\n"
                b"lru tune 10 25 0.1 2.0 noreply\r\nlru tune 10 25 1e999 2\r\nlru mode\r\n"
                b"lru mode flat\r\n"
                b"lru mode segmented\r\nlru mode bogus\r\nlru temp_ttl\r\nlru temp_ttl 60\r\n"
                b"lru temp_ttl -1\r\n"
                b"lru temp_ttl abc\r\nlru mode flat noreply\r\n",
            ),
            (
                "lru_crawler settings",
                b"lru_crawler\r\nlru_crawler bogus\r\nlru_crawler sleep 100\r\n"
                b"lru_crawler sleep 1000000\r\n"
                b"lru_crawler sleep 1000001\r\nlru_crawler sleep abc\r\nlru_crawler sleep\r\n"
                b"lru_crawler tocrawl 5\r\nlru_crawler tocrawl abc\r\nlru_crawler tocrawl\r\n"
                b"lru_crawler a b c d\r\nlru_crawler sleep 100 noreply\r\n",
            ),
            (
                "lru_crawler crawl, bad words",
                b"lru_crawler crawl 0\r\n",
                b"lru_crawler crawl abc\r\n",
                b"lru_crawler crawl 64\r\n",
                b"lru_crawler crawl 1,x\r\n",
                b"lru_crawler crawl\r\n",
                b"lru_crawler crawl 1 2\r\n",
            ),
            (
                "slabs",
                b"slabs\r\nslabs bogus\r\nslabs reassign\r\nslabs reassign 1\r\n"
                b"slabs reassign 1 2 3\r\n"
                b"slabs reassign a b\r\nslabs reassign 1 1\r\nslabs reassign 5 6\r\n"
                b"slabs reassign 1 99\r\n"
                b"slabs reassign 99 1\r\nslabs reassign -2 1\r\nslabs reassign 0 1\r\n"
                b"slabs reassign -1 1\r\n",
            ),
            (
                "slabs automove",
                b"slabs automove\r\nslabs automove 0\r\nslabs automove 2\r\nslabs automove 3\r\n"
                b"slabs automove abc\r\nslabs automove ratio\r\nslabs automove ratio 0.5\r\n"
                b"slabs automove ratio abc\r\nslabs automove 1 noreply\r\nslabs automove 1 x\r\n"
                b"slabs automove -1\r\n",
            ),
            ("watch and bad words", b"watch bogus\r\n", b"watch fetchers bogus\r\n"),
            ("watch after other commands", b"version\r\nwatch\r\n"),
            (
                "shortened words",
                b"lru_crawler sl 100\r\nlru_crawler t 0\r\nlru_crawler c 0\r\n"
                b"lru_crawler m 0\r\n"
                b"lru_crawler e\r\nslabs a 1\r\nslabs automove r 0.8\r\nslabs a f 0.01\r\n"
                b"slabs r 1 1\r\n"
                b"lru t 20 40 0.2 2\r\nlru te -1\r\nlru t -1\r\nlru tunex 1 1 1 1\r\n",
                b"stats r\r\nstats d\r\nstats d of\r\nstats c 1\r\nstats c a b\r\nstats siz\r\n"
                b"stats item\r\n",
            ),
            (
                "slabs automove, window and freeratio",
                b"slabs automove window\r\nslabs automove window x\r\nslabs automove window 2\r\n"
                b"slabs automove window 3\r\nslabs automove window 1800\r\n"
                b"slabs automove window 1801\r\n"
                b"slabs automove window 10\r\nslabs automove freeratio\r\n"
                b"slabs automove freeratio x\r\n"
                b"slabs automove freeratio -1\r\nslabs automove freeratio 0.01\r\n",
            ),
            (
                "metadump after other commands",
                b"version\r\nlru_crawler metadump all\r\nversion\r\n",
            ),
            (
                "stats words",
                b"stats bogus\r\n",
                b"stats reset\r\n",
                b"stats detail\r\n",
                b"stats detail x\r\n",
                b"stats detail on x\r\n",
                b"stats cachedump\r\n",
                b"stats cachedump 1\r\n",
                b"stats cachedump a b\r\n",
                b"stats cachedump 64 1\r\n",
                b"STATS\r\n",
                b"stats  bogus  \r\n",
                b"stats noreply\r\n",
                b"stats sizes\r\n",
                b"stats sizes_enable\r\n",
                b"stats sizes_disable\r\n",
            ),
        ],
        fresh=True,
    ),
    *table(
        "admin",
        [
            (
                "lru_crawler crawl, nothing there",
                b"lru_crawler crawl 1\r\n",
                b"lru_crawler crawl all\r\n",
                b"lru_crawler crawl 1,2,3\r\n",
            ),
            ("lru_crawler crawl", STORE + b"lru_crawler crawl all\r\n"),
            (
                "metadump, nothing there",
                b"lru_crawler metadump all\r\n",
                b"lru_crawler metadump 1\r\n",
            ),
            ("mgdump, nothing there", b"lru_crawler mgdump all\r\n", b"lru_crawler mgdump 99\r\n"),
            (
                "metadump of a class",
                STORE + b"version\r\n",
                b"lru_crawler metadump 1\r\n",
                b"lru_crawler metadump 2\r\n",
            ),
            (
                "metadump, bad words",
                b"lru_crawler metadump\r\n",
                b"lru_crawler metadump abc\r\n",
                b"lru_crawler metadump 0\r\n",
                b"lru_crawler metadump 1 2\r\n",
                b"lru_crawler metadump 64\r\n",
                b"lru_crawler metadump hash\r\n",
            ),
            (
                "metadump of one item",
                b"set k 0 100000 5\r\nhello\r\nget k\r\n",
                b"lru_crawler metadump all\r\n",
            ),
            (
                "metadump of an odd key",
                b"set a%\tb\xc3\xa9~/?=& 0 0 5\r\nhello\r\n",
                b"lru_crawler metadump all\r\n",
            ),
            (
                "metadump leaves out what is past",
                b"set k 0 -1 5\r\nhello\r\n",
                b"lru_crawler metadump all\r\n",
            ),
        ],
        # The maintainer starts crawls of its own, and then there is a BUSY now and then.
        switches="-o no_lru_maintainer",
        fresh=True,
        hide=TIMES,
        unordered=True,
    ),
    *table(
        "admin",
        [
            (
                "stats detail",
                b"stats detail dump\r\nstats detail on\r\n",
                b"set pre:a 0 0 1\r\n1\r\nset pre:b 0 0 1\r\n1\r\nget pre:a pre:x\r\n"
                b"delete pre:a\r\ndelete pre:zz\r\nget plain\r\nincr pre:b 1\r\n"
                b"touch pre:b 0\r\ngat 0 pre:b\r\n",
                b"stats detail off\r\n",
                b"get pre:a\r\n",
                b"stats detail dump\r\n",
            ),
            ("stats slabs and items, nothing there", b"stats slabs\r\n", b"stats items\r\n"),
            (
                "stats sizes",
                b"stats sizes\r\n",
                b"stats sizes_enable\r\n",
                b"set k 0 0 5\r\nhello\r\n",
                b"stats sizes\r\n",
                b"stats sizes_disable\r\n",
                b"stats sizes\r\n",
            ),
        ],
        fresh=True,
    ),
    # In one flat list: else it depends on a thread which items are shown.
    *table(
        "admin",
        [
            (
                "stats cachedump",
                b"set k1 0 0 5\r\nhello\r\nset k2 0 0 5\r\nhello\r\n",
                b"stats cachedump 1 0\r\n",
                b"stats cachedump 1 1\r\n",
                b"stats cachedump 2 0\r\n",
                b"stats cachedump 0 0\r\n",
            ),
        ],
        switches="-o no_modern",
        fresh=True,
        hide=(rb"(?<= b; )\d+(?= s)",),
    ),
    *table(
        "switches",
        [
            (
                "-o track_sizes",
                b"stats sizes\r\n",
                b"set k 0 0 5\r\nhello\r\nset j 0 0 50\r\n" + b"x" * 50 + b"\r\n",
                b"stats sizes\r\n",
                b"delete j\r\n",
                b"stats sizes\r\n",
            )
        ],
        switches="-o track_sizes",
        fresh=True,
    ),
    *table(
        "switches",
        [
            (
                "-X",
                b"set k 0 0 1\r\na\r\nstats cachedump 1 0\r\n",
                b"lru_crawler metadump all\r\n",
                b"stats cachedump\r\n",
            ),
            ("-X and stats items", b"stats bogus\r\n"),
            ("-X and stats detail", b"stats detail\r\nstats detail on\r\nstats detail dump\r\n"),
        ],
        switches="-X",
    ),
    *table(
        "switches", [("-W", b"watch\r\n", b"watch fetchers\r\n", b"watch bogus\r\n")], switches="-W"
    ),
    *table(
        "switches",
        [
            ("-A: words", b"shutdown x\r\nshutdown graceful x\r\nshutdown noreply\r\n"),
            ("-A: shutdown", Closes(b"version\r\nshutdown\r\n")),
        ],
        switches="-A",
        fresh=True,
    ),
    *table(
        "switches", [("-A: graceful", Closes(b"shutdown graceful\r\n"))], switches="-A", fresh=True
    ),
    *table(
        "switches",
        [
            (
                "no_lru_crawler",
                b"lru_crawler crawl 1\r\n",
                b"lru_crawler metadump all\r\n",
                b"lru_crawler sleep 5\r\n",
            ),
            (
                "no_lru_maintainer",
                b"lru mode flat\r\nlru mode segmented\r\nlru temp_ttl 5\r\nlru tune 10 20 1 1\r\n",
            ),
            ("no slab_reassign", b"slabs reassign 1 2\r\nslabs automove 1\r\n"),
        ],
        switches="-o no_modern",
        fresh=True,
    ),
    *table(
        "switches",
        [("-B ascii", b"set k 0 0 1\r\na\r\nget k\r\n", b"\x80\x00\r\nversion\r\n")],
        switches="-B ascii",
    ),
    *table(
        "switches",
        [("-D", b"set a/b 0 0 1\r\na\r\nget a/b a:b\r\ndelete a/c\r\n", b"stats detail dump\r\n")],
        switches="-D /",
        fresh=True,
    ),
    # One command to a connection: before it knows its client, memcached forgets earlier answers.
    *table(
        "auth",
        [
            ("other commands", b"get a\r\n", b"version\r\n", b"stats\r\n", b"foo\r\n", b"quit\r\n"),
            ("wrong words", b"set x 0 0 7\r\nfoo bad\r\n", b"set x 0 0 7\r\nnot bar\r\n"),
            ("one word", b"set x 0 0 3\r\nfoo\r\n", b"set x 0 0 0\r\n\r\n"),
            ("a bad block", b"set x 0 0 7\r\nfoo barx\r\n"),
            ("bad headers", b"set x 0 0 abc\r\n", b"add x 0 0 7\r\n", b"set x 0 0\r\n"),
            ("the right words", b"set x 0 0 7\r\nfoo bar\r\n", b"set y 9 9 12\r\nother secret\r\n"),
            (
                "commands after the right words",
                Pieces((b"set x 0 0 7\r\nfoo bar\r\n", b"set k 0 0 1\r\na\r\n", b"get k\r\n")),
            ),
            ("an endless line", Closes(b"z" * 2049)),
            ("lines too short", *(Closes(each) for each in (b"quit\r\n", b"set\r\n", b"abcde\n"))),
            ("lines not looked at", b"\r\n", b"\n", b"f\n", b"ab"),
            (
                "blanks in the line",
                b"      \n",
                b"set  k 0 0  7 \r\nfoo bar\r\n",
                b" set k 0 0 7\r\n",
            ),
            (
                "other words and ends",
                b"setx k 0 0 7\r\nfoo bar\r\n",
                b"set k a b 7 c\r\nfoo bar\r\n",
                b"set k 0 0 7x\nfoo bar\r\n",
                b"set k 0 0 7\r\r\nfoo bar\r\n",
                b"SET k 0 0 7\r\n",
                b"set\0k 0 0 7\r\n",
                b"set k 0 0 7\nfoo bar\r\n"[:12],
            ),
            (
                "lengths",
                *(
                    b"set k 0 0 %b\r\n" % each
                    for each in (
                        b"+7",
                        b"-7",
                        b"\t7",
                        b"7\t",
                        b"7\0",
                        b"7.0",
                        b"000000000007",
                        b"4294967296",
                        b"4294967295",
                        b"16385",
                    )
                ),
                b"set k 0 0 00000000007\r\nfoo bar\r\n",
                b"set k 0 0 16382\r\nfoo " + b"x" * 16378 + b"\r\n",
            ),
            (
                "blanks in the words",
                *(
                    b"set k 0 0 %d\r\n%b\r\n" % (len(each), each)
                    for each in (b"foo  bar", b" foo bar", b"foo bar ", b"foo bar x", b" ", b"foo ")
                ),
            ),
        ],
        switches="-Y {auth_file}",
        fresh=True,
    ),
]
