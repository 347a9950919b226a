"""An etcd as the register of a group: one key, compared and set by its JSON gateway.

The value of the key is what a `pymcd witness` has on its disk: a life, and the roll that it backs.
Whoever asks reads it, decides by the rules of `ballot` what a voter of that memory would answer,
and to consent sets the key, if its revision is still the one that was read. So of two who ask at
once one sets it, and the other reads what that was.

* What is read must have been asked for after the question came up: so the asker hears (R4), and
  reads only where most of the etcd's members agree on it, never what one of them remembers.
* A question whose answer is lost may have set the key, and may do so later, however late: it names
  the revision, so it does that at most once, and not over anything newer. Who asks again reads it.
* Who lost the key lost its memory: whoever misses it makes another one, with a life of its own,
  which has no vote until the nodes have taken it into their view. It is the same when the etcd is
  another one than the value names, or has less behind it than it had: somebody restored it from a
  copy. A value that is not ours is let alone.

All members of the etcd are asked at the same time, and each goes its own way from reading to
setting: no time-out has to tell that one of them is dead, and the fastest answers. What comes late
is known by its revision. Every second each is asked for the key, so that its connection and its
login are there when they are needed; once a minute, and after a failure, as if to set it, which
shows that this could be done.

No I/O: a `Courier` carries requests, and says what came of each.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from .ballot import YES, Ballot
from .frames import FrameError, decode_json, encode_json
from .lease import HEARTBEAT_S
from .messages import Grant, Roll, Vote
from .witness import Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock

#: By which it stands in views.
NAME: Final = "etcd"
#: How often each member is asked for the key: a little sooner than a node that idles steps.
READ_EVERY_S: Final = 0.9 * HEARTBEAT_S
#: How often it is asked the same while votes are counted, and for the key if none answers.
AGAIN_S: Final = 0.1
#: Each time that nothing is answered it is asked half as often, down to this: who takes long is to
#: have the time, and that it takes long is to be seen.
AGAIN_MAX_S: Final = 0.8
RETRY_S: Final = 0.25
PROBE_EVERY_S: Final = 60.0
#: A login that was refused costs the etcd more than we should ask of it again and again.
LOGIN_EVERY_S: Final = 5.0
#: A request is given up after this, or when so many later ones to the same member are under way.
GIVE_UP_S: Final = 2.0
REQUESTS_MAX: Final = 4
LIFE_BYTES: Final = 16
#: What a member says of its troubles is shown, up to so many characters.
_REASON_MAX: Final = 100

_RANGE: Final = "/v3/kv/range"
_TXN: Final = "/v3/kv/txn"
_LOGIN: Final = "/v3/auth/authenticate"

#: No key has that revision.
_NEVER: Final = -1
_UNAUTHENTICATED: Final = 16  # google.rpc.Code
_NO_LOGINS: Final = "authentication is not enabled"
#: Tokens end, with the process of a member, too; and with each change of users and roles.
_LOG_IN_AGAIN: Final = ("invalid auth token", "revision of auth store is old", "user name is empty")


class EtcdError(Exception):
    """What a member says instead of an answer."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Courier(Protocol):
    """Carries requests to the members of an etcd."""

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password, if there is to be a login."""

    def post(self, request: Request) -> None:
        """Begin; `answered` or `failed` of its owner is called, but never from within this."""

    def give_up(self, request: Request) -> None:
        """Nobody waits for that any more; it may have been done, and may be done yet."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The value of the key."""

    cluster: str  #: the group's
    etcd: str  #: the id of the etcd that it was made for
    memory: Memory

    def encode(self) -> bytes:
        """Return it as bytes."""
        memory = decode_json(self.memory.encode())
        return encode_json({"cluster": self.cluster, "etcd": self.etcd, **memory})

    @classmethod
    def decode(cls, value: bytes) -> Entry:
        """Return what a value says; raise ValueError."""
        memory = Memory.decode(value)
        said = decode_json(value)
        cluster, etcd = said.get("cluster"), said.get("etcd")
        if not isinstance(cluster, str) or not isinstance(etcd, str):
            raise ValueError("no cluster")
        return cls(cluster, etcd, memory)


class State(NamedTuple):
    """What a member says of the key, and as of when."""

    etcd: str
    as_of: int  #: revision of the whole etcd
    value: bytes | None  #: None: there is no such key
    revision: int  #: of the key, by which it is compared; 0: there is none


