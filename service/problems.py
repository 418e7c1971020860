"""Every way in which the service says no, as RFC 9457 problem documents.

A problem has a stable `type` (`/problems/<slug>`), a `title`, a `status`, what happened (`detail`), what to do about it
(`remedy`) and, where there is one, the failing field or node (`where`). The error of a failed job has the same slugs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """One line of PROBLEMS: the status of HTTP, a title, and when it happens."""

    status: int
    title: str
    when: str


PROBLEMS: Mapping[str, Kind] = {
    # the request
    "malformed-request": Kind(400, "The request cannot be read", "broken HTTP, or a body that is cut short"),
    "slow-request": Kind(408, "The request came too slowly", "a head or body that takes longer than the service waits"),
    "head-too-large": Kind(431, "The head of the request is too large", "more than 16 KiB of request line and headers"),
    "unauthorized": Kind(401, "A valid key is needed", "no key, an unknown key, or a revoked one"),
    "storage-quota": Kind(403, "The tenant's storage is used up", "an upload or job for which there is no more room"),
    "not-found": Kind(404, "There is no such object", "an unknown id, one of another tenant, or one that has expired"),
    "method-not-allowed": Kind(405, "This method is not supported here", "a method that the resource does not have"),
    "not-ready": Kind(409, "The job has no such result", "an artifact, plan or report that the job has not made"),
    "not-finished": Kind(409, "The job is not finished", "deleting a job that waits or runs: cancel it first"),
    "idempotency-conflict": Kind(409, "The idempotency key was used for another request", "same key, other body"),
    "upload-offset": Kind(409, "The upload has another offset", "a PATCH with another Upload-Offset than the upload"),
    "no-worker": Kind(409, "No worker can do this", "a job for a GPU while no worker listens to the queue gpu"),
    "upload-incomplete": Kind(409, "The upload is not complete", "using an upload before its last byte has arrived"),
    "precondition": Kind(412, "The file has changed", "an If-Match without any of its entity tags"),
    "tus-version": Kind(412, "This version of tus is not supported", "a Tus-Resumable other than 1.0.0"),
    "too-large": Kind(413, "The body is too large", "a body or upload larger than the service or the resource accepts"),
    "media-type": Kind(415, "This media type is not accepted here", "a PATCH or a body of another type, or compressed"),
    "range": Kind(416, "The range is outside the file", "a Range that starts behind the last byte"),
    "invalid-request": Kind(422, "The request does not fit", "a field or parameter that is missing, wrong or unknown"),
    "rate-limited": Kind(429, "Too many requests", "too many requests of a key; Retry-After says when to try again"),
    "too-many-at-once": Kind(429, "Too many at once", "more requests, event streams or connections than allowed"),
    "queue-quota": Kind(429, "Too many unfinished jobs", "a tenant with as many queued jobs as it may have"),
    # what was uploaded, and what came of it
    "invalid-model": Kind(422, "The model is broken", "a file that is no ONNX model, or a broken one"),
    "unsupported-model": Kind(422, "The model is not supported", "a valid model that graphpass refuses"),
    "invalid-data": Kind(422, "The data does not fit", "a dataset that is broken or does not fit the model"),
    "invalid-options": Kind(422, "The options are not possible", "options that contradict each other or the model"),
    "coverage": Kind(422, "A site could not be converted", "a site that should become spiking but cannot"),
    "goal": Kind(422, "Nothing is good enough", "a search without a trial within the allowed loss"),
    "calibration": Kind(422, "Calibration failed", "values that no neuron can be fitted to"),
    "plan": Kind(422, "The plan does not fit", "a plan that is broken or belongs to another model"),
    "verification": Kind(422, "The forms disagree", "two forms of one network that do not agree"),
    "memory-limit": Kind(422, "It needs too much memory", "a model or data that exceeds the sandbox's memory"),
    "time-limit": Kind(422, "It takes too long", "a job that exceeds the sandbox's time"),
    "output-limit": Kind(422, "It writes too much", "a job that exceeds the sandbox's file sizes"),
    "crashed": Kind(422, "The sandbox crashed", "a model that makes a library crash"),
    "worker-died": Kind(500, "The worker died", "a job with more than one death of its process in one step"),
    # the service
    "internal": Kind(500, "The service failed", "an error in the service, which is in the log under the request's id"),
    "unavailable": Kind(503, "The service is not available now", "no database or store, disk or connections full"),
}  # fmt: skip


@dataclass(frozen=True)
class JobError:
    """Why a job failed, as its row keeps it: a slug of PROBLEMS, what, remedy, and the node or file where known."""

    type: str
    what: str
    remedy: str = ""
    where: str = ""

    def to_json(self) -> dict[str, str]:
        """The JSON form kept in the job's row."""
        return {"type": self.type, "what": self.what, "remedy": self.remedy, "where": self.where}


class ProblemError(Exception):
    """Raised anywhere below a route; the answer is its problem document."""

    def __init__(
        self,
        slug: str,
        detail: str,
        remedy: str = "",
        *,
        where: str = "",
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(detail)
        self.slug, self.detail, self.remedy, self.where = slug, detail, remedy, where
        self.errors, self.headers = tuple(errors), dict(headers or {})

    @property
    def status(self) -> int:
        """The status of HTTP that goes with the slug."""
        return PROBLEMS[self.slug].status

    def document(self, request_id: str = "") -> dict[str, Any]:
        """The problem document; `request_id` is what the log knows the request by."""
        kind = PROBLEMS[self.slug]
        found: dict[str, Any] = {
            "type": f"/problems/{self.slug}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
        }
        for name, value in (("remedy", self.remedy), ("where", self.where), ("request_id", request_id)):
            if value:
                found[name] = value
        if self.errors:
            found["errors"] = [dict(error) for error in self.errors]
        return found


def not_found(what: str) -> ProblemError:
    """The problem of an unknown id, and of one that belongs to another tenant: both look the same."""
    return ProblemError("not-found", f"there is no {what}", "list the objects, or check the id")


def too_large(most: int) -> ProblemError:
    """The problem of a body of more than `most` bytes. The connection is closed, since the rest is not read."""
    return ProblemError("too-large", f"at most {most:,} bytes are accepted here", "send less")


def ended_early(remedy: str = "send it again") -> ProblemError:
    """The problem of a caller who goes away before the end of a body."""
    return ProblemError("malformed-request", "the body ended early", remedy)


def too_many(most: int, what: str) -> ProblemError:
    """The problem of a caller who has as many requests or streams under way as are allowed."""
    return ProblemError(
        "too-many-at-once",
        f"at most {most} {what} are answered at a time",
        "wait for the answers to other requests",
        headers={"Retry-After": "1"},
    )
