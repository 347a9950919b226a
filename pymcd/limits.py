"""The constants of the protocols and the bounds of the server, each with its unit."""

from __future__ import annotations

from typing import Final

KIBIBYTE: Final = 1 << 10
MEBIBYTE: Final = 1 << 20

#: What the `version` command and `stats` report. Clients parse it to choose features (meta
#: commands from 1.6.0 on), so it names the memcached whose behaviour is reproduced.
MEMCACHED_VERSION: Final = "1.6.45"

KEY_MAX_BYTES: Final = 250
#: Above this an exptime is absolute Unix time. # protocol.txt, "Expiration times"
EXPTIME_RELATIVE_MAX_S: Final = 60 * 60 * 24 * 30
UINT32_MAX: Final = 0xFFFFFFFF
UINT64_MAX: Final = 0xFFFFFFFFFFFFFFFF
INT32_MAX: Final = 0x7FFFFFFF

#: A command line without a newline that is longer than this closes the connection ...
LINE_MAX_BYTES: Final = 2048
#: ... unless it is a get, whose list of keys may be long, up to this bound of ours.
GET_LINE_MAX_BYTES: Final = 8 << 20
#: memcached sees at most this many words of a command line (the list of a get goes on).
TOKENS_MAX: Final = 23

#: Replies are joined and handed to the socket in chunks of this size at most.
REPLY_CHUNK_BYTES: Final = 64 << 10
#: What one client's commands may bring about before others have their turn, whatever `-R` says:
#: commands, keys of one command, and bytes of answers. A report is as much as all of that.
RUN_COMMANDS_MAX: Final = 20
RUN_KEYS_MAX: Final = 64
RUN_REPLY_BYTES: Final = 64 << 10
#: A value up to this size is not counted, nor the line before it: a run has not many commands.
LIGHT_VALUE_BYTES: Final = 1 << 10
REPLY_LINE_MAX_BYTES: Final = 512
#: Of a value beyond this it is noted that an item lent it; less may be joined, and so copied.
LENT_VALUE_BYTES: Final = 40 << 10
#: What one `recv` may bring. The buffer is allocated at this size and then cut, which costs
#: nothing up to the 128 KB from which on the C library maps memory anew for each request: 256 KB
#: made a set of 1 KB three times as dear.
RECEIVE_BYTES: Final = 64 << 10

#: One `stats cachedump` answers at most this much. # memcached: item_cachedump
CACHEDUMP_MAX_BYTES: Final = 2 << 20

#: The `verbosity` command goes no higher, though `-vvv` does. # memcached: MAX_VERBOSITY_LEVEL
VERBOSITY_MAX: Final = 2

SLAB_PAGE_BYTES: Final = 1 << 20
SLAB_CLASSES_MAX: Final = 63
SLAB_CHUNK_ALIGN_BYTES: Final = 8

#: Header of an item as memcached counts it, in bytes: the struct, the NUL that ends the key,
#: the CRLF that ends the value.
ITEM_HEADER_BYTES: Final = 48
ITEM_KEY_END_BYTES: Final = 1
ITEM_VALUE_END_BYTES: Final = 2
ITEM_CAS_BYTES: Final = 8
ITEM_CLIENT_FLAGS_BYTES: Final = 4
#: Header of each further chunk of a large item.
ITEM_CHUNK_HEADER_BYTES: Final = 48

#: No login, and no head of a binary request, is longer. # memcached: READ_BUFFER_SIZE
READ_BUFFER_BYTES: Final = 16 << 10

#: What a client may say to log in by SASL, and how long a login may take, if nothing else is set.
LOGIN_MAX_BYTES: Final = 4096
LOGIN_TIMEOUT_S: Final = 60

#: How long a TLS handshake may take.
TLS_HANDSHAKE_TIMEOUT_S: Final = 10

#: A UDP datagram begins with this many bytes of frame header. # protocol.txt, "UDP protocol"
UDP_HEADER_BYTES: Final = 8
#: Payload of one UDP datagram that we send, header included. # memcached: UDP_MAX_PAYLOAD_SIZE
UDP_MAX_PAYLOAD_BYTES: Final = 1400
