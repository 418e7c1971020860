"""`graphpass inspect`, `verify`, `inline`, `card`, `doctor`: networks looked at, forms compared, what is missing."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from graphpass.cli.options import (
    DATA_HELP,
    Ann,
    Coding,
    ConversionLimit,
    Exclude,
    IdentitySites,
    ImageMean,
    ImagePreset,
    ImageSize,
    ImageStd,
    Include,
    Key,
    Memory,
    MethodName,
    Preprocess,
    Seed,
    ServerOptions,
    ServerUrl,
    Snn,
    Threads,
    TimeSteps,
    VerifyLimit,
    options_of,
    require_images_read,
)
from graphpass.cli.terminal import axis_text, name_column, out, print_left, progress_bars, write
from graphpass.errors import OptionError, VerificationError
from graphpass.wording import counted


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(inspect)
    app.command()(verify)
    app.command()(inline)
    app.command()(card)
    app.command()(doctor)


def inspect(
    context: typer.Context,
    ann: Ann,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    calibration: Annotated[
        str | None,
        typer.Option(metavar="DATA", help=f"Calibrate on {DATA_HELP}, and rank the sites.", show_default=False),
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option(metavar="DATA", help="Measure errors on this data instead.", show_default=False)
    ] = None,
    time_steps: TimeSteps = None,
    coding: Coding = None,
    method: MethodName = None,
    limit: ConversionLimit = None,
    include: Include = None,
    exclude: Exclude = None,
    identity_sites: IdentitySites = False,
    seed: Seed = None,
    memory_budget: Memory = None,
    threads: Threads = None,
    preset: ImagePreset = None,
    preprocess: Preprocess = None,
    image_size: ImageSize = None,
    mean: ImageMean = None,
    std: ImageStd = None,
    server: ServerUrl = None,
    key: Key = None,
) -> None:
    """Show what a network holds, where neurons would go, and what would stay analogue and why.

    With calibration data, it also ranks the sites by the accuracy that they cost. With --server, it does only this.
    """
    options = options_of("inspect", context, locals())
    from graphpass import api
    from graphpass.network import identity_sites_add

    if calibration:
        require_images_read(options, calibration, evaluation)
    if server is not None and calibration:
        from graphpass.cli import remote

        there = ServerOptions(server, key or "")
        _print_ranking_of(remote.rank(there, ann, calibration, evaluation, options), as_json)
        return
    with progress_bars() as progress:
        found = api.inspect(ann, calibration, evaluation, **options, allow_code=True, progress=progress)
    if as_json:
        write(json.dumps(found.to_json(), indent=1, default=str) + "\n")
        return
    size = f"{counted(found.nodes, 'node')}, {counted(found.parameters, 'weight')}"
    out.print(f"{found.path}: opset {found.opset}, {size}")
    for name, kind, shape in found.inputs:
        out.print(f"input {name}: {kind} {list(shape)}")
    out.print(f"outputs {', '.join(found.outputs)}")
    out.print(f"spikes reach {found.spiking_layers} of {counted(found.weight_layers, 'weight layer')}")
    if more := found.with_identity_sites:
        out.print(identity_sites_add(more.added, more.spiking_layers, found.weight_layers))
    _print_sites(found)
    print_left(found.left)
    if found.ranking:
        _print_ranking(found.ranking)
    if found.misses:
        title = f"{counted(len(found.misses), 'place')} where a rule almost applied"
        misses = Table(name_column("node"), "rule", "because", title=title)
        for miss in found.misses:
            misses.add_row(miss.node, miss.rule, miss.reason)
        out.print(misses)


def _print_sites(found: Any) -> None:
    if not found.sites:
        out.print(f"no sites, nothing to convert{'' if found.weight_layers else ': the network has no weight layer'}")
        return
    title = counted(len(found.sites), "site")
    table = Table(name_column("site"), "activation", "channels", name_column("feeds"), title=title)
    for site in found.sites:
        table.add_row(site.name, site.kind, axis_text(site.axis), ", ".join(site.layers))
    out.print(table)


def _print_ranking_of(document: Mapping[str, Any], as_json: bool) -> None:
    """A ranking that a service made, as JSON or as a table."""
    from graphpass.calibration.ranking import Ranking
    from graphpass.records import record_of

    if as_json:
        write(json.dumps(document, indent=1) + "\n")
        return
    _print_ranking(record_of(Ranking, document, number=lambda value, _: math.nan if value is None else float(value)))


def _print_ranking(ranking: Any) -> None:
    """The sites by the errors that they cause, and the options that leave the worst ones analogue."""
    from graphpass.report.ranking import advice, caption, ranking_lines

    header, rows = ranking_lines(ranking)
    table = Table(name_column(header[0]), *header[1:], title=caption(ranking))
    for row in rows:
        table.add_row(*row)
    out.print(table)
    if text := advice(ranking):
        out.print(text, soft_wrap=True)


def verify(
    context: typer.Context,
    snn: Snn,
    data: Annotated[
        str, typer.Option("--data", metavar="DATA", help=f"{DATA_HELP}; labels are not needed.", show_default=False)
    ],
    limit: VerifyLimit = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDED.onnx", help="The folded form of an integer SNN, from the same plan.", show_default=False
        ),
    ] = None,
    threads: Threads = None,
    preset: ImagePreset = None,
    preprocess: Preprocess = None,
    image_size: ImageSize = None,
    mean: ImageMean = None,
    std: ImageStd = None,
) -> None:
    """Prove on data that the folded form, the unrolled form and the neuron's definition agree, count by count.

    An integer SNN is compared with --reference FOLDED.onnx: int8 weights make some counts differ, which is reported.
    """
    options = options_of("verify", context, locals())
    require_images_read(options, data)
    from graphpass import api
    from graphpass.verification.integer import Flips

    found = api.verify(snn, data, reference=reference, **options, allow_code=True)
    if isinstance(found, Flips):
        _print_flips(found)
        return
    figures = ("counts", "flips", "unexplained", "largest difference", "bound")
    table = Table(name_column("site"), *figures, title="folded against unrolled")
    for site in found.sites:
        table.add_row(
            site.name,
            f"{site.neurons:,}",
            str(site.flips),
            str(site.unexplained),
            f"{site.largest_difference:.2e}",
            f"{site.bound:.2e}",
        )
    out.print(table)
    out.print(
        f"{counted(found.samples, 'sample')}, T = {found.time_steps} ({found.coding}): "
        f"{counted(found.definition_mismatches, 'count')} and {counted(found.train_mismatches, 'train')} differ from "
        f"the definition; outputs differ by {found.output_difference:.2e}, "
        f"{found.output_bound:.2e} can be rounding",
        soft_wrap=True,
    )
    if not found.agrees:
        raise VerificationError(f"{snn}: the forms of this network do not agree", "see the table above; report this")
    out.print("the forms agree")


def inline(
    snn: Snn,
    target: Annotated[
        Path, typer.Argument(metavar="OUT.onnx", help="The file to write the inlined network to.", show_default=False)
    ],
) -> None:
    """Write a copy with the function bodies inlined, for runtimes without local functions."""
    from graphpass import api

    api.inline(snn, target)
    out.print(f"{target}")


def card(
    snn: Snn,
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="CARD.md", help="The file to write. Without it, the card is printed.", show_default=False
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="E.json", help="The file of `evaluate --json` for this network.", show_default=False),
    ] = None,
) -> None:
    """Write the model card of a converted network in Markdown: settings, digests, figures, sites, limits."""
    from graphpass import api

    written = api.card(snn, figures, target)
    if target is None:
        write(written)
    else:
        out.print(f"{target}")


def doctor() -> None:
    """Show versions, what runs on each execution provider, and what is missing, with how to get it."""
    from graphpass.cli.doctor import doctor as found_here

    table = Table("what", "found", "remedy")
    problems = 0
    for finding in found_here():
        table.add_row(finding.what, finding.found, finding.remedy)
        problems += finding.broken
    out.print(table)
    if problems:
        raise OptionError(f"doctor found {counted(problems, 'problem')}", "follow the remedies above")


def _print_flips(found: Any) -> None:
    table = Table(name_column("site"), "counts", "flips", "%", "largest", title="folded against integer")
    for site in found.sites:
        figures = (f"{site.counts:,}", f"{site.flips:,}", f"{100 * site.fraction:.2f}", str(site.largest))
        table.add_row(site.name, *figures)
    out.print(table)
    errors = ", ".join(f"{name} {error:.2e}" for name, error in found.outputs.items())
    out.print(
        f"{counted(found.samples, 'sample')}, T = {found.time_steps} ({found.coding}): "
        f"{100 * found.fraction:.2f} % of all counts differ; relative difference of outputs: {errors}",
        soft_wrap=True,
    )
