"""Votes on views: the rules one by one, then all that messages can do in a small world."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from pymcd.replication import ballot
from pymcd.replication.ballot import (
    AGAIN,
    NO,
    YES,
    Ballot,
    Poll,
    is_majority,
    is_sound,
    life_of_coordinator,
)
from pymcd.replication.messages import Grant, Roll, Vote


def roll(epoch: int, members: str, coordinator: str = "") -> Roll:
    """Return a view of these, in lives of the same name; the witness is `w`, a new life upper."""
    data = {name.lower(): name for name in members}
    witness = {"w": data.pop("w")} if "w" in data else {}
    return Roll(epoch, coordinator or next(iter(data), "-"), data, witness)


def lives(members: str) -> list[tuple[str, str]]:
    return [(name.lower(), name) for name in members]


def ask_twice(voter: Ballot, vote: Vote, bound: str = "") -> Grant:
    """Return the answer to who hears."""
    token = voter.answer(vote, bound=bound).token
    return voter.answer(replace(vote, token=token), bound=bound)


class TestMajority:
    @pytest.mark.parametrize(
        ("members", "these", "enough"),
        [
            ("abw", "aw", True), ("abw", "bw", True), ("abw", "ab", True), ("abw", "abw", True),
            ("abw", "a", False), ("abw", "b", False), ("abw", "w", False), ("abw", "", False),
            ("aw", "a", True), ("aw", "w", False),
            ("ab", "a", False), ("ab", "b", False), ("ab", "ab", True), ("a", "a", True),
            ("abc", "ab", True), ("abc", "ac", True), ("abc", "bc", True), ("abc", "c", False),
            ("abcw", "ab", True), ("abcw", "aw", False), ("abcw", "bcw", True),
        ],
    )  # fmt: skip
    def test_more_than_half_by_weight(self, members, these, enough):
        assert is_majority(roll(1, members), lives(these)) is enough

    @pytest.mark.parametrize("these", ["Aw", "aW", "AW", "cw", "xyz"])
    def test_only_who_is_in_it_in_that_life(self, these):
        assert not is_majority(roll(1, "abw"), lives(these))


class TestConsent:
    @pytest.mark.parametrize(
        ("backs", "base", "asked", "word"),
        [
            # Nothing is backed: anything may be.
            (None, None, roll(1, "a"), YES),
            (None, roll(5, "ab"), roll(6, "a"), YES),
            # The view that is backed, or a later one that we have not heard of, is the base.
            (roll(5, "abw"), roll(5, "abw"), roll(6, "aw"), YES),
            (roll(5, "abw"), roll(7, "abw"), roll(8, "aw"), YES),
            # Once more.
            (roll(6, "aw"), roll(5, "abw"), roll(6, "aw"), YES),
            # A successor of the base is backed already.
            (roll(6, "aw"), roll(5, "abw"), roll(6, "bw", "b"), NO),
            (roll(6, "aw"), roll(5, "abw"), roll(9, "bw", "b"), NO),
            (roll(6, "aw"), None, roll(9, "bw", "b"), NO),
            # Another one of the same epoch: none of these may follow it.
            (roll(6, "aw"), roll(6, "bw", "b"), roll(7, "bw", "b"), NO),
            # Not later than what is backed.
            (roll(6, "abw"), roll(6, "abw"), roll(6, "aw"), NO),
            (roll(6, "abw"), roll(4, "abw"), roll(5, "aw"), NO),
            # Who asked before asks for something else; not in another life.
            (roll(6, "aw"), roll(5, "abw"), roll(7, "a"), YES),
            (roll(6, "aw"), roll(5, "abw"), roll(5, "a"), NO),
            (roll(6, "aw"), roll(5, "abw"), roll(7, "Aw"), NO),
            # What is no view.
            (None, None, roll(0, "a"), NO),
            (None, None, roll(1, "b", "a"), NO),
            (None, None, roll(1, "w", "w"), NO),
            (None, roll(3, "b", "a"), roll(4, "a"), NO),
            (None, roll(4, "ab"), roll(4, "a"), NO),
            (None, roll(5, "ab"), roll(4, "a"), NO),
        ],
    )  # fmt: skip
    def test_what_is_backed(self, backs, base, asked, word):
        voter = Ballot("w", "w", backs)
        answer = ask_twice(voter, Vote(base, asked))
        assert answer == Grant(asked.epoch, word, asked if word == YES else backs)
        assert voter.backs == (asked if word == YES else backs)
        voter.check()

    def test_who_cannot_hear_gets_nothing(self):
        voter, vote = Ballot("w", "w"), Vote(None, roll(1, "a"))
        for _ in range(3):
            again = voter.answer(vote)
            assert again.word == AGAIN
        assert voter.backs is None
        assert voter.answer(replace(vote, token=again.token)).word == YES
        assert voter.answer(vote).word == YES  # it is backed now

    def test_to_have_heard_something_else_is_not_enough(self):
        voter = Ballot("w", "w")
        first = voter.answer(Vote(None, roll(1, "a")))
        assert voter.answer(Vote(None, roll(2, "a"), first.token)).word == AGAIN
        assert voter.answer(Vote(None, roll(2, "a"), first.token)).word == AGAIN
        assert voter.answer(Vote(None, roll(2, "a"), first.token + 1)).word == YES

    def test_that_many_ask_costs_no_memory_without_end(self):
        voter = Ballot("w", "w")
        for number in range(3 * ballot.ASKERS_MAX):
            voter.answer(Vote(None, Roll(1, f"n{number}", {f"n{number}": "x"}, {})))
        assert len(voter._asked) <= ballot.ASKERS_MAX

    @pytest.mark.parametrize(
        ("bound", "asker", "word"),
        [("a", "a", YES), ("a", "b", NO), ("c", "b", NO), ("", "b", YES)],
    )
    def test_who_is_in_touch_with_his_coordinator(self, bound, asker, word):
        voter = Ballot("c", "c", roll(5, "abc"))
        vote = Vote(roll(5, "abc"), roll(6, asker, asker))
        assert ask_twice(voter, vote, bound=bound).word == word

    @pytest.mark.parametrize(("asker", "word"), [("a", YES), ("c", NO)])
    def test_of_two_who_ask_one_gives_way(self, asker, word):
        voter = Ballot("b", "b", roll(5, "abc"))
        voter.ask(roll(6, "b"), frozenset())
        vote = Vote(roll(5, "abc"), roll(7, asker, asker))
        voter.answer(vote)
        assert voter.poll is not None  # it may not hear us
        assert ask_twice(voter, vote).word == word
        assert (voter.poll is None) == (word == YES)

    @pytest.mark.parametrize(
        ("base", "word"),
        [(None, NO), (roll(5, "abc"), NO), (roll(6, "bc", "c"), YES)],
    )
    def test_it_is_the_one_that_knows_of_a_later_view(self, base, word):
        """It could not consent: so nobody would, though both ask for ever."""
        voter = Ballot("b", "b", roll(5, "abc"))
        voter.ask(roll(7, "b"), frozenset())
        assert ask_twice(voter, Vote(base, roll(8, "c", "c"))).word == word

    def test_what_cannot_be_kept_is_not_promised(self):
        def full(roll: Roll) -> None:
            raise OSError

        voter, vote = Ballot("w", "w", roll(5, "abw"), full), Vote(roll(5, "abw"), roll(6, "aw"))
        assert ask_twice(voter, vote) == Grant(6, NO, roll(5, "abw"))
        assert not voter.learn(roll(7, "abw"))
        assert voter.backs == roll(5, "abw")

    def test_it_is_kept_before_it_is_promised(self):
        kept: list[Roll] = []
        voter = Ballot("w", "w", None, kept.append)
        assert voter.learn(roll(7, "abw"))
        assert kept == [roll(7, "abw")]
        assert voter.learn(roll(7, "abw"))
        assert kept == [roll(7, "abw")]

    @pytest.mark.parametrize(
        ("backs", "told", "learnt"),
        [
            (None, roll(3, "abw"), True),
            (roll(3, "abw"), roll(4, "abW"), True),
            (roll(3, "abw"), roll(3, "abw"), True),
            (roll(3, "abw"), roll(3, "aw"), False),
            (roll(4, "bw", "b"), roll(3, "aw"), False),
            (roll(3, "abw"), roll(4, "b", "a"), False),
        ],
    )
    def test_views_that_came_about(self, backs, told, learnt):
        voter = Ballot("w", "w", backs)
        assert voter.learn(told) is learnt
        assert voter.backs == (told if learnt else backs)


class TestAsking:
    def ask(self, me: str, base: Roll | None, wanted: Roll, everybody: str = "") -> Ballot:
        asker = Ballot(me.lower(), me, base)
        asker.came_about = base is not None
        asker.ask(wanted, frozenset(everybody))
        asker.check()
        return asker

    def test_our_own_consent_comes_last(self):
        asker = self.ask("a", roll(5, "abw"), roll(6, "aw"))
        assert asker.conclude() is None
        assert asker.backs == roll(5, "abw")
        assert asker.poll is not None
        asker.poll.answered("w", "w", Grant(6, YES, None))
        assert asker.conclude() == roll(6, "aw") == asker.backs
        assert asker.poll is None
        assert asker.conclude() is None

    @pytest.mark.parametrize("answers", [[("w", "W", YES)], [("w", "w", NO)], [("w", "w", AGAIN)],
                                         [("w", "w", YES), ("w", "w", NO)], [("c", "c", YES)],
                                         [("b", "B", YES)]])  # fmt: skip
    def test_not_enough(self, answers):
        asker = self.ask("a", roll(5, "abw"), roll(6, "aw"))
        assert asker.poll is not None
        for node_id, life, word in answers:
            asker.poll.answered(node_id, life, Grant(6, word, None))
        assert asker.conclude() is None

    def test_who_weighs_more_than_half_asks_nobody(self):
        assert self.ask("a", roll(5, "aw"), roll(6, "abw")).conclude() == roll(6, "abw")

    @pytest.mark.parametrize(
        ("me", "base", "over", "enough"),
        [
            ("a", "ab", "b", True), ("a", "ab", "", False), ("a", "ab", "x", False),
            ("A", "ab", "b", False), ("A", "ab", "a", False), ("A", "ab", "ab", False),
            ("a", "abc", "bc", False), ("a", "abw", "b", False), ("a", "abw", "bw", False),
        ],
    )  # fmt: skip
    def test_half_is_enough_when_the_other_half_is_no_more(self, me, base, over, enough):
        asker = self.ask(me, roll(5, base), roll(6, me))
        assert asker.conclude() is None
        asker.over.update({each: each for each in over})
        assert (asker.conclude() is not None) is enough

    def test_it_is_no_more_what_it_was_in_that_view(self):
        """Not what it was before."""
        asker = self.ask("a", roll(5, "aB"), roll(6, "a"))
        asker.over["b"] = "b"
        assert asker.conclude() is None
        asker.over["b"] = "B"
        assert asker.conclude() == roll(6, "a")

    @pytest.mark.parametrize(
        ("me", "base", "gone", "everybody", "yes", "enough"),
        [
            ("a", "ab", "b", "", "", True), ("a", "abc", "b", "", "", False),
            ("a", "abc", "bc", "", "", False), ("a", "abc", "bc", "a", "", True),
            ("a", "abc", "bc", "ade", "d", False), ("a", "abc", "bc", "ade", "de", True),
            ("a", "abc", "b", "ade", "de", False), ("a", "abw", "b", "a", "", True),
        ],
    )  # fmt: skip
    def test_of_whom_a_person_says_that_nothing_comes_back(
        self, me, base, gone, everybody, yes, enough
    ):
        asker = self.ask(me, roll(5, base), roll(6, me), everybody)
        assert asker.poll is not None
        for each in yes:
            asker.poll.answered(each, each, Grant(6, YES, None))
        assert asker.conclude() is None
        for each in gone:
            asker.give_up(each)
        asker.poll.need(frozenset(everybody))
        assert (asker.conclude() is not None) is enough
        assert not enough or not asker.gone

    @pytest.mark.parametrize("life", ["b", "B"])
    def test_who_is_met_is_not_gone(self, life):
        asker = self.ask("a", roll(5, "ab"), roll(6, "a"))
        asker.give_up("b")
        asker.met("b", life)
        assert not asker.gone
        assert (asker.conclude() is not None) is (life != "b")

    def test_who_has_started_anew_needs_others(self):
        assert self.ask("A", roll(5, "aw"), roll(6, "Aw")).conclude() is None

    @pytest.mark.parametrize("base", [None, roll(5, "bw", "b"), roll(5, "ab"), roll(5, "aw")])
    def test_all_data_nodes_may_do_anything(self, base):
        """Whatever was there before, and whatever lives they are in."""
        asker = self.ask("A", base, roll(6, "A"), "ab")
        assert asker.poll is not None
        asker.poll.answered("w", "w", Grant(6, YES, None))
        assert asker.conclude() is None
        asker.poll.answered("b", "B", Grant(6, YES, None))
        assert asker.conclude() == roll(6, "A")

    def test_all_are_those_of_the_view_too(self):
        asker = self.ask("A", roll(5, "abc"), roll(6, "A"), "ab")
        assert asker.poll is not None
        asker.poll.answered("b", "B", Grant(6, YES, None))
        assert asker.conclude() is None

    def test_a_lonely_one_begins(self):
        assert self.ask("a", None, roll(1, "a"), "a").conclude() == roll(1, "a")
        assert self.ask("a", None, roll(1, "a")).conclude() is None


class TestAllAtOnce:
    """All may do anything, if there is a time at which all consent (R6)."""

    def asked(self) -> Poll:
        asker = Ballot("c", "c", roll(5, "abc"))
        asker.came_about = True
        return asker.ask(roll(7, "c"), frozenset("abc"))

    def says_yes(self, poll: Poll, who: str, *, now: float, heard: float) -> None:
        poll.answered(who.lower(), who, Grant(7, YES, None), now=now, heard=heard)

    def test_the_first_says_it_again_when_the_second_has(self):
        poll = self.asked()
        self.says_yes(poll, "B", now=2.0, heard=1.0)
        assert not poll.lacks("b")
        self.says_yes(poll, "A", now=9.0, heard=8.0)
        assert not poll.carried
        assert (poll.lacks("a"), poll.lacks("b")) == (False, True)
        self.says_yes(poll, "B", now=9.5, heard=8.9)  # it did not know of the other's
        assert not poll.carried
        self.says_yes(poll, "B", now=10.0, heard=9.0)
        assert poll.carried

    def test_so_does_the_second_where_it_may_have_been_the_first(self):
        poll = self.asked()
        self.says_yes(poll, "B", now=2.0, heard=1.0)
        self.says_yes(poll, "A", now=3.0, heard=1.5)
        self.says_yes(poll, "B", now=4.0, heard=3.0)
        assert not poll.carried
        assert (poll.lacks("a"), poll.lacks("b")) == (True, False)
        self.says_yes(poll, "A", now=5.0, heard=2.0)
        assert poll.carried

    @pytest.mark.parametrize("word", [NO, "begins anew"])
    def test_who_does_not_consent_any_more_begins_again(self, word):
        poll = self.asked()
        self.says_yes(poll, "B", now=2.0, heard=1.0)
        if word == NO:
            poll.answered("b", "B", Grant(7, NO, None), now=3.0, heard=2.5)
            assert poll.lacks("b")
            self.says_yes(poll, "B", now=5.0, heard=4.0)
        else:
            poll.answered("b", "X", Grant(7, YES, None), now=5.0, heard=4.0)
        self.says_yes(poll, "A", now=4.0, heard=3.0)
        assert poll.lacks("a")

    def test_more_than_half_need_not(self):
        """Whatever else comes about then would need one of them, too."""
        asker = Ballot("c", "c", roll(5, "abcd"))
        asker.came_about = True
        poll = asker.ask(roll(7, "c"), frozenset("abcd"))
        self.says_yes(poll, "b", now=2.0, heard=1.0)
        assert not poll.carried
        self.says_yes(poll, "a", now=9.0, heard=8.0)
        assert poll.carried

    def test_whoever_has_been_taken_in_since_does_not(self):
        """And who asked has not heard of that: else two would go on."""
        poll = self.asked()
        joiner = Ballot("b", "B")
        self.says_yes(poll, "B", now=2.0, heard=1.0)
        assert ask_twice(joiner, poll.vote).word == YES
        # Of the two that went on without who asks, one has begun anew, and the other one took it
        # in, and began anew then.
        assert joiner.learn(roll(8, "aB"))
        fresh = Ballot("a", "A")
        assert ask_twice(fresh, poll.vote).word == YES
        self.says_yes(poll, "A", now=9.0, heard=8.0)
        assert not poll.carried
        poll.answered("b", "B", joiner.answer(poll.vote, empty=True), now=10.0, heard=9.0)
        assert not poll.carried
        joiner.over["a"] = "a"
        joiner.ask(roll(9, "B"), frozenset("abc"))
        assert joiner.conclude() == roll(9, "B")


class TestTakenIn:
    """What would follow from before the view that one is in comes about no more (R13)."""

    def promised(self, base: Roll | None) -> Ballot:
        voter = Ballot("b", "B")
        assert ask_twice(voter, Vote(base, roll(9, "c"))).word == YES
        return voter

    @pytest.mark.parametrize("base", [None, roll(5, "abc"), roll(6, "ac")])
    def test_the_view_is_learnt_though_its_epoch_is_earlier(self, base):
        voter = self.promised(base)
        view = roll(7, "aB")
        assert voter.learn(view)
        voter.check()
        assert voter.backs == view
        assert voter.answer(Vote(base, roll(9, "c"))).word == NO
        assert ask_twice(voter, Vote(view, roll(11, "a"))).word == YES

    @pytest.mark.parametrize(
        ("base", "view"),
        [
            (roll(5, "abc"), roll(7, "a")),  # it is not in it
            (roll(5, "abc"), roll(7, "ab")),  # it was, in another life
            (roll(7, "abc"), roll(7, "aB")),  # that is older than what the other would follow
            (roll(8, "abc"), roll(7, "aB")),
        ],
    )
    def test_else_the_promise_stands(self, base, view):
        voter = self.promised(base)
        assert not voter.learn(view)
        assert voter.backs == roll(9, "c")

    @pytest.mark.parametrize("base", [None, roll(5, "abc"), roll(6, "ac")])
    def test_who_decides_there_may_ask_before_it_tells(self, base):
        voter = self.promised(base)
        assert ask_twice(voter, Vote(roll(7, "aB"), roll(11, "a"))).word == YES
        assert voter.answer(Vote(base, roll(9, "c"))).word == NO

    @pytest.mark.parametrize(
        ("base", "asked"),
        [
            (roll(7, "aB"), roll(11, "A")),  # it has forgotten that view
            (roll(7, "aB"), roll(11, "d")),  # another one may never have been in it
            (roll(7, "ab"), roll(11, "a")),
            (roll(5, "aB"), roll(11, "a")),  # that is older than what the other would follow
            (roll(7, "aB"), roll(8, "a")),  # others know of what is asked for later
            (None, roll(11, "a")),
        ],
    )
    def test_but_nobody_else_may(self, base, asked):
        voter = self.promised(roll(5, "abc"))
        assert ask_twice(voter, Vote(base, asked)).word == NO
        assert voter.backs == roll(9, "c")

    def test_what_came_about_stands(self):
        voter = self.promised(roll(5, "abc"))
        assert voter.learn(roll(9, "c"))
        assert not voter.learn(roll(7, "aB"))

    def test_of_a_register_nobody_knows_what_it_consented_to_before(self):
        voter = Ballot("w", "w", roll(9, "c"))
        assert not voter.learn(roll(7, "aw"))


# -- all that can happen -----------------------------------------------------------------------


class Voter(NamedTuple):
    """What there is of a voter between two steps."""

    life: str
    backs: Roll | None
    came_about: bool
    poll: Vote | None
    yes: tuple[tuple[str, str], ...]
    agreed: tuple[tuple[str, tuple[float, float]], ...]  #: by a clock of first consents
    asked: tuple[tuple[str, Roll], ...]  #: who was told to ask again, and will
    instead: Vote | None
    asks_left: int
    lets: int  #: the epoch of the view in which it lets those answer who are in it; 0: nobody
    wish: Vote | None  #: of another one, that it backs
    before: Any  #: what it was before it backed that

    def __hash__(self) -> int:
        """Not of all that there is: rolls have no hash, and to spell them takes long."""
        backs, poll = self.backs, self.poll
        return hash(
            (
                self.life,
                backs and backs.epoch,
                self.came_about,
                poll and poll.roll.epoch,
                self.agreed,
                tuple([(asker, wanted.epoch) for asker, wanted in self.asked]),
                self.asks_left,
                self.lets,
            )
        )


class State(NamedTuple):
    """A small world: messages are never lost from it, so each may arrive late, twice, or not."""

    voters: tuple[Voter, ...]  #: by name: a, b, ... and the witness, w
    votes: frozenset[tuple[int, float]]  #: by number in `World.said`; and when that was asked
    #: To whom, from whom, in which life, to which vote, and when that was asked: each consents.
    grants: frozenset[tuple[str, str, str, int, float]]
    restarts_left: int
    #: Who may say in which life that he asks for what was of that epoch no more.
    overs: frozenset[tuple[str, str, int]]


class TestWhatIsAskedNoMore:
    """Who consented to it is as he was before (R12)."""

    BASE = roll(5, "abc")

    def voters(self) -> tuple[Ballot, Ballot]:
        both = Ballot("b", "b", self.BASE), Ballot("c", "c", self.BASE)
        for voter in both:
            voter.came_about = True
        return both

    def test_it_is_over_when_it_is_asked_no_more(self):
        asker, _ = self.voters()
        asker.ask(roll(6, "b"), frozenset("abc"))
        assert not asker.asks_no_more(6)
        asker.ask(roll(7, "b"), frozenset("abc"))
        assert asker.asks_no_more(6)
        assert not asker.asks_no_more(7)
        asker.stop()
        assert asker.asks_no_more(7)
        assert not asker.asks_no_more(8)

    @pytest.mark.parametrize("consents", ["c", "C"])
    def test_what_came_about_is_not_over(self, consents):
        asker, _ = self.voters()
        poll = asker.ask(roll(6, "b"), frozenset("abc"))
        poll.answered("c", consents, Grant(6, YES, None))
        assert (asker.conclude() is None) == (consents == "C")
        asker.stop()
        assert asker.asks_no_more(6) == (consents == "C")

    @pytest.mark.parametrize("came_about", [False, True])
    @pytest.mark.parametrize("backs", [None, BASE])
    def test_all_is_as_before(self, backs, came_about):
        if backs is None and came_about:
            return
        voter = Ballot("c", "c", backs)
        voter.came_about = came_about
        vote = Vote(self.BASE, roll(6, "b"))
        assert ask_twice(voter, vote).word == YES
        assert not voter.came_about
        assert voter.is_over("b", "b", 6)
        assert (voter.backs, voter.came_about) == (backs, came_about)
        voter.check()
        assert ask_twice(voter, Vote(self.BASE, roll(7, "a"))).word == YES
        assert voter.backs == roll(7, "a")

    @pytest.mark.parametrize(
        ("who", "life", "epoch"),
        [("a", "a", 6), ("b", "B", 6), ("b", "b", 5), ("b", "b", 7)],
    )
    def test_else_the_promise_stands(self, who, life, epoch):
        _, voter = self.voters()
        assert ask_twice(voter, Vote(self.BASE, roll(6, "b"))).word == YES
        assert not voter.is_over(who, life, epoch)
        assert voter.backs == roll(6, "b")

    def test_what_was_asked_once_more_is_given_up_as_well(self):
        _, voter = self.voters()
        for epoch in (6, 8, 9):
            assert ask_twice(voter, Vote(self.BASE, roll(epoch, "b"))).word == YES
        assert not voter.is_over("b", "b", 6)  # it heard late of that: the last one is asked
        assert voter.is_over("b", "b", 9)
        assert voter.backs == self.BASE

    def test_what_another_one_wants_is_still_backed(self):
        _, voter = self.voters()
        assert ask_twice(voter, Vote(self.BASE, roll(6, "b"))).word == YES
        assert ask_twice(voter, Vote(roll(7, "abc"), roll(8, "a"))).word == YES
        assert voter.is_over("a", "a", 8)
        assert (voter.backs, voter.came_about) == (roll(6, "b"), False)
        voter.check()
        assert voter.is_over("b", "b", 6)
        assert (voter.backs, voter.came_about) == (self.BASE, True)

    def test_those_before_are_not_more_and_more(self):
        voter = Ballot("c", "c")
        for epoch in range(10, 1000, 2):
            asker = "ab"[epoch % 4 // 2]
            vote = Vote(roll(epoch, "abc"), roll(epoch + 1, asker))
            assert ask_twice(voter, vote).word == YES
        before, depth = voter._before, 0
        while before is not None:
            before, depth = before.before, depth + 1
        assert depth <= 2

    def test_a_view_is_given_up_for_nothing(self):
        _, voter = self.voters()
        assert ask_twice(voter, Vote(self.BASE, roll(6, "b"))).word == YES
        assert voter.learn(roll(6, "b"))
        assert not voter.is_over("b", "b", 6)
        assert voter.backs == roll(6, "b")

    def test_two_who_gave_way_to_each_other(self):
        """Each backs what the other one asks no more."""
        one, other = self.voters()
        first = one.ask(roll(6, "b"), frozenset("abc")).vote
        second = other.ask(roll(7, "c"), frozenset("abc")).vote
        assert ask_twice(other, first).word == YES
        one.stop()
        assert ask_twice(one, second).word == YES
        for asker, voter, name, epoch in ((one, other, "b", 6), (other, one, "c", 7)):
            assert asker.asks_no_more(epoch)
            assert voter.is_over(name, name, epoch)
        for voter in (one, other):
            assert (voter.backs, voter.came_about) == (self.BASE, True)
            voter.check()
        poll = one.ask(roll(8, "b"), frozenset("abc"))
        poll.answered("c", "c", ask_twice(other, poll.vote))
        assert one.conclude() == roll(8, "b")


class World:
    """Data nodes and a witness, and all steps that they can take."""

    def __init__(
        self,
        names: str,
        *,
        asks: int,
        restarts: int,
        joins: bool = False,
        askers: str = "",
        stops: bool = True,
        tells: bool = False,
        again: bool = False,
    ) -> None:
        """`askers`: who would go on; else all data nodes. `stops`: and may be content to stay.

        `tells`: who asks may say that he asks no more. `again`: who consents must say so again
        where all are to consent at one time; else all times are one.
        """
        self.names = names
        self.data = names.replace("w", "")
        self.tells = tells
        self.again = again
        askers = askers or self.data
        self.checks = True
        self.stops = stops  #: else nothing is known of who lets whom answer
        self.joins = joins  #: who decides may also take others in, and tell them
        first = roll(16, names)
        self.said: list[Vote] = []  #: each once
        self.beginning = State(
            tuple(
                Voter(
                    name,
                    first,
                    True,
                    None,
                    (),
                    (),
                    (),
                    None,
                    asks if name in askers else 0,
                    first.epoch if stops and name in first.data else 0,
                    None,
                    None,
                )
                for name in names
            ),
            frozenset(),
            frozenset(),
            restarts,
            frozenset(),
        )

    def miss(self, name: str, again: str) -> None:
        """Begin where one has missed the view of the others; `again`: of which one began anew."""
        others = self.names.replace(name, "")
        view = Roll(32, others[0], {each: each for each in others if each in self.data}, {})
        voters = [
            voter if voter.life == name else voter._replace(backs=view, lets=0)
            for voter in self.beginning.voters
        ]
        fresh = self.names.index(again)
        voters[fresh] = voters[fresh]._replace(life=again.upper(), backs=None, came_about=False)
        self.beginning = self.beginning._replace(voters=tuple(voters))

    def ballot_of(self, name: str, voter: Voter) -> Ballot:
        result = Ballot(name, voter.life, voter.backs)
        result.came_about = voter.came_about
        result._asked = {asker: (wanted, 0) for asker, wanted in voter.asked}
        result._last_token = -1
        result._instead = voter.instead
        result._wish = voter.wish
        result._before = voter.before
        if voter.poll is not None:
            poll = result.ask(voter.poll.roll, frozenset(self.data))
            poll.vote = voter.poll
            poll.yes = dict(voter.yes)
            poll.agreed = dict(voter.agreed)
        return result

    def note(self, state: State, name: str, after: Ballot, asks_left: int) -> tuple[Voter, ...]:
        if self.checks:
            after.check()
        index = self.names.index(name)
        before = state.voters[index]
        poll = after.poll
        lets = before.lets
        if before.life != after.life or poll is not None:
            lets = 0  # who asks has waited until the leases have ended
        elif after.backs != before.backs and after.came_about:
            asked = before.poll is not None and after.backs == before.poll.roll
            assert not asked or not lets, "would go on, and lets others answer"
            data = after.backs.data if after.backs and self.stops else {}
            lets = after.epoch if name in data else 0
        voter = Voter(
            after.life,
            after.backs,
            after.came_about,
            None if poll is None else poll.vote,
            () if poll is None else tuple(sorted(poll.yes.items())),
            () if poll is None else tuple(sorted(poll.agreed.items())),
            tuple(sorted((asker, wanted) for asker, (wanted, _) in after._asked.items())),
            after._instead,
            asks_left,
            lets,
            after._wish if self.joins or self.tells else None,
            after._before if self.tells else None,
        )
        return (*state.voters[:index], voter, *state.voters[index + 1 :])

    def letting(self, voters: tuple[Voter, ...], name: str, epoch: int) -> tuple[Voter, ...]:
        index = self.names.index(name)
        return (*voters[:index], voters[index]._replace(lets=epoch), *voters[index + 1 :])

    def number_of(self, vote: Vote) -> int:
        if vote not in self.said:
            self.said.append(vote)
        return self.said.index(vote)

    def steps(self, state: State) -> list[State]:
        """Return all that may be next."""
        result = []
        for name, voter in zip(self.names, state.voters, strict=True):
            if voter.asks_left:
                # For itself, with or without the witness: as it goes on alone, or takes it in.
                after = self.ballot_of(name, voter)
                latest = max(after.epoch, self.latest_wish(state, name) if self.tells else 0)
                epoch = (latest // 16 + 8 - voter.asks_left) * 16 + self.names.index(name)
                for data in self.members(state, name):
                    after = self.ballot_of(name, voter)
                    wanted = Roll(epoch, name, data, self.witness_of(state))
                    vote = after.ask(wanted, frozenset(self.data)).vote
                    after.conclude()
                    result.append(
                        state._replace(
                            voters=self.note(state, name, after, voter.asks_left - 1),
                            votes=state.votes | {(self.number_of(vote), 0.0)},
                        )
                    )
            if state.restarts_left and voter.life == name:
                fresh = Ballot(name, name.upper())
                result.append(
                    state._replace(
                        voters=self.note(state, name, fresh, voter.asks_left),
                        restarts_left=state.restarts_left - 1,
                    )
                )
            if voter.lets:  # it misses somebody
                voters = self.note(state, name, self.ballot_of(name, voter), voter.asks_left)
                result.append(state._replace(voters=self.letting(voters, name, 0)))
            if (
                self.stops and voter.poll is not None and voter.came_about
            ):  # those whom it misses are there again
                after = self.ballot_of(name, voter)
                after.stop()
                voters = self.note(state, name, after, voter.asks_left)
                result.append(state._replace(voters=self.letting(voters, name, after.epoch)))
            if voter.poll is not None:  # at any time it may learn whose lives are over, or never
                after = self.ballot_of(name, voter)
                after.over.update(self.lives_that_are_over(state))
                after.conclude()
                voters = self.note(state, name, after, voter.asks_left)
                result.append(state._replace(voters=voters))
            result += self.answers(state, name, voter)
            for to, sender, life, number, heard in state.grants:
                if to == name and voter.poll == self.said[number]:
                    after = self.ballot_of(name, voter)
                    assert after.poll is not None
                    now = self.last_consent(after.poll) + 1 if self.again else 0.0
                    after.poll.answered(sender, life, Grant(0, YES, None), now=now, heard=heard)
                    votes = state.votes
                    if any(map(after.poll.is_to_say_so_again, after.poll.yes)):
                        votes |= {(number, self.last_consent(after.poll))}
                    after.conclude()
                    voters = self.note(state, name, after, voter.asks_left)
                    result.append(state._replace(voters=voters, votes=votes))
            for over in state.overs if self.tells else ():
                after = self.ballot_of(name, voter)
                if after.is_over(*over):
                    voters = self.note(state, name, after, voter.asks_left)
                    result.append(state._replace(voters=voters))
            for other in state.voters if self.joins else ():
                view = other.backs
                if view is not None and other.came_about and view.coordinator != name:
                    after = self.ballot_of(name, voter)
                    if after.learn(view):
                        voters = self.note(state, name, after, voter.asks_left)
                        result.append(state._replace(voters=voters))
        if self.tells:
            result = [self.with_overs(state, each) for each in result]
        return [each for each in result if each != state]

    def with_overs(self, before: State, after: State) -> State:
        """Add what was asked before, and is asked no more, though nothing came of it."""
        overs = {
            (name, was.life, was.poll.roll.epoch)
            for name, was, now in zip(self.names, before.voters, after.voters, strict=True)
            if was.poll is not None
            and was.life == now.life
            and was.poll != now.poll
            and was.poll.roll != now.backs
        }
        return after._replace(overs=after.overs | overs) if overs else after

    def latest_wish(self, state: State, name: str) -> int:
        """Return the latest epoch that one has asked for."""
        rolls = [self.said[number].roll for number, _ in state.votes]
        return max((each.epoch for each in rolls if each.coordinator == name), default=0)

    def answers(self, state: State, name: str, voter: Voter) -> list[State]:
        """Return what may be next when a voter is asked."""
        result = []
        for number, at in state.votes:
            vote = self.said[number]
            asker = vote.roll.coordinator
            # Who has started anew may have nothing, or be taken in without knowing of it.
            for empty in (False, True)[: 1 + (voter.life != name)] if asker != name else ():
                after = self.ballot_of(name, voter)
                bound = voter.backs.coordinator if voter.lets and voter.backs else ""
                grant = after.answer(vote, bound=bound, empty=empty)
                grants = state.grants
                if grant.word == YES:
                    grants |= {(asker, name, voter.life, number, at)}
                voters = self.note(state, name, after, voter.asks_left)
                result.append(state._replace(voters=voters, grants=grants))
        return result

    @staticmethod
    def last_consent(poll: Poll) -> float:
        """Return when a voter consented that had not before, by a clock of such events."""
        return max((since for since, _ in poll.agreed.values()), default=0.0)

    def lives_that_are_over(self, state: State) -> dict[str, str]:
        lives = zip(self.names, state.voters, strict=True)
        return {name: name for name, voter in lives if voter.life != name}

    def members(self, state: State, name: str) -> list[dict[str, str]]:
        """Return what data nodes one of them may want to go on with."""
        lives = {each: voter.life for each, voter in zip(self.names, state.voters, strict=True)}
        result = [{name: lives[name]}]
        if self.joins:
            result += [
                {name: lives[name], other: lives[other]} for other in self.data if other != name
            ]
        return result

    def witness_of(self, state: State) -> dict[str, str]:
        if "w" not in self.names:
            return {}
        return {"w": state.voters[self.names.index("w")].life}

    def check(self, state: State) -> None:
        """No two go on, each for itself; nor is one answered where another goes on without him."""
        alone = [
            name
            for name, voter in zip(self.names, state.voters, strict=True)
            if voter.backs is not None
            and voter.came_about
            and voter.backs.coordinator == name
            and voter.backs.data == {name: voter.life}
        ]
        assert len(alone) <= 1, f"{alone} go on: {state} {self.said}"
        serving = {
            voter.lets
            for voter in state.voters
            if voter.lets
            and voter.came_about
            and voter.backs is not None
            and voter.backs.epoch == voter.lets
            and all(self.lets(state, each, voter.lets) for each in voter.backs.data.items())
        }
        assert len(serving) <= 1, f"{serving} go on: {state} {self.said}"

    def lets(self, state: State, who: tuple[str, str], epoch: int) -> bool:
        voter = state.voters[self.names.index(who[0])]
        return (voter.life, voter.lets) == (who[1], epoch)


def explore(world: World, most: int) -> int:
    """Look at all states that can be reached; return how many those are."""
    seen = {world.beginning}
    border = [world.beginning]
    while border:
        state = border.pop()
        world.check(state)
        for after in world.steps(state):
            if after not in seen:
                seen.add(after)
                border.append(after)
        assert len(seen) <= most, "more than was bargained for"
    return len(seen)


@pytest.mark.parametrize(
    ("names", "asks", "restarts", "askers", "stops"),
    [
        pytest.param("abw", 1, 1, "", True, marks=pytest.mark.slow),
        ("abc", 1, 0, "ab", True),
        pytest.param("abc", 1, 0, "", True, marks=pytest.mark.slow),
        ("abc", 1, 1, "ab", False),
        pytest.param("abc", 1, 1, "ab", True, marks=pytest.mark.slow),
        pytest.param("abc", 1, 1, "", False, marks=pytest.mark.slow),
        pytest.param("abc", 1, 2, "ab", False, marks=pytest.mark.slow),
        ("ab", 2, 1, "", False),
        pytest.param("ab", 2, 1, "", True, marks=pytest.mark.slow),
        pytest.param("abw", 2, 0, "", True, marks=pytest.mark.slow),
    ],
)
def test_whatever_arrives_late_twice_or_not_at_all(names, asks, restarts, askers, stops):
    world = World(names, asks=asks, restarts=restarts, askers=askers, stops=stops)
    assert explore(world, 125_000) > 100


def test_whoever_says_so_again():
    assert explore(World("abc", asks=1, restarts=0, askers="ab", again=True), 5_000) > 100


@pytest.mark.parametrize(
    ("names", "asks", "restarts", "askers"),
    [
        ("abc", 1, 0, "bc"),
        pytest.param("abc", 1, 0, "", marks=pytest.mark.slow),
        pytest.param("abc", 1, 1, "bc", marks=pytest.mark.slow),
    ],
)
def test_whoever_hears_that_it_is_over(names, asks, restarts, askers):
    world = World(names, asks=asks, restarts=restarts, askers=askers, tells=True)
    assert explore(world, 125_000) > 100


def _wishes_are_bases(original: Any) -> Any:
    return lambda *of, came_about: original(*of, came_about=True)


def _half_is_enough(original: Any) -> Any:
    return lambda roll, lives: 2 * ballot.weight_of(roll, lives) >= ballot.total_weight(roll)


def _later_is_enough(original: Any) -> Any:
    return lambda self, vote: vote.roll.epoch > self.epoch


def _nobody_gives_way(original: Any) -> Any:
    def back(self: Ballot, roll: Roll) -> bool:
        poll = self.poll
        done: bool = original(self, roll)
        self.poll = poll
        return done

    return back


def _lives_do_not_matter(original: Any) -> Any:
    return lambda roll, lives: original(
        roll, [(each, roll.data.get(each) or roll.witness.get(each)) for each, _ in lives]
    )


def _whoever_is_left(original: Any) -> Any:
    return lambda roll, lives, over: original(roll, lives, {**roll.data, **roll.witness})


def _asks_on(original: Any) -> Any:
    return lambda self: None


def _over_at_any_word(original: Any) -> Any:
    def is_over(self: Ballot, node_id: str, life: str, epoch: int) -> bool:
        wish = self._wish
        if wish is None:
            return False
        done: bool = original(self, *life_of_coordinator(wish.roll), wish.roll.epoch)
        return done

    return is_over


def _some_are_all(original: Any) -> Any:
    return property(lambda self: original.fget(self) or len(self.yes) >= 1)


@pytest.mark.parametrize(
    ("owner", "name", "broken", "names", "restarts"),
    [
        (Poll, "__init__", _wishes_are_bases, "abc", 0),
        (ballot, "is_majority", _half_is_enough, "ab", 0),
        (Ballot, "_may_back", _later_is_enough, "abw", 0),
        (Ballot, "_back", _nobody_gives_way, "abw", 0),
        (ballot, "weight_of", _lives_do_not_matter, "abw", 1),
        (Poll, "carried", _some_are_all, "abcw", 0),
        (ballot, "is_what_is_left", _whoever_is_left, "ab", 0),
        (Ballot, "stop", _asks_on, "abw", 0),
        (Ballot, "is_over", _over_at_any_word, "abc", 0),
    ],
)
def test_each_rule_is_needed(monkeypatch, owner, name, broken, names, restarts):
    original = owner.__dict__[name]
    monkeypatch.setattr(owner, name, broken(original))
    world = World(names, asks=1, restarts=restarts, tells=name == "is_over")
    world.checks = False
    with pytest.raises(AssertionError, match="go on"):
        explore(world, 20_000)


def progress(state: State) -> tuple[int, int]:
    """Return how far a story has come: chance alone asks much and answers little."""
    came_about = [each.backs.epoch for each in state.voters if each.backs and each.came_about]
    latest = max(came_about, default=0)
    return latest, len(state.grants)


def wander(world: World, seed: int, steps: int) -> int:
    """Take steps by chance; return how many views came about."""
    chance = random.Random(seed)
    state = world.beginning
    views: set[int] = set()
    for _ in range(steps):
        after = world.steps(state)
        if not after:
            break
        chance.shuffle(after)
        state = max(after, key=progress) if chance.random() < 0.5 else after[0]
        world.check(state)
        views.update(
            voter.backs.epoch for voter in state.voters if voter.backs and voter.came_about
        )
    return len(views)


@pytest.mark.slow
@pytest.mark.parametrize("again", ["a", "b"])
def test_stories_of_one_that_missed_a_view(again):
    world = World("abc", asks=3, restarts=2, joins=True, again=True)
    world.miss("c", again)
    views = sum(wander(world, seed, 100) for seed in range(40))
    assert views > 70


@pytest.mark.slow
@pytest.mark.parametrize("tells", [False, True])
@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize("names", ["abw", "abc", "abcw"])
def test_longer_stories(names, joins, tells):
    views = sum(
        wander(World(names, asks=5, restarts=1, joins=joins, tells=tells), seed, 100)
        for seed in range(40)
    )
    assert views > 70  # of which 40 are the first


def test_what_is_no_view():
    good = Vote(roll(1, "ab"), roll(2, "a"))
    assert is_sound(good)
    assert not is_sound(replace(good, roll=Roll(2, "a", {"a": "a"}, {"w": "w", "x": "x"})))
    assert not is_sound(replace(good, roll=Roll(2, "a", {"a": "a"}, {"a": "a"})))


@pytest.mark.parametrize("first", "ab")
def test_who_was_taken_into_a_view_that_is_gone_is_not_stood_in_the_way_by_who_was_in_none(first):
    """All have nothing. One was told of a view before it had what that had, and all else died.

    It may consent to nothing that does not follow that view; so the others are to consent to it.
    """
    everybody = frozenset("abc")
    voters = {name: Ballot(name, f"{name}2") for name in "abc"}
    a, b = voters["a"], voters["b"]
    assert b.learn(Roll(2, "c", {"a": "a1", "b": "b2", "c": "c1"}, {}))
    a.ask(Roll(3, "a", {"a": "a2"}, {}), everybody)
    b.ask(Roll(4, "b", {"b": "b2"}, {}), everybody)
    for name in [first, *sorted({"a", "b"} - {first})] * 3:
        asker = voters[name]
        for other in voters.values():
            poll = asker.poll
            if poll is not None and other is not asker:
                grant = other.answer(poll.vote_for(other.node_id), empty=True)
                poll.answered(other.node_id, other.life, grant)
                asker.conclude()
    assert b.came_about
    assert a.backs == b.backs == Roll(4, "b", {"b": "b2"}, {})
