"""The workflows. A job is one, with the job's id; a shard of it is a child on a queue of its own.

    conversion   begin (> shards) > convert (> evaluate, or shards > reduce) > finish
    evaluation   begin > evaluate, or shards > reduce > finish            a shard: some of the samples
    ranking      begin > rank > finish
    search       begin > (next > trial) … > finish (> report)              a trial: on whichever worker is free
    sweep        begin > settings > shards > reduce > finish              a shard: one conversion, evaluated

Steps write what people see (the job's row), and may do so twice. A user's error ends a job as failed; what is missing
for a while is waited for (patience.py), and after a crash of the process the engine takes everything up again. Every
task takes a place of its process first (places.py), and ends when its job does (cancelling.py).
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice

from dbos import DBOS, DBOSConfiguredInstance, SetEnqueueOptions, SetWorkflowID, WorkflowHandleAsync

from graphpass.options.table import AFTERWARDS, IMAGES
from service.errors import NotFoundError, ShortageError, StorageError
from service.jobs.arguments import given_options, named_files, part_files, progress_event, with_threads
from service.jobs.cancelling import UnwantedError, while_wanted
from service.jobs.dispatch import EVENTS, WORK_CLASS, WORK_NAME
from service.jobs.engine import POLL_SECONDS, SHARDS
from service.jobs.faults import deadly, fault_of
from service.jobs.patience import patiently
from service.jobs.places import Places
from service.jobs.queues import SHARD, Queues
from service.jobs.rooms import Rooms
from service.jobs.running import JSON, TaskOutcome, run_task
from service.jobs.sharding import ShardSizes, count, spans
from service.logs import job_context
from service.metrics import ProcessMetrics
from service.settings import Settings
from service.storage.accounts import Account, settle
from service.storage.blobs import Blobs
from service.storage.metadata import Metadata
from service.storage.records import JobRecord

KILLS, KILLED_PAUSE = 3, 10.0  # restarts of a task that the system killed, and seconds before the first of them
ATTEMPTS = 50  # a job whose process ended so often, in whatever way, is given up
AHEAD = 32  # shards of a job that wait or run at a time: what they take does not grow with how many there will be
SHARING = ("sweep_shard", "search_next", "search_trial", "search_finish")  # tasks of a job in one child after the other
EVALUATION_OPTIONS = (*IMAGES, *AFTERWARDS)  # of a conversion
log = logging.getLogger(__name__)


@DBOS.dbos_class(WORK_CLASS)
class Work(DBOSConfiguredInstance):
    """The workflows, and the parts of the service that they use. A process has one instance."""

    def __init__(
        self,
        settings: Settings,
        metadata: Metadata,
        blobs: Blobs,
        metrics: ProcessMetrics,
        places: Places,
        rooms: Rooms,
        queues: Queues,
    ):
        self._settings, self._metadata, self._blobs, self._metrics = settings, metadata, blobs, metrics
        self._places, self._rooms, self._queues = places, rooms, queues
        self._shard_sizes = ShardSizes(settings, metadata)
        self._process = secrets.token_hex(8)
        self._suspects = asyncio.Lock()
        super().__init__(config_name=WORK_NAME)

    def leave(self) -> None:
        """Note that the process ends in good order, so that no step is taken to have killed it."""
        with suppress(StorageError):
            self._metadata.attempts.leave(self._process)

    @DBOS.workflow(name="conversion", max_recovery_attempts=ATTEMPTS)
    async def conversion(self, id: str) -> None:
        """Convert, and evaluate if the request says so."""
        job = await self._begin(id)
        if job is None:
            return
        options, tenant = given_options(job), job["tenant"]
        files = named_files(job["inputs"])
        arguments = {"model": files["model"], "options": options}
        if "calibration" in files:
            arguments["calibration"] = files["calibration"]
        inputs = {files[name]: job["inputs"][files[name]] for name in ("model", "calibration") if name in files}
        outcome = await self._convert(id, tenant, arguments, inputs, job["observed"])
        if outcome.error is None and "evaluation" in files:
            converted = outcome
            given = {
                files["model"]: job["inputs"][files["model"]],
                files["evaluation"]: job["inputs"][files["evaluation"]],
                "snn/snn.onnx": converted.files["snn.onnx"],
            }
            asked = {name: options[name] for name in EVALUATION_OPTIONS if name in options}
            named = {"ann": files["model"], "snn": "snn/snn.onnx", "dataset": files["evaluation"], "options": asked}
            found = await self._evaluate(id, tenant, named, given, job["shards"])
            result = {**converted.result, "evaluation": found.result}
            outcome = TaskOutcome(result, {**converted.files, **found.files}, found.error)
        await self._finish(id, outcome.to_json())

    @DBOS.workflow(name="evaluation", max_recovery_attempts=ATTEMPTS)
    async def evaluation(self, id: str) -> None:
        """Compare two networks."""
        job = await self._begin(id)
        if job is None:
            return
        files = named_files(job["inputs"])
        arguments = {
            "ann": files["ann"],
            "snn": files["snn"],
            "dataset": files["dataset"],
            "options": given_options(job),
        }
        found = await self._evaluate(id, job["tenant"], arguments, job["inputs"], job["shards"])
        await self._finish(id, TaskOutcome({"evaluation": found.result}, found.files, found.error).to_json())

    @DBOS.workflow(name="sweep", max_recovery_attempts=ATTEMPTS)
    async def sweep(self, id: str) -> None:
        """Convert and evaluate many combinations."""
        job = await self._begin(id)
        if job is None:
            return
        files, options = named_files(job["inputs"]), given_options(job)
        model = {files["model"]: job["inputs"][files["model"]]}
        outcome = await self._task(id, "sweep_settings", {"model": files["model"], "options": options}, model)
        if outcome.error is None:
            rows = outcome.result["settings"]
            order = outcome.result.get("order", range(len(rows)))  # sweeps that began before 0043 have none recorded
            each = ({**files, "options": {**options, **rows[place]}} for place in order)
            parts = await self._split(id, job["tenant"], "sweep_shard", each, len(rows), job["inputs"], "conversions")
            if not parts[-1].error:
                parts = [parts[order.index(place)] for place in range(len(rows))]
            outcome = await self._reduce(id, "reduce_sweep", parts)
        await self._finish(id, outcome.to_json())

    @DBOS.workflow(name="ranking", max_recovery_attempts=ATTEMPTS)
    async def ranking(self, id: str) -> None:
        """Rank the sites of a network."""
        job = await self._begin(id)
        if job is not None:
            arguments = {**named_files(job["inputs"]), "options": given_options(job)}
            await self._finish(id, (await self._task(id, "rank", arguments, job["inputs"])).to_json())

    @DBOS.workflow(name="search", max_recovery_attempts=ATTEMPTS)
    async def search(self, id: str) -> None:
        """Try settings until the cheapest network within the loss is known, and convert it."""
        job = await self._begin(id)
        if job is not None:
            arguments = {**named_files(job["inputs"]), "options": given_options(job)}
            await self._finish(id, (await self._search(id, job["tenant"], arguments, job["inputs"])).to_json())

    @DBOS.workflow(name=SHARD, max_recovery_attempts=ATTEMPTS)
    async def shard(self, id: str, task: str, arguments: JSON, inputs: dict[str, str]) -> JSON:
        """One part of job `id`."""
        return (await self._task(id, task, arguments, inputs)).to_json()

    async def _convert(
        self, id: str, tenant: str, arguments: JSON, inputs: Mapping[str, str], cut: Sequence[int]
    ) -> TaskOutcome:
        """Run the conversion.

        The original network runs on its calibration data in shards where the samples are many.
        """
        if not cut:
            return await self._task(id, "convert", arguments, inputs)
        each = ({**arguments, "start": start, "stop": stop} for start, stop in spans(*cut))
        parts = await self._split(id, tenant, "observe", each, count(*cut), inputs, "running the network")
        if parts[-1].error:
            return parts[-1]
        observed = part_files("observed", "part.npz", parts)
        return await self._task(id, "convert", {**arguments, "observed": list(observed)}, {**inputs, **observed})

    async def _search(self, id: str, tenant: str, arguments: JSON, inputs: Mapping[str, str]) -> TaskOutcome:
        """Run the search: trial after trial, with the facts that the first task measured."""
        trials: list[JSON] = []
        facts: dict[str, str] = {}
        while True:
            known = {**arguments, "trials": trials, "facts": list(facts)}
            step = await self._task(id, "search_next", known, {**inputs, **facts})
            if step.error:
                return step
            facts = {"facts/facts.json": step.files["facts.json"]}
            known["facts"], files = list(facts), {**inputs, **facts}
            if "ended" in step.result:
                ended = await self._task(id, "search_finish", known, files)
                if not ended.error or ended.error.type != "goal":
                    return ended
                report = await self._task(id, "search_report", known, files)
                return TaskOutcome(files=report.files, error=ended.error)
            await DBOS.write_stream_async(EVENTS, progress_event("trials", len(trials), len(trials) + 1))
            each = [{**known, **step.result}]
            (trial,) = await self._split(id, tenant, "search_trial", each, 1, files, "trials", first=len(trials))
            if trial.error:
                return trial
            trials.append(trial.result)

    async def _evaluate(
        self, id: str, tenant: str, arguments: JSON, inputs: Mapping[str, str], cut: Sequence[int]
    ) -> TaskOutcome:
        """Run the evaluation: at once, or in shards whose results are put together in the order of the samples."""
        if not cut:
            return await self._task(id, "evaluate", arguments, inputs)
        each = ({**arguments, "start": start, "stop": stop, "measure": start == 0} for start, stop in spans(*cut))
        parts = await self._split(id, tenant, "evaluate_shard", each, count(*cut), inputs, "shards")
        return await self._reduce(id, "reduce_shards", parts)

    async def _split(
        self,
        id: str,
        tenant: str,
        task: str,
        each: Iterable[JSON],
        count: int,
        inputs: Mapping[str, str],
        stage: str,
        first: int = 0,
    ) -> list[TaskOutcome]:
        """Run shards on whichever workers are free; their outcomes, in order. An error ends all, and is the last.

        each: the arguments of each shard, read as there is room for more: AHEAD shards wait or run at a time.
        first: the number of the first one, where a job has more shards of the task.
        """
        self._places.forgo(id)
        left, waiting = enumerate(each, first), deque[WorkflowHandleAsync[JSON]]()

        async def send(number: int, arguments: JSON) -> None:
            with SetWorkflowID(f"{id}-{task}-{number}"), SetEnqueueOptions(queue_partition_key=tenant):
                waiting.append(await DBOS.enqueue_workflow_async(SHARDS, self.shard, id, task, arguments, dict(inputs)))
                self._places.wake()

        for number, arguments in islice(left, AHEAD):
            await send(number, arguments)
        await DBOS.write_stream_async(EVENTS, progress_event(stage, 0, count))
        parts: list[TaskOutcome] = []
        while waiting:
            found = await waiting.popleft().get_result(polling_interval_sec=POLL_SECONDS)
            parts.append(TaskOutcome.from_json(found))
            if parts[-1].error:
                for other in waiting:
                    await DBOS.cancel_workflow_async(other.get_workflow_id())
                break
            for number, arguments in islice(left, 1):
                await send(number, arguments)
            await DBOS.write_stream_async(EVENTS, progress_event(stage, len(parts), count))
        return parts

    async def _reduce(self, id: str, task: str, parts: Sequence[TaskOutcome]) -> TaskOutcome:
        """Put together what the shards made."""
        if parts[-1].error:
            return parts[-1]
        files = part_files("parts", "part.json", parts)
        return await self._task(id, task, {"parts": list(files)}, files)

    async def _task(self, id: str, task: str, arguments: JSON, inputs: Mapping[str, str]) -> TaskOutcome:
        try:
            return TaskOutcome.from_json(await self._run(id, task, arguments, dict(inputs)))
        except UnwantedError as error:
            return TaskOutcome(error=fault_of(error))
        except Exception as error:
            log.exception("task %s of %s failed", task, id)
            return TaskOutcome(error=fault_of(error))

    @DBOS.step()
    async def _run(self, id: str, task: str, arguments: JSON, inputs: dict[str, str]) -> JSON:
        """Run a task in a place of this process: again where its failure may pass, and only while its job wants it."""
        workflow = str(DBOS.workflow_id)
        tenant = await patiently(lambda: asyncio.to_thread(self._metadata.jobs.tenant_of, id))
        if tenant is None:
            self._places.forgo(workflow)
            raise UnwantedError(f"{id} is over")

        async def report(text: str) -> None:
            await DBOS.write_stream_async(EVENTS, {"event": "log", "text": text})

        kills = 0

        async def attempt() -> JSON:
            nonlocal kills
            async with self._suspect(workflow) as deaths:
                work = partial(self._attempt, id, workflow, tenant, task, arguments, inputs, deaths)
                outcome = await self._places.run(tenant, "task", work, workflow=workflow)
            if outcome.by_system and outcome.error and kills < KILLS:  # perhaps for what others use
                kills += 1
                await asyncio.sleep(kills * KILLED_PAUSE)
                raise ShortageError(outcome.error.what, outcome.error.remedy)
            return outcome.to_json()

        def wanted() -> bool:
            return self._metadata.jobs.tenant_of(id) is not None and self._queues.is_ours(workflow)

        with job_context(id):
            return await while_wanted(patiently(attempt, report, self._patience), wanted)

    @asynccontextmanager
    async def _suspect(self, workflow: str) -> AsyncIterator[int]:
        """How often the process died in this step.

        Steps in which it died take turns, so that a step which kills its process takes no other one with it again.
        """
        deaths = await asyncio.to_thread(self._metadata.attempts.deaths, workflow, self._process)
        async with self._suspects if deaths else nullcontext():
            yield deaths

    async def _attempt(
        self, id: str, workflow: str, tenant: str, task: str, arguments: JSON, inputs: dict[str, str], deaths: int
    ) -> TaskOutcome:
        """Run a task with a row that says so while it runs: a row that is left after a crash counts as a death."""
        attempts = self._metadata.attempts
        with self._metrics.task(task) as tally:
            if deaths < self._settings.job_deaths:
                await asyncio.to_thread(attempts.begin, workflow, id, self._process, deaths)
                try:
                    outcome = await self._attempted(id, workflow, tenant, task, arguments, inputs)
                finally:
                    with suppress(StorageError):
                        await asyncio.shield(asyncio.to_thread(attempts.end, workflow, self._process))
            else:
                outcome = TaskOutcome(error=deadly(deaths))
            tally.ended(outcome.error.type if outcome.error else "succeeded")
        return outcome

    async def _attempted(
        self, id: str, workflow: str, tenant: str, task: str, arguments: JSON, inputs: dict[str, str]
    ) -> TaskOutcome:
        async with Account(self._metadata, self._blobs, tenant, self._settings.quota, id) as account:
            outcome = await run_task(
                task,
                with_threads(arguments, self._settings.job_threads),
                inputs,
                settings=self._settings,
                blobs=self._blobs,
                rooms=self._rooms,
                keep=account.store_all,
                publish=lambda event: DBOS.write_stream_async(EVENTS, event),
                job=id if task in SHARING else "",
                wanted=lambda: self._metadata.jobs.tenant_of(id) is not None,
            )
            if outcome.files:
                step = workflow.removeprefix(f"{id}-") if workflow != id else task
                kept = {f"{step}/{name}": digest for name, digest in outcome.files.items()}
                await asyncio.to_thread(self._metadata.jobs.pin, id, kept)
            return outcome

    @DBOS.step()
    async def _begin(self, id: str) -> JSON | None:
        job = await patiently(lambda: asyncio.to_thread(self._start, id), within=self._patience)
        if job is None:
            self._places.forgo(id)
            return None
        await DBOS.write_stream_async(EVENTS, {"event": "state", "state": "running"})
        sizes = await patiently(lambda: asyncio.to_thread(self._shard_sizes.of, job), within=self._patience)
        return {"tenant": job.tenant, "request": dict(job.request), "inputs": dict(job.inputs), **sizes}

    def _start(self, id: str) -> JobRecord | None:
        """Start the job and return it; None if it is over."""
        try:
            job = self._metadata.jobs.start(id)
        except NotFoundError:
            return None
        return job if job.state == "running" else None

    @DBOS.step()
    async def _finish(self, id: str, outcome: JSON) -> None:
        found = TaskOutcome.from_json(outcome)

        def finish() -> JobRecord | None:
            try:
                return self._metadata.jobs.finish(
                    id,
                    "failed" if found.error else "succeeded",
                    result=None if found.error else found.result,
                    error=found.error.to_json() if found.error else None,
                    artifacts=found.files,
                    expires=self._settings.result_expiry(datetime.now(UTC)),
                )
            except NotFoundError:  # cancelled and deleted meanwhile
                return None

        with job_context(id):
            job = await patiently(lambda: asyncio.to_thread(finish), within=self._patience)
            if job is None:
                return
            self._metrics.job(job)
            with suppress(StorageError):  # housekeeping does it as well
                await asyncio.to_thread(settle, self._metadata, self._blobs, job.tenant)
            log.info("job %s: %s", id, job.state, extra={"state": job.state, "error": outcome["error"]})
        await DBOS.write_stream_async(EVENTS, {"event": "state", "state": job.state, "error": job.error})
        asyncio.get_running_loop().call_later(POLL_SECONDS, self._places.wake)  # the tenant may begin another one

    @property
    def _patience(self) -> float | None:
        """Seconds for which a step waits for what is missing; None for ever."""
        return self._settings.result_ttl_hours * 3600 or None
