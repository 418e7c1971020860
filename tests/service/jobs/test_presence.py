"""Places that tenants hold in other processes, shown by locks of PostgreSQL: exact, and gone with the process."""

import time

import pytest
import sqlalchemy as sa

from service.jobs import guard, presence
from service.jobs.presence import PlaceLocks, SingleProcess
from tests.service.servers import Postgres


@pytest.fixture
def engine(postgres: Postgres):
    """An engine on an empty database."""
    with postgres.database() as url:
        found = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        yield found
        found.dispose()


def until_gone(locks: PlaceLocks) -> None:
    """Wait until the server has seen that a connection ended, which takes a moment."""
    for _ in range(100):
        if not locks.others({"acme"}):
            return
        time.sleep(0.05)
    raise AssertionError("the locks stayed")


def test_what_others_hold(engine: sa.Engine) -> None:
    one, other, third = (PlaceLocks(engine) for _ in range(3))
    one.announce({"acme": 3, "small": 1})
    other.announce({"acme": 1})
    assert one.others({"acme", "small", "nobody"}) == {"acme": 1}
    assert other.others({"acme", "small"}) == {"acme": 3, "small": 1}
    assert third.others({"acme", "small"}) == {"acme": 4, "small": 1}
    one.announce({"acme": 1})
    assert third.others({"acme", "small"}) == {"acme": 2}
    one.announce({})
    assert third.others({"acme"}) == {"acme": 1} and third.others(()) == {}
    other.close()
    until_gone(third)
    for each in (one, third):
        each.close()


def test_other_locks_are_no_places(engine: sa.Engine) -> None:
    """A tenant may have the name of a queue or a worker, for which others hold locks."""
    locks = PlaceLocks(engine)
    with engine.connect() as connection:
        for space in (guard.SPACE, guard.QUEUES, presence.LEAVING):
            connection.execute(sa.text(f"SELECT pg_advisory_lock_shared({space}, hashtext('convert'))"))
        assert locks.others({"convert"}) == {}
        connection.invalidate()
    locks.close()


def test_after_a_connection_broke_its_places_are_announced_again(engine: sa.Engine) -> None:
    one, other = PlaceLocks(engine), PlaceLocks(engine)
    one.announce({"acme": 2})
    with engine.connect() as connection:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        connection.execute(sa.text(ended))
    until_gone(other)
    with pytest.raises(sa.exc.SQLAlchemyError):
        one.announce({"acme": 1})
    one.announce({"acme": 1})
    assert other.others({"acme"}) == {"acme": 1}
    for each in (one, other):
        each.close()


def test_one_decides_at_a_time(engine: sa.Engine) -> None:
    one, other = PlaceLocks(engine), PlaceLocks(engine)
    with one.deciding() as ours:
        assert ours
        with other.deciding() as theirs:
            assert not theirs
    with other.deciding() as theirs:
        assert theirs
    for each in (one, other):
        each.close()


def test_alone() -> None:
    alone = SingleProcess()
    alone.announce({"acme": 1})
    assert alone.others({"acme"}) == {}
    with alone.deciding() as ours:
        assert ours
