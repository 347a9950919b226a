"""The log of keys that change while a peer is away: bounded, and no step of it is a long one."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from pymcd.replication.changelog import LOG_ENTRY_BYTES, ChangeLog
from pymcd.store.cache import TABLES

KEYS = st.binary(min_size=1, max_size=2)


def make_log(entries: int) -> ChangeLog:
    """Return a log with room for so many keys of one byte."""
    return ChangeLog(entries * (LOG_ENTRY_BYTES + 1))


def missed(log: ChangeLog, number: int) -> list[bytes]:
    """Return the keys that changed after a number, in their order."""
    return sorted(key for keys in log.since(number) for key in keys)


class TestEntering:
    def test_a_key_is_there_once_with_its_last_change(self):
        log = make_log(10)
        log.enter([b"a"], 1)
        log.enter([b"b", b"a"], 3)
        assert sorted(log) == [b"a", b"b"]
        assert len(log) == 2
        assert missed(log, 1) == [b"a", b"b"]
        log.check()

    def test_what_falls_out_is_what_changed_least_recently(self):
        log = make_log(3)
        for number, key in enumerate([b"a", b"b", b"c", b"a"], 1):
            assert log.enter([key], number) == 0
        assert log.enter([b"d"], 5) == 2
        assert log.enter([b"e"], 6) == 3
        assert sorted(log) == [b"a", b"d", b"e"]
        log.check()

    def test_there_may_be_no_room_at_all(self):
        log = ChangeLog(0)
        assert log.enter([b"a"], 7) == 7
        assert not log.size_bytes
        assert missed(log, 0) == []
        log.check()


class TestBeginning:
    def test_what_changed_before_has_one_number(self):
        log = make_log(10)
        assert log.begin([b"a", b"b", b"a"], 4) == 0
        log.enter([b"c"], 5)
        assert missed(log, 3) == [b"a", b"b", b"c"]
        assert missed(log, 4) == [b"c"]
        log.check()

    def test_it_falls_out_first(self):
        log = make_log(2)
        assert log.begin([b"a", b"b", b"c"], 4) == 4
        assert log.enter([b"d"], 5) == 4
        assert log.enter([b"e"], 6) == 4
        assert missed(log, 4) == [b"d", b"e"]
        log.check()

    def test_it_is_there_once_though_it_changes_again(self):
        log = make_log(10)
        log.begin([b"a", b"b"], 4)
        log.enter([b"a"], 5)
        assert len(log) == 2
        assert missed(log, 4) == [b"a"]
        log.check()


class TestSteps:
    def test_of_a_long_log_little_more_is_looked_at_than_there_were_changes(self, monkeypatch):
        log = make_log(100_000)
        log.enter([b"%d" % number for number in range(10_000)], 1)
        looked_at = []

        class Table(OrderedDict[bytes, int]):
            def items(self):
                return self

            def __reversed__(self):
                for key in super().__reversed__():
                    looked_at.append(key)
                    yield key, self[key]

        log.tables = [Table(table) for table in log.tables]
        log.enter([b"1", b"2", b"x"], 2)
        assert missed(log, 1) == [b"1", b"2", b"x"]
        assert len(looked_at) <= TABLES + 3

    def test_no_table_is_a_long_one(self):
        log = make_log(100_000)
        log.enter([b"%d" % number for number in range(20_000)], 1)
        assert max(map(len, log.tables)) < 200

    def test_to_find_the_oldest_takes_no_search(self, monkeypatch):
        log = make_log(1000)
        for number in range(1000):
            log.enter([b"%c" % (number % 251)], number + 1)
        # Each of the keys that were noted as the oldest of a table has changed since, once at most.
        assert len(log._oldest) <= TABLES
        log.limit_bytes = log.size_bytes
        for number in range(1000, 2000):
            log.enter([b"k%d" % number], number + 1)
        log.check()


@given(
    st.lists(KEYS, max_size=5),
    st.lists(st.lists(KEYS, max_size=5), max_size=30),
    st.integers(0, 12),
)
def test_it_is_as_one_list_would_be(early, changes, entries):
    log = make_log(entries)
    wanted = dict.fromkeys(early, 10)
    floor = log.begin(early, 10)
    number = 10
    for keys in changes:
        number += len(keys)
        floor = log.enter(keys, number) or floor
        for key in keys:
            wanted.pop(key, None)
            wanted[key] = number
        log.check()
        for since in (0, floor, 10, number - 2, number):
            if since >= floor:
                later = [key for key, changed in wanted.items() if changed > since]
                assert missed(log, since) == sorted(later)
