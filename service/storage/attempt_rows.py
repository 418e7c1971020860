"""Which steps are running, and how often their process died: a step has a row from its start to its end."""

import sqlalchemy as sa

from service.errors import NotFoundError
from service.storage import rows, tables
from service.storage.database import Database

TABLE = tables.attempts


class Attempts:
    """A row for each workflow with a step that runs, or in which a process died."""

    def __init__(self, database: Database):
        self._database = database

    def deaths(self, workflow: str, process: str) -> int:
        """How often a process died while it ran the step that the workflow is at; `process` is the one that asks."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(TABLE).where(TABLE.c.workflow == workflow)).one_or_none()
        return row.deaths + int(row.process not in (None, process)) if row else 0

    def begin(self, workflow: str, job: str, process: str, deaths: int) -> None:
        """Note that the step starts in this process, after so many deaths.

        Raises NotFoundError where the job is gone.
        """
        values = {"workflow": rows.text("the workflow", workflow), "job": job, "process": process, "deaths": deaths}
        written = self._database.insert(TABLE).values(values)
        try:
            with self._database.write() as connection:
                connection.execute(written.on_conflict_do_update(index_elements=["workflow"], set_=values))
        except sa.exc.IntegrityError as error:
            raise NotFoundError(f"there is no job {job}", "send it again") from error

    def end(self, workflow: str, process: str) -> None:
        """Note that the step ended, in whatever way, with its process alive."""
        with self._database.write() as connection:
            connection.execute(sa.delete(TABLE).where(TABLE.c.workflow == workflow, TABLE.c.process == process))

    def leave(self, process: str) -> None:
        """Note that a process ends in good order: the steps that it interrupts did not kill it."""
        with self._database.write() as connection:
            connection.execute(sa.update(TABLE).where(TABLE.c.process == process).values(process=None))
