"""Places that tenants hold in other processes, told by locks of PostgreSQL: exact, and gone with the process."""

import time

import pytest
import sqlalchemy as sa

from service.jobs import guard, presence
from service.jobs.presence import Alone, Locks
from tests.service.servers import Postgres


@pytest.fixture
def engine(postgres: Postgres):
    """Of an empty database."""
    with postgres.database() as url:
        found = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        yield found
        found.dispose()


def until_gone(locks: Locks) -> None:
    """The server takes a moment to see that a connection has ended."""
    for _ in range(100):
        if not locks.others({"acme"}):
            return
        time.sleep(0.05)
    raise AssertionError("the locks stayed")


def test_what_others_hold(engine: sa.Engine) -> None:
    one, other, third = (Locks(engine) for _ in range(3))
    one.tell({"acme": 3, "small": 1})
    other.tell({"acme": 1})
    assert one.others({"acme", "small", "nobody"}) == {"acme": 1}
    assert other.others({"acme", "small"}) == {"acme": 3, "small": 1}
    assert third.others({"acme", "small"}) == {"acme": 4, "small": 1}
    one.tell({"acme": 1})
    assert third.others({"acme", "small"}) == {"acme": 2}
    one.tell({})
    assert third.others({"acme"}) == {"acme": 1} and third.others(()) == {}
    other.close()
    until_gone(third)
    for each in (one, third):
        each.close()


def test_other_locks_are_no_places(engine: sa.Engine) -> None:
    """A tenant may be named as a queue or a worker, which others have locks of."""
    locks = Locks(engine)
    with engine.connect() as connection:
        for space in (guard.SPACE, guard.QUEUES, presence.LEAVING):
            connection.execute(sa.text(f"SELECT pg_advisory_lock_shared({space}, hashtext('convert'))"))
        assert locks.others({"convert"}) == {}
        connection.invalidate()
    locks.close()


def test_a_connection_that_broke_is_made_again_and_told_again(engine: sa.Engine) -> None:
    one, other = Locks(engine), Locks(engine)
    one.tell({"acme": 2})
    with engine.connect() as connection:
        ended = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        connection.execute(sa.text(ended))
    until_gone(other)
    with pytest.raises(sa.exc.SQLAlchemyError):
        one.tell({"acme": 1})
    one.tell({"acme": 1})
    assert other.others({"acme"}) == {"acme": 1}
    for each in (one, other):
        each.close()


def test_one_decides_at_a_time(engine: sa.Engine) -> None:
    one, other = Locks(engine), Locks(engine)
    with one.deciding() as ours:
        assert ours
        with other.deciding() as theirs:
            assert not theirs
    with other.deciding() as theirs:
        assert theirs
    for each in (one, other):
        each.close()


def test_alone() -> None:
    alone = Alone()
    alone.tell({"acme": 1})
    assert alone.others({"acme"}) == {}
    with alone.deciding() as ours:
        assert ours
