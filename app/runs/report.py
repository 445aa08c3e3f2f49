"""What visualize.py says: what is about to run, and what its chains have come to."""

from pathlib import Path

import numpy as np

from app.console import warn

WORDS = {  # what a judgement of the diagnostics means
    "samples": "the chains have settled and agree: samples of the node's distribution",
    "settled": "the chain has settled; one alone cannot tell whether others would agree",
    "apart": "each chain has settled, but on pictures of its own: more --iterations may let them "
    "meet; until then they show modes, and not in what proportion",
    "still moving": "the scores still drift, so these are no samples yet: more --iterations",
    "stuck": "some chains never moved",
    "too few": "there are too few iterations to judge the chains by: raise --iterations",
}
# Of the table of diagnostics: {name: (head, width)}.
COLUMNS = {
    "acceptance": ("acceptance", 10),
    "energy_error": ("energy error", 12),
    "divergences": ("divergences", 11),
    "ess": ("ESS", 5),
    "rhat": ("R-hat", 5),
    "score": ("score", 8),
    "step_size": ("step size", 9),
    "judgement": ("judgement", 12),
}
ASCENT_COLUMNS = {
    "score": ("score", 8),
    "energy_change": ("energy change", 13),
    "step_size": ("step size", 9),
}


def announce(chains, run, device, predicted, flat):
    """Say what is about to run, and what is to be expected of it."""
    s = chains.settings
    print(
        f"{Path(s['net']).stem} {s['layer']}, {chains.units} x {s['chains']} chains on images of "
        f"{chains.network.input_shape}, q {s['reference']}, {device}"
        f"{', the textbook alone' if s['plain'] else ''}; in {run.path}"
    )
    if predicted:
        print(
            f"forecast: theta = {predicted.theta:.3g}; {predicted.remains:.2g} of the start will "
            f"remain, {predicted.reached:.2g} of the shift will be reached"
            + (" (before the step size is adapted)" if s["adapt"] else "")
        )
        if predicted.warning and not s["adapt"]:
            warn(predicted.warning)
    if flat:
        warn(
            f"unit {some_of(flat)} of {s['layer']} has no gradient at the start: its chains will "
            "show noise; name the convolution below a ReLU"
        )


def some_of(units):
    return ", ".join(map(str, units[:10])) + (", ..." if len(units) > 10 else "")


def cell(value):
    """A number of the table, or a word."""
    return "-" if value is None else value if isinstance(value, str) else f"{value:.3g}"


def report(found, rounding, settings):
    """The diagnostics as a table, and in words what follows from them."""
    ascent = settings["sampler"] == "ascent"
    columns = ASCENT_COLUMNS if ascent else COLUMNS
    print("  ".join(["unit", *(f"{head:>{width}}" for head, width in columns.values())]))
    for row in found:
        cells = (f"{cell(row[name]):>{width}}" for name, (_, width) in columns.items())
        print("  ".join([f"{row['unit']:>4}", *cells]))

    def those(test):
        return [row["unit"] for row in found if test(row)]

    step = np.median([row["step_size"] for row in found])
    if ascent:
        risen = those(lambda row: row["energy_change"] is None or row["energy_change"] > 0)
        if risen:
            size = f"lower --ascent-size (it was {step:.3g})"
            warn(f"unit {some_of(risen)}: the energy rose, and should fall: {size}")
        return
    lower = f"lower --step-size (it was {step:.3g}) or raise --temperature"
    last = f" in the last {found[0]['last_iterations']} iterations: {lower}"
    for word, meaning in WORDS.items():
        units = those(lambda row, word=word: row["judgement"] == word)
        if units:
            say = print if word in ("samples", "settled", "apart") else warn
            say(f"unit {some_of(units)}: {meaning}{last if word == 'stuck' else ''}")
    for units, message in (
        (those(lambda row: row["divergences"]), "some trajectories diverged"),
        (those(lambda row: (row["acceptance"] or 0) < 0.2), "few trajectories were accepted"),
    ):
        if units:
            warn(f"unit {some_of(units)}: {message}: {lower}")
    if rounding is not None and rounding > 0.5:
        warn(
            f"rounding to float32 changes the energy by up to {rounding:.2g}, enough to disturb "
            "the acceptance: --precision float64 would mend it"
        )