@dataclass(eq=False)
class Member:
    """One endpoint of the etcd."""

    name: str
    fault: str = "not asked yet"  #: why it is of no use; empty: it answered last
    token: str | None = None  #: None: to log in comes first
    proven: bool = False  #: the token was good once
    login_at: float = -inf  #: not before that
    requests: list[Request] = field(default_factory=list)  #: under way, the oldest first
    asked: Vote | None = None  #: last, on behalf of that question
    asked_at: float = -inf
    again_s: float = AGAIN_S  #: after so long that is asked again
    probe_at: float = -inf  #: when to see whether the key can be set


@dataclass(eq=False)
class Request:
    """What to post to a member."""

    owner: EtcdRegister  #: who is to be told what comes of it
    member: Member
    path: str
    body: bytes
    token: str
    asked_at: float
    etcd: str  #: as far as was known then, and
    as_of: int  #: at which revision it was: it cannot be at an earlier one now
    vote: Vote | None = None  #: on behalf of which question
    sets: Entry | None = None  #: as which value the key is to be


class EtcdRegister:
    """The vote that an etcd keeps, as a node sees it. See the module."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        key: str,
        cluster_id: str,
        *,
        clock: Clock,
        courier: Courier,
        entropy: Callable[[int], bytes],
        node_id: str,
        everybody: Callable[[], frozenset[str]],
        is_wanted: Callable[[Vote], bool],
        answered: Callable[[Grant], None],
        complain: Callable[[str, str], None],
    ) -> None:
        """`node_id`: whose register this is; `everybody`: all data nodes; none: not all are known.

        `is_wanted`: a question is still open; `complain` about something, in a line that is said
        once a minute.
        """
        self.members = [Member(name) for name in endpoints]
        self.node_id = self.life = ""
        self.backs: Roll | None = None
        self._key = key
        self._cluster_id = cluster_id
        self._clock = clock
        self._courier = courier
        self._entropy = entropy
        self._everybody = everybody
        self._is_wanted = is_wanted
        self._answered = answered
        self._complain = complain
        self._wrong = ""  #: with the key
        self._ours = {node_id}  #: who is, or was, in views with us, as far as the key said
        self._was_ours = False  #: it did
        self._etcd = ""  #: the id of the etcd; empty: none is known
        self._as_of = 0  #: what we know of the key was so at that revision of the etcd
        self._read_at = -inf

    @property
    def linked(self) -> bool:
        """Whether it may be asked now."""
        return bool(self.node_id) and not self._wrong and not all(m.fault for m in self.members)

    @property
    def step_every_s(self) -> float:
        """How often `step` is to be called at least."""
        return HEARTBEAT_S if self.linked else RETRY_S

    @property
    def trouble(self) -> str:
        """What is wrong with it, or with one of its members."""
        faults = [f"{member.name}: {member.fault}" for member in self.members if member.fault]
        return "; ".join([self._wrong, *faults] if self._wrong else faults)

    def ask(self, vote: Vote) -> None:
        """Have it answer, by and by."""
        for member in self.members:
            self._read(member, vote)

    def step(self, now: float) -> None:
        """Look after all members, and give up what is not answered."""
        for member in self.members:
            if member.requests and now - member.requests[0].asked_at >= GIVE_UP_S:
                late = member.requests[0]
                self._courier.give_up(late)
                self.failed(late, "does not answer in time")
        if now - self._read_at >= (READ_EVERY_S if self.linked else RETRY_S):
            self._read_at = now
            for member in self.members:
                self._read(member, None)

    # -- requests ------------------------------------------------------------------------------

    def _read(self, member: Member, vote: Vote | None) -> None:
        """Have a member say what the key is now, on behalf of a question, if there is one."""
        now = self._clock.monotonic()
        again = vote is not None and vote == member.asked
        if again and now - member.asked_at < member.again_s:
            return
        if vote is None and member.requests:
            return  # as good as that
        member.again_s = min(2 * member.again_s, AGAIN_MAX_S) if again else AGAIN_S
        member.asked, member.asked_at = vote, now
        if member.token is None:
            self._log_in(member)
        elif vote is None and now >= member.probe_at:
            self._post(member, _TXN, self._transaction(_NEVER, b""))
        else:
            self._post(member, _RANGE, {"key": _text(self._key.encode())}, vote=vote)

    def _log_in(self, member: Member) -> None:
        login = self._courier.login
        if login is None:
            member.token = ""
            self._read_again(member)
        elif self._clock.monotonic() >= member.login_at:
            member.login_at = self._clock.monotonic() + LOGIN_EVERY_S
            user, password = login
            self._post(member, _LOGIN, {"name": user, "password": password})

    def _read_again(self, member: Member) -> None:
        """Ask what could not be asked so far."""
        vote, member.asked = member.asked, None
        self._read(member, vote if vote is not None and self._is_wanted(vote) else None)

    def _set(self, request: Request, revision: int, entry: Entry) -> None:
        """Set the key by the same member, if it is still of that revision."""
        body = self._transaction(revision, entry.encode())
        self._post(request.member, _TXN, body, vote=request.vote, sets=entry)

    def _transaction(self, revision: int, value: bytes) -> dict[str, Any]:
        # etcd: "API", Transaction. A key that is not there has revision 0.
        key = _text(self._key.encode())
        compare = {
            "target": "MOD",
            "result": "EQUAL",
            "key": key,
            "mod_revision": str(revision),
        }
        return {
            "compare": [compare],
            "success": [{"request_put": {"key": key, "value": _text(value)}}],
            "failure": [{"request_range": {"key": key}}],
        }

    def _post(
        self,
        member: Member,
        path: str,
        body: dict[str, Any],
        *,
        vote: Vote | None = None,
        sets: Entry | None = None,
    ) -> None:
        if len(member.requests) >= REQUESTS_MAX:
            late = member.requests[0]
            self._forget(late)
            self._courier.give_up(late)
        now = self._clock.monotonic()
        request = Request(
            self,
            member,
            path,
            encode_json(body),
            member.token or "",
            now,
            self._etcd,
            self._as_of,
            vote,
            sets,
        )
        member.requests.append(request)
        self._courier.post(request)

    def _forget(self, request: Request) -> bool:
        """Be done with a request; False: that was so before."""
        if request not in request.member.requests:
            return False
        request.member.requests.remove(request)
        return True

    # -- what came of them ---------------------------------------------------------------------

    def failed(self, request: Request, reason: str) -> None:
        """Take note that a request could not be carried there, or its answer back."""
        if self._forget(request):
            request.member.login_at = -inf  # it was not refused
            self._has_failed(request, reason)

    def answered(self, request: Request, status: int, body: bytes) -> None:
        """Take note of what a member answers."""
        if not self._forget(request):
            return
        try:
            if request.path == _LOGIN:
                self._logged_in(request.member, status, body)
            else:
                self._learn(request, _state_of(request, _decode(status, body)))
        except EtcdError as error:
            self._was_refused(request, error)

    def _logged_in(self, member: Member, status: int, body: bytes) -> None:
        try:
            token = _decode(status, body).get("token")
        except EtcdError as error:
            if _NO_LOGINS not in error.reason:
                raise
            token = ""  # as etcdctl does
        if not isinstance(token, str) or not all("!" <= each <= "~" for each in token):
            raise EtcdError("answers a login without a token")
        member.token = token
        member.proven = False
        self._read_again(member)

    def _was_refused(self, request: Request, error: EtcdError) -> None:
        member = request.member
        again = error.code == _UNAUTHENTICATED or any(
            each in error.reason for each in _LOG_IN_AGAIN
        )
        if again and request.path != _LOGIN and self._courier.login is not None:
            if request.token == member.token:
                member.token = None
            if member.proven:
                member.proven = False
                member.asked = request.vote
                self._read_again(member)
                return
        self._has_failed(request, error.reason)

    def _has_failed(self, request: Request, reason: str) -> None:
        member = request.member
        if request.path == _TXN:
            member.probe_at = -inf
        member.fault = reason
        line = f"replication: etcd at {member.name}: {reason}"
        self._complain(line, line)

    def _learn(self, request: Request, state: State) -> None:
        """Take note of what the key is, and go on from there."""
        member = request.member
        now = self._clock.monotonic()
        if not self._is_same_etcd(member, state):
            self._has_failed(request, "belongs to another etcd than the others")
            return
        was_linked = self.linked
        member.fault = ""
        member.proven = True
        member.login_at = -inf
        if request.path == _TXN:
            member.probe_at = now + PROBE_EVERY_S
        has_less = request.etcd == state.etcd and state.as_of < request.as_of
        if not has_less and state.as_of < self._as_of:
            return  # late: others have told us newer things
        self._as_of = state.as_of
        entry = self._entry_of(request, state, has_less=has_less)
        if entry is None:
            return
        memory = entry.memory
        is_news = not was_linked or self.life != memory.life
        self.node_id, self.life, self.backs = NAME, memory.life, memory.backs
        if memory.backs is not None and memory.backs.data.keys() & self._ours:
            self._was_ours = True
            self._ours.update(memory.backs.data)
        vote = request.vote
        if vote is not None and self._is_wanted(vote):
            self._decide(request, state, entry, vote)
        elif is_news:
            self._answered(Grant(0, "", memory.backs))

    def _is_same_etcd(self, member: Member, state: State) -> bool:
        """Return whether a member belongs to the etcd that the others belong to."""
        if state.etcd != self._etcd:
            if self._etcd and any(not each.fault for each in self.members if each is not member):
                return False
            self._etcd, self._as_of = state.etcd, 0
        return True

    def _entry_of(self, request: Request, state: State, *, has_less: bool) -> Entry | None:
        """Return what the key says, if that is a vote; else have another one there, if we may.

        `has_less`: the etcd has forgotten something.
        """
        self._wrong = ""
        if state.value is None:
            self._wrong = f"key {self._key} is not there"
            if self.life:
                self._tell_loss("has lost its key")
        else:
            try:
                entry = Entry.decode(state.value)
            except ValueError:
                self._refuse(f"key {self._key} holds what is not ours")
                return None
            if entry.cluster != self._cluster_id:
                self._refuse(f"key {self._key} is that of the cluster {_shown(entry.cluster)}")
                return None
            if others := self._others_in(entry.memory.backs):
                self._refuse(
                    f"key {self._key} is used by {others}: give each group a --cluster-id of its"
                    " own; if those are gone, delete the key"
                )
                return None
            if entry.etcd == state.etcd and not has_less:
                return entry
            self._wrong = f"key {self._key} is a copy"
            self._tell_loss("was restored from a copy")
        life = self._entropy(LIFE_BYTES).hex()
        self._set(request, state.revision, Entry(self._cluster_id, state.etcd, Memory(life)))
        return None

    def _others_in(self, backs: Roll | None) -> str:
        """Return who has made the key theirs though it was ours, and we are there."""
        everybody = self._everybody()
        if backs is None or not self._was_ours or not everybody:
            return ""
        return "" if backs.data.keys() & (self._ours | everybody) else " and ".join(backs.data)

    def _refuse(self, wrong: str) -> None:
        self._wrong = wrong
        self._complain("etcd key", f"replication: etcd has no vote: {wrong}")

    def _tell_loss(self, what: str) -> None:
        line = f"replication: etcd {what}: it has a vote again when the nodes have taken it in"
        self._complain("etcd lost", line)

    def _decide(self, request: Request, state: State, entry: Entry, vote: Vote) -> None:
        """Answer a question as a voter of that memory would, and have it remembered first."""
        memory = entry.memory
        ballot = Ballot(NAME, memory.life, memory.backs)
        grant = ballot.register(vote, heard=True)
        if grant.word == YES and ballot.backs != memory.backs:
            memory = Memory(memory.life, ballot.backs)
            self._set(request, state.revision, Entry(entry.cluster, entry.etcd, memory))
        else:
            self._answered(grant)

    def check(self) -> None:
        """Raise AssertionError unless all that is known here fits together. For tests."""
        assert bool(self.node_id) == bool(self.life), "a name without a life"
        assert self.life or self.backs is None, "backs something without a life"
        for member in self.members:
            assert len(member.requests) <= REQUESTS_MAX, "a member is asked too much at once"
            for request in member.requests:
                assert request.member is member, "a request to another member"


def _decode(status: int, body: bytes) -> dict[str, Any]:
    """Return what a member answers; raise `EtcdError`."""
    try:
        said = decode_json(body)
    except FrameError:
        raise EtcdError(f"answers what is not JSON, with status {status}") from None
    # etcd's gateway says `error` and `message`, later ones only the latter.
    reason = said.get("message") or said.get("error")
    if status == 200 and reason is None:
        return said
    code = said.get("code")
    raise EtcdError(
        _shown(reason) if isinstance(reason, str) and reason else f"answers with status {status}",
        code if isinstance(code, int) else 0,
    )


def _state_of(request: Request, said: dict[str, Any]) -> State:
    """Return what an answer says of the key; raise `EtcdError`."""
    try:
        header = said["header"]
        etcd, as_of = str(_number(header["cluster_id"])), _number(header["revision"])
        if said.get("succeeded"):
            assert request.sets is not None
            return State(etcd, as_of, request.sets.encode(), as_of)
        found = said if request.path == _RANGE else said["responses"][0]["response_range"]
        if not found.get("kvs"):
            return State(etcd, as_of, None, 0)
        key = found["kvs"][0]
        value = base64.b64decode(key.get("value", ""), validate=True)
        return State(etcd, as_of, value, _number(key["mod_revision"]))
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError):
        raise EtcdError("answers what no etcd does") from None


def _number(said: Any) -> int:
    """Return a number of 64 bits, which stands in JSON as a text; raise ValueError."""
    if isinstance(said, str) and len(said) <= 20 and said.isascii() and said.isdigit():
        return int(said)
    if type(said) is int and 0 <= said < 1 << 64:
        return said
    raise ValueError


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _shown(text: str) -> str:
    """Return what others say as it may stand in a log."""
    return "".join(each if " " <= each <= "~" else "?" for each in text[:_REASON_MAX])
