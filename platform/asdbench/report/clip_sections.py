"""Sections of a report on the scores of clips: ROC curves, histograms, embedding maps, the worst errors."""

import base64
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from asdbench.report.blocks import Clip, Clips, Drawing, Figures, LegendEntry, Section, percent, slug
from asdbench.report.clip_errors import ClipError, ClipSound
from asdbench.report.figures import style
from asdbench.report.figures.clips import spectrogram
from asdbench.report.figures.embeddings import embedding_maps
from asdbench.report.figures.scores import false_positive_rates, roc_curves, score_histograms
from asdbench.report.formatting import MISSING
from asdbench.report.report_data import ReportData, SystemDetails
from asdbench.report.row_figures import histogram_of, mean_curve


def roc_section(report: ReportData) -> Iterable[Section]:
    """Yield the section on the ROC curves."""
    if not report.systems:
        return
    rule = report.data.rule
    scored = [(of.label, of_type, index) for index, of in enumerate(report.systems) for of_type in of.types]
    curves = {
        name: [
            replace(mean_curve(label, of_type, np.ones_like(of_type.anomalous)), series=index)
            for label, of_type, index in scored
            if of_type.machine_type == name
        ]
        for name in report.machine_types
        if any(of_type.machine_type == name for _, of_type, _ in scored)
    }
    drawings = [
        Drawing(
            slug("roc", str(place), machine_type),
            f"ROC curves on {machine_type}",
            "; ".join(
                f"{curve.label} finds {percent(_at(curve.true_positive_rates, rule.max_fpr))} of the "
                f"anomalies at a false positive rate of {rule.max_fpr:g}"
                for curve in of_type
            ),
            roc_curves({machine_type: of_type}, max_fpr=rule.max_fpr, show_legend=False),
        )
        for place, (machine_type, of_type) in enumerate(curves.items())
    ]
    caption = (
        f"ROC curves over all clips of a machine type, mean over seeds and sections at each false positive "
        f"rate. The region up to {rule.max_fpr:g}, which counts for the pAUC, is shaded."
    )
    legend = [
        LegendEntry(of.label, f"series-{place % style.N_SERIES + 1}", place % style.N_SERIES)
        for place, of in enumerate(report.systems)
    ]
    whole = partial(roc_curves, curves, max_fpr=rule.max_fpr)
    yield Section("roc", "ROC curves", [], [Figures(drawings, caption, whole, legend)])


def _at(heights: np.ndarray, rate: float) -> float:
    return float(np.interp(rate, false_positive_rates(), heights))


def histograms_section(report: ReportData) -> Iterable[Section]:
    """Yield the section on the scores of clips and the thresholds."""
    blocks = [
        Figures(
            [
                Drawing(
                    slug("histogram", str(place), str(index)),
                    f"Scores of {of.label} on {scored.machine_type}",
                    _histogram_words(of, index),
                    score_histograms([histogram_of(scored)], show_legend=False),
                )
                for index, scored in enumerate(of.types)
            ],
            f"Anomaly scores of {of.label}, seed {of.row['seeds'][0]}: source clips above the line, target "
            f"clips below it. The dashed line is the decision threshold, from normal training clips only.",
            partial(score_histograms, [histogram_of(scored) for scored in of.types]),
            [LegendEntry("normal", "normal", 0, "area"), LegendEntry("anomaly", "anomaly", 1, "area")],
            heading=of.label,
            is_open=place == 0,
        )
        for place, of in enumerate(report.systems)
    ]
    if blocks:
        yield Section("scores", "Scores and thresholds", [], blocks)


def _histogram_words(of: SystemDetails, index: int) -> str:
    scored = of.types[index]
    decided, anomalous = scored.decided[0], scored.anomalous
    if not scored.has_thresholds:
        return "There is no threshold: too few normal clips are held out to set one."
    return (
        f"Above the threshold of {scored.thresholds[0]:.3g} are {int((decided & anomalous).sum())} of "
        f"{int(anomalous.sum())} anomalies and {int((decided & ~anomalous).sum())} of "
        f"{int((~anomalous).sum())} normal clips."
    )


def embeddings_section(report: ReportData) -> Iterable[Section]:
    """Yield the section on the embedding maps."""
    shown = [of for of in report.systems if of.embeddings]
    blocks = [
        Figures(
            [
                Drawing(
                    slug("embedding", str(place), str(index)),
                    f"Embeddings of {of.label} on {mapped.machine_type}",
                    f"{len(mapped.points)} test clips; the two components explain "
                    f"{percent(sum(mapped.explained))} of the variance.",
                    embedding_maps([mapped]),
                )
                for index, mapped in enumerate(of.embeddings)
            ],
            f"Test clips in the embedding of {of.label}, seed {of.row['seeds'][0]}: the first two principal "
            f"components (PC), with the share of the variance that each explains. Labels choose the colors "
            f"only.",
            partial(embedding_maps, of.embeddings),
            [
                LegendEntry("normal, source", "normal", 0, "ring"),
                LegendEntry("normal, target", "normal", 0, "dot"),
                LegendEntry("anomaly, source", "anomaly", 0, "triangle-open"),
                LegendEntry("anomaly, target", "anomaly", 0, "triangle"),
            ],
            heading=of.label,
            is_open=place == 0,
        )
        for place, of in enumerate(shown)
    ]
    if blocks:
        yield Section("embeddings", "Embeddings", [], blocks)


def errors_section(report: ReportData) -> Iterable[Section]:
    """Yield the section on the worst errors, to see and to hear."""
    if not report.errors:
        return
    best = report.systems[0]
    headings = {False: "False alarms", True: "Missed anomalies"}
    blocks = [
        Clips(
            heading,
            [
                _clip(place, error, sound)
                for place, (error, sound) in enumerate(report.errors)
                if error.is_anomaly == is_anomaly
            ],
        )
        for is_anomaly, heading in headings.items()
        if any(error.is_anomaly == is_anomaly for error, _ in report.errors)
    ]
    text = (
        f"The test clips that {best.label} (seed {best.row['seeds'][0]}) gets most wrong: of each machine "
        f"type the false alarm and the missed anomaly farthest from the threshold, in standard deviations of "
        f"the scores of normal clips. The sound is compressed (MP3) and its level is normalized; the systems "
        f"heard the recording itself."
    )
    license = report.data.license
    note = (
        f"License of the recordings, as their folder says: {' '.join(license.split())}"
        if license
        else "The folder of the recordings states no license; ask their owner before you pass this page on."
    )
    yield Section("errors", "The worst errors", [text, note], blocks)


def _clip(place: int, error: ClipError, sound: ClipSound | None) -> Clip:
    kind = "Missed anomaly" if error.is_anomaly else "False alarm"
    facts = [
        ("recording", error.path),
        ("domain", error.domain or MISSING),
        ("attributes", error.attributes or MISSING),
        ("score", f"{error.score:.3g}, threshold {error.threshold:.3g}"),
        ("distance", f"{error.distance:.1f} standard deviations"),
    ]
    drawing = None
    if sound is not None:
        shown = (
            f"the first {sound.shown_s:.1f} s"
            if sound.shown_s < sound.duration_s
            else f"{sound.shown_s:.1f} s"
        )
        drawing = Drawing(
            f"clip-{place}",
            f"Log-mel spectrogram of {error.path}",
            f"{kind} of {error.machine_type}, {shown}.",
            spectrogram(sound.mels, duration_s=sound.shown_s, f_max_hz=8000.0),
        )
    mp3 = base64.b64encode(sound.mp3).decode() if sound is not None else ""
    return Clip(f"{kind}: {error.machine_type}", facts, drawing, mp3)
