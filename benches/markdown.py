"""The report of `benches/compare`, computed from the saved results alone."""

from __future__ import annotations

from statistics import mean, median
from typing import Any

from implementations import ALL_OURS, OURS, OURS_RECOMPUTING

WHATS = {
    "supernet": "one weight step of the search",
    "network": "one training step of the derived network",
    "eval": "inference of the derived network",
}
BUSY = 0.2
"""Cores used by other programs above which the machine counts as busy. PyTorch's threads wait for
each other by spinning, so one that loses its core delays all."""
MORE_IS_BETTER = "images_per_second"
# Key, words for a row, words for a column, unit, factor to the unit.
MEASURES: list["Measure"] = [
    ("step_ms", "step", "step, ms", "ms", 1.0),
    ("forward_ms", "- forward", "forward, ms", "ms", 1.0),
    ("backward_ms", "- backward", "backward, ms", "ms", 1.0),
    ("optimizer_ms", "- optimizer", "optimizer, ms", "ms", 1.0),
    (MORE_IS_BETTER, "throughput (more is better)", "images/s", "images/s", 1.0),
    ("allocator_peak_bytes", "peak memory, by both allocators", "peak, MiB", "MiB", 2**-20),
    ("resident_peak_bytes", "peak memory, resident size", "resident, MiB", "MiB", 2**-20),
]

Measure = tuple[str, str, str, str, float]
Rounds = dict[str, dict[int, dict[str, Any]]]
"""Results by implementation and by round."""


def report(comparison: dict[str, Any]) -> list[str]:
    lines = ["# Performance against PyTorch", "", *head(comparison), ""]
    for what in comparison["conditions"]["what"]:
        rounds = by_implementation(what, comparison["results"])
        failures = [f for f in comparison["failures"] if f["what"] == what]
        lines += [f"## {what}: {WHATS[what]}", "", *ratios(rounds), ""]
        lines += ["Medians over the rounds:", "", *medians(rounds, failures), ""]
    return lines[:-1]


def by_implementation(what: str, results: list[dict[str, Any]]) -> Rounds:
    rounds: Rounds = {}
    for result in results:
        if result["what"] == what:
            rounds.setdefault(result["by"], {})[result["round"]] = result
    return rounds


def head(comparison: dict[str, Any]) -> list[str]:
    """The conditions of the measurement."""
    is_ = comparison["conditions"]
    results, failures = comparison["results"], comparison["failures"]
    batches = {r["what"]: r["batch"] for r in results}
    batch = ", ".join(f"{n} ({what})" for what, n in batches.items())
    if len(set(batches.values())) == 1:
        batch = str(results[0]["batch"])
    against = ", ".join(f"{name} {version}" for name, version in is_["versions"].items())
    network = "a mid-sized one of the space, from `benches/pytorch/arch.py`"
    if is_["network"]:
        network = f"that of `{is_['network']}`"
    lines = [
        f"Measured {is_['date']} at revision `{is_['revision']}` by `{is_['command']}`, which "
        "wrote this whole page.",
        "",
        f"- Machine: {is_['machine']}.",
        *others(results),
        f"- Threads: {is_['threads']}; batch {batch or 'unknown'}, {is_['steps']} timed steps per "
        f"round, {is_['rounds']} alternating rounds.",
        f"- Against: {against}.",
        f"- The derived network is {network}.",
        "- A ratio is ours divided by the best mode of PyTorch in that measure (in the last row, by "
        "our own step without recomputation), taken round by round. Below 1, ours needs less.",
    ]
    if is_["not_asked"]:
        lines.append(f"- Not measured: {', '.join(f'`{mode}`' for mode in is_['not_asked'])}.")
    if len(results) < is_["measurements"]:
        lines.append(f"- **Incomplete: {len(results)} of {is_['measurements']} measurements.**")
    for f in failures:
        lines.append(f"- **{f['by']} failed at {f['what']} in round {f['round']}:** {f['error']}")
    return [*lines, *(f"- {note}" for note in is_["notes"])]


def others(results: list[dict[str, Any]]) -> list[str]:
    """How much other programs used the machine."""
    cores = [result["others_cores"] for result in results]
    if not cores:
        return []
    line = (
        f"- Other programs used {mean(cores):.2f} cores on average and {max(cores):.2f} at most "
        "during the measurements."
    )
    busy = sum(c > BUSY for c in cores)
    if busy:
        line += f" **The machine was busy in {busy} of {len(cores)} measurements: do not use the "
        line += "times.**"
    return [line]


def ratios(rounds: Rounds) -> list[str]:
    """Ours against the best mode of PyTorch in each measure; with recomputed blocks also against
    our own step without."""
    lines = [
        "| measure | ours | other | which | ratio (median) | min | max |",
        "|---|--:|--:|---|--:|--:|--:|",
    ]
    for measure in MEASURES:
        lines += ratio(rounds, measure, OURS, best_mode(measure[0], rounds))
    for measure in MEASURES:
        if measure[0].endswith("_peak_bytes"):
            lines += ratio(rounds, measure, OURS_RECOMPUTING, best_mode(measure[0], rounds))
    lines += ratio(rounds, MEASURES[0], OURS_RECOMPUTING, OURS)
    return lines if len(lines) > 2 else ["Nothing to compare, see above."]


def ratio(rounds: Rounds, measure: Measure, who: str, other: str | None) -> list[str]:
    """The row of one measure, if both have it."""
    key, words, _, unit, factor = measure
    mine, theirs = rounds.get(who, {}), rounds.get(other or "", {})
    both = sorted(mine.keys() & theirs.keys())
    if not both or not middle(mine, key) or not middle(theirs, key):
        return []
    shares = [mine[n][key] / theirs[n][key] for n in both]
    values = (f"{middle(of, key) * factor:.4g} {unit}" for of in (mine, theirs))
    spread = f"{median(shares):.2f} | {min(shares):.2f} | {max(shares):.2f}"
    if who == OURS_RECOMPUTING:
        words = f"{words}, blocks recomputed"
    return [f"| {words} | {' | '.join(values)} | {other} | {spread} |"]


def best_mode(key: str, rounds: Rounds) -> str | None:
    """The mode with the best median, among those that have the measure."""
    found = {who: middle(of, key) for who, of in rounds.items() if who not in ALL_OURS}
    found = {who: value for who, value in found.items() if value}
    choose = max if key == MORE_IS_BETTER else min
    return choose(found, key=lambda who: found[who]) if found else None


def medians(rounds: Rounds, failures: list[dict[str, Any]]) -> list[str]:
    """The numbers of every implementation; failed ones are listed with the reason."""
    columns = " | ".join(column for _, _, column, _, _ in MEASURES)
    lines = [f"| by | {columns} |", "|---|" + "--:|" * len(MEASURES)]
    for who, of in rounds.items():
        values = ((middle(of, key), factor) for key, _, _, _, factor in MEASURES)
        cells = (f"{value * factor:.4g}" if value else "-" for value, factor in values)
        lines.append(f"| {who} | {' | '.join(cells)} |")
    for f in failures:
        reason = f["error"].replace("|", "\\|")
        rest = " |" * (len(MEASURES) - 1)
        lines.append(f"| {f['by']} | failed in round {f['round']}: {reason} |{rest}")
    return lines


def middle(of: dict[int, dict[str, Any]], key: str) -> float:
    """The median over rounds; zero if the implementation does not have the measure."""
    values = [result[key] for result in of.values()]
    return 0.0 if not values or None in values else median(values)
