"""A ranking of sites as text: its sites as rows, and the options that leave the worst of them analogue."""

import shlex

from graphpass.calibration.ranking import RankedSite, Ranking
from graphpass.report.cells import Cells
from graphpass.sites.sites import exactly
from graphpass.wording import counted

HEADER = ("site", "activation", "levels", "alone", "share", "without it")


def ranking_lines(ranking: Ranking) -> tuple[Cells, list[Cells]]:
    """A row for each site, the worst first: the errors of the outputs with its neurons alone, and with all others."""
    return HEADER, [_line(site) for site in ranking.sites]


def _line(site: RankedSite) -> Cells:
    share = f"{100 * site.share:.0f} %"
    return site.name, site.kind, str(site.levels), f"{site.alone:.3g}", share, f"{site.without:.3g}"


def caption(ranking: Ranking) -> str:
    """The error with all sites, and what it was measured with."""
    setting = (
        f"T = {ranking.time_steps} ({ranking.coding}), method {ranking.method}, {counted(ranking.samples, 'sample')}"
    )
    return f"error of the outputs {ranking.error:.3g} with all sites: {setting}"


def advice(ranking: Ranking) -> str:
    """The options that leave the worst sites analogue; "" where no site costs anything."""
    words = (word for name in ranking.exclude for word in ("--exclude", exactly(name)))
    return f"leave the worst analogue with {shlex.join(words)}" if ranking.exclude else ""
