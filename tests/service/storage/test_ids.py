"""Identifiers: unique, sorted by the time they were made."""

import time
from concurrent.futures import ThreadPoolExecutor

from service.storage.ids import PATTERN, Ids


def test_identifiers_grow_also_in_one_millisecond_and_from_many_threads() -> None:
    ids = Ids()
    one = [ids.new("mod") for _ in range(2000)]
    assert one == sorted(set(one)) and all(PATTERN.match(each) for each in one)
    with ThreadPoolExecutor(4) as threads:
        many = list(threads.map(lambda _: ids.new("mod"), range(2000)))
    assert len(set(many) | set(one)) == 4000


def test_identifiers_of_two_processes_sort_by_time() -> None:
    first = Ids().new("con")
    time.sleep(0.003)
    assert first < Ids().new("con")


def test_a_clock_that_is_set_back_does_not_repeat_anything(monkeypatch) -> None:
    ids = Ids()
    before = ids.new("upl")
    monkeypatch.setattr(time, "time_ns", lambda: 10**15)
    assert before < ids.new("upl") < ids.new("upl")
