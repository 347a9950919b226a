"""Votes on views: who of those that made up the last one may make the next. Never on writes.

Two nodes cannot tell a partition from a death. Where there is a third who votes, a witness or
another node, none goes on without the consent of more than half of those who made up the view
before; so of two that do not see each other one goes on at most, and if any single one is gone,
the others do. A coordinator answers a write when all of its view have it: whoever goes on has every
write that was answered, and nothing is added to what a write costs.

What is voted on is a *roll*: the epoch of a view, who is in it, each in which life, and who
decides. Each voter remembers the one roll that it *backs*: the latest that it has consented to. A
witness has no other state. Data nodes weigh 2, a witness 1.

R1. A roll follows another, its base, when members of the base that weigh more than half of it back
    it. Each counts in the life that it is in the base with. The base is what the asker backs, and
    it must have come about: what somebody once asked for, perhaps in vain, has no members.
R2. A voter consents if it backs nothing later than the base, and the epoch of the roll is later
    than what it backs; or if it is asked once more. So it backs one successor of a view. Who asked
    before and could not go on with that may ask for something else: that it did not go on it knows
    best. To everybody else the answer is what is backed.
R3. Whoever asks consents to its own roll last, when all others that are needed have, so until then
    it may give way. Of two who ask each other the one that follows the later base goes on asking,
    as he could not consent; or, if both follow the same, the one with the smaller name. Of two who
    have nothing it is that base which counts in which its asker is, in this life (R8). Nobody who
    is in touch with his coordinator consents to another's wish: it answers clients as long as
    we let it. Nor does a coordinator who would go on with one of his followers, which answers by
    his word, nor one who leaves, or waits, while one may who perhaps has not heard of that. Whoever
    asks says no more that it hears those whom it would go on without; nor does who leaves or waits.
R4. Nothing is given to who cannot hear: the first answer is to ask again, with a token, and only
    with that it is answered. Else one who can speak but not hear would take the vote of the
    witness with it. Who decides for a register that he reads (`etcd`) has heard what he read.
R5. Members learn of each new view from who decides in it, the witness, too: it asks for a roll with
    itself as the base.
R6. Who starts anew has another life, and its consent to what follows a view in which it was before
    does not count: it may have promised something else. It counts again when the members of a view
    have taken it into the next one, in its new life, and that is all that it has to learn: what it
    may have promised before were successors of views which it is in with its former life, and of
    these nobody asks it any more. So it is with a witness that lost its memory, and with a data
    node, which has none that outlives it. Only if *all* data nodes that there are consent, whatever
    their lives, may they follow any view: nobody is left who could serve elsewhere, as each of them
    serves nobody, or would not consent. So begins the first view of all, too.
R7. Where members of the base that weigh just half of it back a roll, that is enough if all others
    of the base are known to live no more as they were in it: they have been met in another life
    since. So one of two goes on when the other one comes back with nothing. Without these no
    majority was to be had, so whatever else may have followed has a member among them, and R2
    holds; and of two halves each cannot have outlived the other.
R8. Who has nothing, and backs what for all it knows did not come about, may consent to something
    else instead where all must, as it is in no such base. Else beginners who ask each other one
    after the other could stand in each other's way for ever. Who asked for the first must consent
    as well, and does not if that has come about. The second one does not win more by that: to ask
    for something else that follows another base is not left to him (R2).
R9. Who asks may stop. It goes on in the base, which is its view still, if one that it would have
    gone on without answers that it backs nothing else either: that one was only silent. Whose vote
    was given to what came to nothing is told of a later view by who decides (R5).
R10. Three data nodes of which one knows no votes go on without, as two do: whoever loses the others
    decides by himself, and what was changed apart is merged. So does who meets that one, and who is
    in the view of one that does; what they back counts no more as a view that came about, but what
    they promised is not forgotten. When all vote and are in sync with one of them, he asks for that
    view as a roll that follows anything: all must consent (R6), and do if what they back has not
    come about for all that they know (R8). Who consents to that knows that he is in such a view,
    and goes by votes from then on: more than half of it may follow it, whether its asker heard them
    all or not. So the rules hold from the first such roll that came about to the next meeting with
    one that knows no votes.
R11. A person may say of a member of the base that nothing of it will come back: no process, and
    nobody whom it took in since. Its life is over then (R7), and it need not consent where all must
    (R6), as it cannot serve anywhere. That is as sound as his word. It is forgotten when another
    roll is backed, or that node is met, in whatever life: it is one as any other then.
R12. Who asks may stop, and then be given a consent that was under way: who gave it would wait for
    one that asks no more, and perhaps leaves, or has himself consented to what the other wanted. So
    to a consent to what he asks no more, and never went on with, he answers that this is over; and
    who leaves says so unasked. Who hears it is as he was before he consented.
R13. Who is taken into a view, and is told so (R5), takes back what it has consented to before, if
    that would follow an earlier view, or none: it comes about no more. Nor does it consent to that
    once more. Who decides in that view tells it so as well by asking what may follow it.

Why it is sound. The epoch of what a voter backs only grows. Two different rolls on one base would
need one voter that backs both, in one life, since two sets that weigh more than half have a member
in common: R2 has it back one. (All data nodes together are such a set as well.) So the views that
came about are a chain. Who serves in one that is not the last does not know so yet; but it waits
for all of its view before it answers, its lease among them, and R3 has one of these consent only
when that has ended. Who stops (R9) is as if it had not asked: nobody else counts the answers to
its question, which can come about no more, and late ones find no question. It lets others answer
again and is let by them, each for itself: if one of these has gone on, or asks itself, it does not
let us, and we answer nobody; if one of them consented to our question, it has let us all the time.

Who is as he was before he consented (R12), and backs an earlier epoch, has promised nothing: that
wish comes about no more. Its asker would consent to it last, and has no question any more whose
answers count; nor does it ask anything once more by the same epoch. Who takes back (R13) what would
follow a base: the view that it is in comes after that base, and follows it by others that came
about. What follows a base is one; so the other could come about by the consent of all only, at one
time (R6). That time is not past, as who decides in this view would have consented; and it does not
come, as who is in it does not. Who decides may have died, and consent in another life: then what he
asked comes about no more, and nothing is lost by consenting to it.

Where the sketch of these rules was different: it let what was only asked for be a base (R1: two
could then go on, each from what the other gave way with), let the witness consent at the first
question (R4), let a question that came to nothing bind for ever (R2: who asks may ask anew), and
had two who ask each other stand in each other's way (R3). It let a view be replaced when all its
data nodes are *known* to have started anew (R6): who tells of that may not know of a later view
without the witness, which their consent does.

No I/O, no clock: whoever owns this decides when to ask and how long to wait.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from .messages import Grant, Vote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .messages import Roll

DATA_WEIGHT: Final = 2
WITNESS_WEIGHT: Final = 1
#: Of so many the last questions are remembered.
ASKERS_MAX: Final = 64
#: Of what a node itself asked for so much is remembered.
WISHES_MAX: Final = 64

YES: Final = "yes"
NO: Final = "no"
AGAIN: Final = "again"
#: Of a wish of one's own, to who consents to it.
OVER: Final = "over"
#: Of a register that could not keep a promise, and nobody asked it.
DISK: Final = "disk"


def weight_of(roll: Roll, lives: Iterable[tuple[str, str]]) -> int:
    """Return what these weigh in a view; who is not in it in that life weighs nothing."""
    total = 0
    for node_id, life in lives:
        if roll.data.get(node_id) == life:
            total += DATA_WEIGHT
        elif roll.witness.get(node_id) == life:
            total += WITNESS_WEIGHT
    return total


def total_weight(roll: Roll) -> int:
    """Return what all of a view weigh."""
    return DATA_WEIGHT * len(roll.data) + WITNESS_WEIGHT * len(roll.witness)


def is_majority(roll: Roll, lives: Iterable[tuple[str, str]]) -> bool:
    """Return whether these weigh more than half of a view."""
    return 2 * weight_of(roll, lives) > total_weight(roll)


def is_what_is_left(roll: Roll, lives: Iterable[tuple[str, str]], over: dict[str, str]) -> bool:
    """Return whether these weigh half of a view, and the lives of all others in it are over."""
    known = set(lives)
    rest = {**roll.data, **roll.witness}.items() - known
    return 2 * weight_of(roll, known) >= total_weight(roll) and rest <= over.items()


def life_of_coordinator(roll: Roll) -> tuple[str, str | None]:
    """Return who decides in a view, in which life."""
    return roll.coordinator, roll.data.get(roll.coordinator)


def epoch_of_own_base(vote: Vote) -> int:
    """Return which view is to be followed, if who asks is in it, in this life; 0: he is in none."""
    base = vote.base
    return base.epoch if base and life_of_coordinator(vote.roll) in base.data.items() else 0


def is_sound(vote: Vote) -> bool:
    """Return whether a question could be one at all: what comes from outside need not."""
    base, roll = vote.base, vote.roll
    for each in (roll,) if base is None else (base, roll):
        if (
            not each.epoch
            or each.coordinator not in each.data
            or len(each.witness) > 1
            or each.data.keys() & each.witness.keys()
        ):
            return False
    return base is None or roll == base or roll.epoch > base.epoch


class Poll:
    """One question, put to all: may this be the next view?"""

    def __init__(
        self,
        asker: tuple[str, str],
        base: Roll | None,
        roll: Roll,
        everybody: frozenset[str],
        over: dict[str, str],
        gone: set[str],
        *,
        came_about: bool,
    ) -> None:
        """`everybody`: all data nodes that there are; empty: not all of them are known.

        `over`: by node, the life that it is known to live no more. `gone`: of whom nothing will
        come back. `came_about`: the base did.
        """
        self.vote = Vote(base, roll)
        self._asker = asker
        self._over = over
        self._gone = gone
        self._voters = base if came_about else None
        self.need(everybody)
        self.tokens: dict[str, int] = {}  #: to ask a voter again with
        self.yes: dict[str, str] = {}  #: who consents, in which life; not we, which do so last
        self.no: dict[str, Roll | None] = {}  #: who does not, and what it backs instead
        #: Of who consents: since when, and until when at least.
        self.agreed: dict[str, tuple[float, float]] = {}

    def need(self, everybody: frozenset[str]) -> None:
        """Learn which data nodes there are; none: not all of them are known."""
        base = self.vote.base
        others = base.data.keys() - self._gone if base else ()
        self._everybody = everybody.union(others) if everybody else None

    def answered(
        self, node_id: str, life: str, grant: Grant, *, now: float = 0.0, heard: float = 0.0
    ) -> None:
        """Take note of a voter's answer to this question.

        `heard`: by then we had said what it had heard, by the clock of `now`.
        """
        same = self.yes.pop(node_id, None) == life
        since, until = self.agreed.pop(node_id, (now, heard))
        self.no.pop(node_id, None)
        if grant.word == YES:
            self.yes[node_id] = life
            self.agreed[node_id] = (since, max(until, heard)) if same else (now, heard)
        elif grant.word == NO:
            self.no[node_id] = grant.backs
        elif grant.word == AGAIN:
            self.tokens[node_id] = grant.token

    def vote_for(self, node_id: str) -> Vote:
        """Return what to ask a voter."""
        return replace(self.vote, token=self.tokens.get(node_id, 0))

    @property
    def carried(self) -> bool:
        """Whether nothing is missing but our own consent (R1, R6, R7)."""
        lives = [self._asker, *self.yes.items()]
        if self._voters is not None and (
            is_majority(self._voters, lives) or is_what_is_left(self._voters, lives, self._over)
        ):
            return True
        everybody = self._everybody
        return (
            everybody is not None
            and everybody <= dict(lives).keys()
            and not any(self.is_to_say_so_again(each) for each in everybody & self.yes.keys())
        )

    def is_to_say_so_again(self, node_id: str) -> bool:
        """Return whether one that consents may have ceased to, before another one began (R6)."""
        _, until = self.agreed[node_id]
        return any(
            until < since
            for other, (since, _) in self.agreed.items()
            if other != node_id and other in (self._everybody or ())
        )

    def lacks(self, node_id: str) -> bool:
        """Return whether a voter is to be asked."""
        return node_id not in self.yes or (
            node_id in (self._everybody or ()) and self.is_to_say_so_again(node_id)
        )


class _Standing(NamedTuple):
    """What a voter backs, and what it knows of that."""

    backs: Roll | None
    came_about: bool
    wish: Vote | None
    instead: Vote | None
    before: _Standing | None


class Ballot:
    """What one voter has consented to, and asks for: the same for a data node and for a witness."""

    def __init__(
        self,
        node_id: str,
        life: str,
        backs: Roll | None = None,
        keep: Callable[[Roll], None] = lambda roll: None,
    ) -> None:
        """`keep` makes a roll outlive this process, or raises OSError: then nothing is promised."""
        self.node_id = node_id
        self.life = life
        self.backs = backs
        self.came_about = False  #: what we back is known to be a view, not only a wish
        self.poll: Poll | None = None  #: what we ask for; a witness never does
        #: By node, the last life of which we know that it is over: another one came after it.
        self.over: dict[str, str] = {}
        #: Of those in what we back: of whom a person says that nothing will come back.
        self.gone: set[str] = set()
        self._keep = keep
        #: What another one wants, and we back; None: it came about, or nothing more is known.
        self._wish: Vote | None = None
        #: What was consented to by R8.
        self._instead: Vote | None = None
        #: As we were before we consented to what another one wants.
        self._before: _Standing | None = None
        #: The epochs of what we asked for ourselves, and did not go on with.
        self._wishes: deque[int] = deque(maxlen=WISHES_MAX)
        #: Who asked for what, and the token that was given for it.
        self._asked: dict[str, tuple[Roll, int]] = {}
        self._last_token = 0

    @property
    def epoch(self) -> int:
        """Of what is backed; 0: nothing is."""
        return 0 if self.backs is None else self.backs.epoch

    # -- asked by others -----------------------------------------------------------------------

    def answer(
        self, vote: Vote, *, bound: str = "", empty: bool = False, heard: bool = False
    ) -> Grant:
        """Answer a question of the one who would decide: back its roll, or not.

        `bound`: who decides now, and is let answer clients by us; perhaps we ourselves. `empty`: we
        have nothing. `heard`: since it has been asking this, the asker has heard of us (R4).
        """
        word = self._decide(vote, bound, empty=empty, heard=heard)
        token = self._asked[vote.roll.coordinator][1] if word == AGAIN else 0
        return Grant(vote.roll.epoch, word, self.backs, token)

    def register(self, vote: Vote, *, heard: bool = False) -> Grant:
        """Answer as who has no data, and is told of views by the same question (R5)."""
        if vote.base == vote.roll:
            return Grant(vote.roll.epoch, YES if self.learn(vote.roll) else NO, self.backs)
        return self.answer(vote, heard=heard)

    def _decide(self, vote: Vote, bound: str, *, empty: bool, heard: bool) -> str:
        roll = vote.roll
        asker = roll.coordinator
        if roll == self.backs:
            return YES
        if not is_sound(vote):
            return NO
        instead = empty and self._may_back_instead(vote)
        if not instead and not self._may_back(vote):
            return NO
        if heard:
            return YES if self._back(roll) else NO
        asked = self._asked.get(asker)
        if asked is None or asked[0] != roll:
            if len(self._asked) >= ASKERS_MAX:
                self._asked.clear()
            self._last_token += 1
            self._asked[asker] = (roll, self._last_token)
            return AGAIN
        if vote.token != asked[1]:
            return AGAIN
        if bound and asker != bound:
            return NO
        if not bound and self._goes_on_asking(vote, empty=empty):
            return NO
        before = self._standing_without(roll)
        if not self._back(roll):
            return NO
        self._wish = vote
        self._instead = vote if instead else None
        self._before = before
        return YES

    def _standing_without(self, roll: Roll) -> _Standing | None:
        """Return how we stand without the consent to that, or to what its asker wanted before."""
        wish, before = self._wish, self._before
        if wish is not None and life_of_coordinator(wish.roll) == life_of_coordinator(roll):
            return before
        if before is not None:
            before = before._replace(before=None)  # these are not to be more and more
        return _Standing(self.backs, self.came_about, wish, self._instead, before)

    def _goes_on_asking(self, vote: Vote, *, empty: bool) -> bool:
        """Return whether we do not give way to who asks us, as we ask ourselves (R3).

        Who has nothing may consent to anybody (R8), so of two of these it is one and the same that
        gives way: the one that was in no view, as it is, if the other was, as it may not consent.
        """
        poll = self.poll
        if poll is None:
            return False
        if empty:
            mine, theirs = epoch_of_own_base(poll.vote), epoch_of_own_base(vote)
            if mine != theirs:
                return mine > theirs
        elif vote.base is not None and vote.base.epoch > self.epoch:
            return False
        return vote.roll.coordinator > self.node_id

    def learn(self, roll: Roll) -> bool:
        """Take note of a view that came about, told by who decides in it (R5); False: too late."""
        vote = Vote(roll, roll)
        if roll != self.backs and not (
            is_sound(vote)
            and (self._may_back(vote) or self._may_take_back_for(roll))
            and self._back(roll)
        ):
            return False
        self.came_about = True
        self._wish = self._before = None
        return True

    def _may_take_back_for(self, roll: Roll) -> bool:
        """Return whether what we back comes about no more, as we are in this view (R13)."""
        wish = self._wish
        return (
            wish is not None
            and not self.came_about
            and roll.data.get(self.node_id) == self.life
            and (wish.base is None or wish.base.epoch < roll.epoch)
        )

    def is_over(self, node_id: str, life: str, epoch: int) -> bool:
        """Learn that what another one wanted is over; return whether we backed that (R12)."""
        wish, before = self._wish, self._before
        if (
            self.poll is not None
            or wish is None
            or before is None
            or life_of_coordinator(wish.roll) != (node_id, life)
            or wish.roll.epoch != epoch
        ):
            return False
        self.backs, self.came_about, self._wish, self._instead, self._before = before
        return True

    def _may_back(self, vote: Vote) -> bool:
        backs, base, roll = self.backs, vote.base, vote.roll
        if backs is None:
            return True
        if roll.epoch <= backs.epoch:
            return False
        if base is not None and (base.epoch > backs.epoch or base == backs):
            return True
        if (
            base is not None
            and life_of_coordinator(base) == life_of_coordinator(roll)
            and self._may_take_back_for(base)
        ):
            return True
        if self._instead is not None and self._instead.base != base:
            return False
        return life_of_coordinator(roll) == life_of_coordinator(backs)

    def _may_back_instead(self, vote: Vote) -> bool:
        backs, base = self.backs, vote.base
        return (
            backs is not None
            and not self.came_about
            and vote.roll.epoch > backs.epoch
            and (base is None or base.data.get(self.node_id) != self.life)
        )

    def _back(self, roll: Roll) -> bool:
        try:
            self._keep(roll)
        except OSError:
            return False
        self.backs = roll
        self.came_about = False
        self.poll = self._wish = self._instead = self._before = None
        self.gone.clear()
        return True

    def give_up(self, node_id: str) -> None:
        """Take note that nothing will come back of one that is in what we back (R11)."""
        assert self.backs is not None
        self.gone.add(node_id)
        self.over[node_id] = self.backs.data[node_id]

    def met(self, node_id: str, life: str) -> None:
        """Take note that a node is there, whatever was said of it."""
        self.gone.discard(node_id)
        if self.over.get(node_id) == life:
            del self.over[node_id]

    # -- asking --------------------------------------------------------------------------------

    def ask(self, roll: Roll, everybody: frozenset[str], *, anew: bool = False) -> Poll:
        """Begin to ask whether this may follow what we back; `anew`: or anything (R10)."""
        assert not (anew and self.came_about), "to follow anything, though there is a view"
        self.poll = Poll(
            (self.node_id, self.life),
            None if anew else self.backs,
            roll,
            everybody,
            self.over,
            self.gone,
            came_about=self.came_about,
        )
        self._wishes.append(roll.epoch)
        return self.poll

    def asks_no_more(self, epoch: int) -> bool:
        """Return whether that is what we asked for, and never went on with (R12)."""
        poll = self.poll
        return epoch in self._wishes and (poll is None or poll.vote.roll.epoch != epoch)

    def is_as_before(self, grant: Grant) -> bool:
        """Return whether that answer says that the view we ask to follow is its view, too (R9)."""
        poll = self.poll
        return (
            poll is not None
            and grant.epoch == poll.vote.roll.epoch
            and grant.word != YES
            and self.came_about
            and grant.backs == self.backs
        )

    def stop(self) -> None:
        """Ask for nothing any more."""
        self.poll = None

    def conclude(self, *, forced: bool = False) -> Roll | None:
        """Consent ourselves, if nothing else is missing; return the view that came about.

        `forced`: a person says that nobody else is there.
        """
        poll = self.poll
        if poll is None or not (poll.carried or forced):
            return None
        roll = poll.vote.roll
        if not self._back(roll):
            return None
        self._wishes.remove(roll.epoch)
        self.came_about = True
        return roll

    def check(self) -> None:
        """Raise AssertionError unless what is backed could be a view. For tests."""
        backs, poll = self.backs, self.poll
        if backs is not None:
            assert is_sound(Vote(None, backs)), "backs what is no view"
        else:
            assert not self.came_about, "nothing came about"
        wish = self._wish
        assert wish is None or wish.roll == backs, "backs another one's wish, and something else"
        assert self._before is None or wish is not None, "was something else before, and why?"
        if poll is not None:
            assert poll.vote.base in (backs, *([] if self.came_about else [None])), (
                "asks to follow another view than it backs"
            )
            assert poll.vote.roll.epoch > self.epoch, "asks for what is past"
            assert poll.vote.roll.coordinator == self.node_id, "asks for another to decide"
            assert self.node_id not in poll.yes, "asks itself"
            assert poll.agreed.keys() == poll.yes.keys(), "who consents does so since no time"
