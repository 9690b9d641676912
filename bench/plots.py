"""Two pictures of the evidence, for the README: odds over time in five rollouts, and delay against the size
of what is wrong.

    python -m bench.plots

Written as SVG, the same bytes for the same measurements: no date, and ids by a fixed salt.
"""

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.curve import CASES as CURVE
from bench.power import limits_of
from bench.results import MEASURED, Entry, Results
from bench.rollouts import Outcome, a_policy, roll_out, rolling
from bench.running import service
from canaryd.simulation.simulated_service import Scenario

BAR = 100.0  # odds at which a version is rolled back
LEAST_ODDS = 1e-3  # shown
STYLE = {
    "svg.hashsalt": "canaryd",
    "svg.fonttype": "none",
    "font.size": 11.0,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
FIVE = {
    "healthy": (Scenario(errors=0.01), "#3a7d44", "-"),
    "errors 1% to 2%": (Scenario(errors=0.01, canary_errors=2.0), "#e09f3e", "-"),
    "errors 1% to 3%": (Scenario(errors=0.01, canary_errors=3.0), "#c1121f", "-"),
    "1% to 4% after five minutes": (
        Scenario(errors=0.01, canary_errors=4.0, fault_begins=300.0),
        "#5f0f70",
        "--",
    ),
    "latency 1.5 times": (Scenario(errors=0.01, canary_latency=1.5), "#1f77b4", "-"),
}
WATCHED = 90  # looks: a quarter of an hour


def odds_over_time() -> Figure:
    """Five rollouts with the same seed, each until its end, or until full weight."""
    figure = Figure(figsize=(8.4, 4.4), layout="constrained")
    axes = figure.add_subplot(
        xlabel="minutes since the canary got its first traffic",
        ylabel="odds against the canary",
        yscale="log",
    )
    highest = BAR
    for name, (world, colour, line) in FIVE.items():
        outcome = _watched(world)
        compared = [(at / 60, max(odds, LEAST_ODDS)) for at, weight, odds in outcome.path if weight < 100]
        minutes, odds = zip((0.0, 1.0), *compared, strict=True)
        highest = max(highest, *odds)
        axes.plot(minutes, odds, line, color=colour, linewidth=1.8, label=name)
        axes.plot(minutes[-1:], odds[-1:], "o" if outcome.rolled_back else ">", color=colour, markersize=7)
    axes.axhline(BAR, color="black", linewidth=1)
    axes.annotate(
        "rolled back at 100 to 1",
        (1.0, BAR),
        xycoords=("axes fraction", "data"),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
    )
    figure.legend(loc="outside lower center", ncols=3)
    axes.set_ylim(bottom=0.05, top=highest * 4)
    axes.set_xlim(left=0, right=axes.get_xlim()[1] * 1.3)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"1/{1 / value:,.0f}")
    axes.set_title(
        "Five versions at 50 requests/s, judged every 10 s: a dot is a rollback, an arrow full weight",
        loc="left",
        fontsize=11,
    )
    return figure


def _watched(world: Scenario) -> Outcome:
    return roll_out(
        [
            rolling(
                service(world, "five versions", 2),
                longest=WATCHED,
                policy=a_policy(world.interval),
                path=True,
            )
        ]
    )[0]


def delay_by_effect(entries: dict[str, Entry]) -> Figure:
    """From the part `curve`: canary requests until the rollback over how many times stable's error rate, and
    the least of any test."""
    figure = Figure(figsize=(8.4, 4.4), layout="constrained")
    axes = figure.add_subplot(
        xlabel="the canary's error rate over stable's (1%)",
        ylabel="canary requests until rolled back",
        xscale="log",
        yscale="log",
    )
    rows = [(CURVE[name].world.canary_errors, entry) for name, entry in entries.items()]
    ratios = [ratio for ratio, _ in rows]
    per_second = Scenario().requests * 0.1
    shown = [
        (ratio, entry["median"] * per_second, entry["by_90"] * per_second)
        for ratio, entry in rows
        if entry["by_90"] is not None
    ]
    axes.fill_between(
        [point[0] for point in shown],
        [point[1] for point in shown],
        [point[2] for point in shown],
        color="#1f77b4",
        alpha=0.2,
        label="canaryd, median to 90%",
    )
    axes.plot(
        ratios, [entry["requests_mean"] for _, entry in rows], "o-", color="#1f77b4", label="canaryd, mean"
    )
    limits, tolerant = zip(*(limits_of(CURVE[name]) for name in entries), strict=True)
    axes.plot(ratios, tolerant, "--", color="#c1121f", label="least of any test that tolerates as much")
    axes.plot(ratios, limits, "-", color="black", linewidth=1.2, label="least of any test")
    axes.set_xticks(ratios, [f"{ratio:g}×" if ratio != 1.75 else "" for ratio in ratios])
    axes.minorticks_off()
    seconds = axes.secondary_yaxis(
        "right", functions=(lambda n: n / per_second / 60, lambda m: m * per_second * 60)
    )
    seconds.set_ylabel("minutes at weight 10, 50 requests/s")
    seconds.minorticks_off()
    seconds.set_yticks([0.25, 0.5, 1, 2, 5, 10, 30], ["¼", "½", "1", "2", "5", "10", "30"])
    axes.legend()
    axes.set_title("How soon a worse version is rolled back, and how soon that could be at best", loc="left")
    return figure


def draw(results: Results) -> list[Path]:
    """Both pictures, beside the results; the second only where the curve was measured."""
    folder = results.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figures = {"odds.svg": odds_over_time()}
        if results.entries.get("curve"):
            figures["delay.svg"] = delay_by_effect(results.entries["curve"])
        for name, figure in figures.items():
            figure.savefig(folder / name, metadata={"Date": None, "Creator": None})
    return [folder / name for name in figures]


def main() -> int:
    for path in draw(Results(MEASURED)):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
