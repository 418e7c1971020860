"""The built-in example: a small network and its data, copied to the caller's models and datasets."""

import asyncio
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi import Path as InPath

from service.api.context import ServiceDependency, Tenant, problems
from service.api.intake import create_from_file
from service.api.responses import ExampleAnswer
from service.api.strictness import StrictRoute
from service.problems import ProblemError
from service.storage.records import ObjectKind

router = APIRouter(prefix="/v1/examples", tags=["examples"], route_class=StrictRoute)
FILES: dict[str, tuple[ObjectKind, str]] = {
    "model": ("model", "fashion_mnist.onnx"),
    "calibration": ("dataset", "calibration.npz"),
    "evaluation": ("dataset", "evaluation.npz"),
}
Example = Annotated[Literal["fashion-mnist"], InPath(description="Which example.")]


@router.post(
    "/{example}",
    response_model=ExampleAnswer,
    summary="Take the built-in example",
    responses=problems("not-found", "storage-quota"),
)
async def take(request: Request, example: Example, service: ServiceDependency, tenant: Tenant) -> ExampleAnswer:
    """A convolutional network and images of Fashion-MNIST, as a model and two datasets of the caller."""
    folder = _folder()

    async def copied(kind: ObjectKind, name: str) -> str:
        stored, _ = await create_from_file(request, service, tenant, kind, folder / name, f"example:{example}")
        return stored.id

    ids = await asyncio.gather(*(copied(*file) for file in FILES.values()))
    return ExampleAnswer(**dict(zip(FILES, ids, strict=True)))


@cache
def _folder() -> Path:
    """Where the example is: beside the code in an installed package, in examples/ in a checkout. Problem: not-found."""
    here = Path(__file__).resolve().parents[1]
    for folder in (here / "examples" / "fashion_mnist", here.parent / "examples" / "fashion_mnist"):
        if all((folder / name).is_file() for _, name in FILES.values()):
            return folder
    raise ProblemError("not-found", "the example is not part of this installation", "upload a model of your own")
