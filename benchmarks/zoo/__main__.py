"""Convert, verify and measure the members of the zoo: `python -m benchmarks.zoo [NAME …] [--small] [--write]`.

Without names, all members. --write keeps results in benchmarks/zoo/results and writes docs/zoo.md from all results
there; a member with kept results is not measured again. --small: the members that take a few seconds, at phase T = 4
and rate T = 8, with an error if one loses more than it may; .ci/run does this.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

from benchmarks import networks
from benchmarks.zoo import files, page
from benchmarks.zoo.entry import SETTINGS, Entry, Result, load_result
from benchmarks.zoo.measure import CHECKED, measured
from benchmarks.zoo.members import MEMBERS
from benchmarks.zoo.times import prepare_models, timed
from graphpass.errors import GraphpassError

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
SMALL = (CHECKED, ("rate", 8))


def failures(entry: Entry, result: Result) -> list[str]:
    """The faults of a result: forms that disagree, and a loss larger than the member may have."""
    found = [f"refused: {result.refusal}"] if result.refusal else []
    for key, loses in zip(entry.variants, entry.loses, strict=True):
        variant = result.variants.get(key)
        if variant is None:
            continue
        row = variant.row(*CHECKED)
        if variant.verified and not variant.verified.agrees:
            found.append(f"{key or 'activations'}: the forms disagree")
        if row and (lost := entry.task.lost(result.ann, row.snn)) > loses:
            found.append(f"{key or 'activations'}: loses {lost:.2f} at phase T = 4, may lose {loses}")
    return found


def show(name: str, result: Result, seconds: float) -> None:
    """One line for each setting."""
    print(f"{name}: ANN {result.ann}, {result.evaluation} samples, {seconds:.0f} s {result.refusal}", flush=True)
    for key, variant in result.variants.items():
        covered = variant.covered
        share = f"{100 * covered.additions:.1f} % of MACs are additions"
        print(f"  {key or 'activations'}: {covered.sites} sites, {share}, {variant.verified}")
        for row in variant.rows:
            print(f"    {row}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEMBERS)}; default all")
    parser.add_argument("--small", action="store_true", help="the small members, two settings, with limits")
    parser.add_argument("--files", action="store_true", help="every ONNX file of the packages, on random inputs")
    parser.add_argument("--time", action="store_true", help="the times of members that were measured")
    parser.add_argument("--setting", metavar="CODING:T", help="only this one, as phase:4")
    parser.add_argument("--write", action="store_true", help="keep results in the repository and write docs/zoo.md")
    parser.add_argument("--threads", type=int, default=0, help="of the runtime; default all cores")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(MEMBERS)):
        parser.error(f"unknown name {unknown[0]!r}, choose from {', '.join(MEMBERS)}")
    if options.files:
        return every_file(options.threads, options.write)
    names = options.names or [name for name, entry in MEMBERS.items() if entry.small or not options.small]
    kept = RESULTS if options.write else None
    settings = [each for each in SETTINGS if options.setting in (None, f"{each[0]}:{each[1]}")]
    if not settings:
        parser.error(f"unknown setting {options.setting!r}, choose from {', '.join(f'{c}:{t}' for c, t in SETTINGS)}")
    wrong = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            entry, started = MEMBERS[name], time.perf_counter()
            try:
                if options.time:
                    known = load_result(RESULTS, name)
                    if known is None or known.refusal:
                        continue
                    refusals = prepare_models(name, entry, known, options.threads)
                    result = timed(name, entry, known, refusals, options.threads)
                    if kept:
                        result.save(kept)
                else:
                    result = measured(name, entry, SMALL if options.small else settings, kept, options.threads)
            except GraphpassError as error:
                print(f"{name}: {error}", file=sys.stderr)
                wrong += 1
                continue
            show(name, result, time.perf_counter() - started)
            for failure in failures(entry, result):
                print(f"{name}: {failure}", file=sys.stderr)
                wrong += 1
    if options.write:
        write_page()
    return 1 if wrong else 0


def every_file(threads: int, write: bool) -> int:
    """--files: all files without results. Exit status 1 where forms disagree."""
    found = list(files.load_files(RESULTS)[1]) if write else []
    known = {file.name for file in found}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, path in sorted(networks.native_networks().items()):
            if name in known:
                continue
            file = files.tried(name, path, threads)
            found.append(file)
            print(f"{file.name}: {file.layers} {file.converted}{file.refusal}", flush=True)
            if write:
                files.save(RESULTS, found)
    if write:
        write_page()
    return 1 if any("DISAGREE" in file.converted for file in found) else 0


def write_page() -> None:
    """Write docs/zoo.md from all results in benchmarks/zoo/results."""
    found = {name: load_result(RESULTS, name) for name in MEMBERS}
    text = page.page(MEMBERS, {name: result for name, result in found.items() if result}, *files.load_files(RESULTS))
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
