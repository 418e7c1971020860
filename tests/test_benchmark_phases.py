"""Time by phase: a function that runs inside another takes its time from it."""

from benchmarks.phases import ALL, NAMES, PHASES, Stopwatch, phases


def test_each_phase_bears_its_own_time(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0])  # made; outer begins; inner begins; inner ends; outer ends
    monkeypatch.setattr("time.process_time", lambda: next(now))
    watch = Stopwatch()
    inner = watch.timed("inner", lambda: "done")
    assert watch.timed("outer", inner)() == "done"
    assert watch.seconds == {ALL: 1.0, "outer": 2.0 + 4.0, "inner": 3.0}


def test_what_is_timed_exists_and_is_as_before_afterwards():
    known = [getattr(owner, name) for _, owner, names in PHASES for name in names]
    with phases() as seconds:
        assert all(
            each.__wrapped__ in known for _, owner, names in PHASES for each in (getattr(owner, n) for n in names)
        )
    assert known == [getattr(owner, name) for _, owner, names in PHASES for name in names]
    assert set(seconds) <= set(NAMES)
