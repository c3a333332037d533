"""`mura-tf explain`: where finished runs looked, as pictures or as scores against boxes."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mura_tf.cli.failures import wrong_usage
from mura_tf.cli.options import DATA, CacheDir, Runs, first_folder, listed, run_folders
from mura_tf.cli.printing import print_table
from mura_tf.terminal import counted, waiting

SHOWN, LOOKED = "What is shown", "How it is looked for"


def explain(
    runs: Runs,
    data: Annotated[
        Path,
        typer.Option(help="The data set of the runs, where it lies now.", rich_help_panel=DATA),
    ],
    study: Annotated[
        str | None,
        typer.Option(
            help="split/study_type/patient/study, or as much of its end as is unique.",
            rich_help_panel=SHOWN,
        ),
    ] = None,
    top: Annotated[
        str | None,
        typer.Option(
            help="ORDER:COUNT with wrong (worst mistakes), confident (surest), disagreement (of "
            "the members) or pairs (right and wrong in turn). [default: wrong:20]",
            rich_help_panel=SHOWN,
        ),
    ] = None,
    score: Annotated[
        bool,
        typer.Option(
            "--score",
            help="Score maps against the data set's lesion boxes.",
            rich_help_panel=SHOWN,
        ),
    ] = False,
    sanity: Annotated[
        bool,
        typer.Option(
            "--sanity",
            help="With --score: deletion, insertion, random weights.",
            rich_help_panel=SHOWN,
        ),
    ] = False,
    methods: Annotated[
        str | None,
        typer.Option(
            help="cam, grad_cam, grad_cam_plus_plus, score_cam, saliency, smoothgrad, attention or "
            "learned; one, or for --score several, with commas. [default: cam; for --score all "
            "that can explain the runs]",
            rich_help_panel=LOOKED,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Whose feature maps grad_cam, grad_cam_plus_plus, score_cam or saliency explain. "
            "[default: those the head pools]",
            rich_help_panel=LOOKED,
        ),
    ] = None,
    of: Annotated[
        Literal["abnormal", "predicted"],
        typer.Option(
            help="Of runs with classes: a view's abnormal class, or the one it is taken for.",
            rich_help_panel=LOOKED,
        ),
    ] = "abnormal",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where files go. [default: 'explained' in the first RUN]", rich_help_panel=DATA
        ),
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """Show where finished runs looked: a PNG per study and OUT/index.html, or --score.

    Only views that no run was trained on. --score writes OUT/heatmap_scores.csv.
    """
    if sum([study is not None, top is not None, score]) > 1:
        raise typer.BadParameter("--study, --top and --score exclude each other. Give one of them.")
    if sanity and not score:
        raise typer.BadParameter("--sanity goes with --score. Add it.")
    if score and of == "predicted":
        raise typer.BadParameter(
            "boxes are of lesions, so --score goes with --of abnormal. Leave --of out."
        )
    chosen = listed(methods)
    if not score and chosen and len(chosen) > 1:
        raise typer.BadParameter(f"a figure shows one method. Received: --methods {methods}.")
    order, count = _order(top or "wrong:20")
    folders = run_folders(runs)
    out = out or first_folder(runs) / "explained"

    with waiting("Starting"):
        from mura_tf.explain.ensemble import Ensemble, require_order
        from mura_tf.models.backend import require_backend

    require_backend()

    with wrong_usage():
        require_order(order)
        if chosen:
            from mura_tf.explain.methods import find_method

            for method in chosen:
                find_method(method)
    ensemble = Ensemble(folders, data, cache_dir, of=of, progress=True)
    print(f"{ensemble.name}: {counted(len(ensemble.runs), 'run')}, {ensemble.split} split.")
    if score:
        with waiting("Starting"):
            from mura_tf.explain.scores import write_scores

        scores = write_scores(
            ensemble, data, out, chosen, layer=layer, sanity=sanity, progress=True
        )
        print_table(scores)
        print("* better than the centred blob (95 %). Intervals: 95 %, patients resampled.")
        print(f"Scores: {out / 'heatmap_scores.csv'}")
        return
    with waiting("Starting"):
        from mura_tf.reports.study_page import explain_studies

    named = None if study is None else [ensemble.study(study)]
    for path in explain_studies(
        ensemble,
        named or ensemble.top(order, count),
        data,
        out,
        (chosen or ["cam"])[0],
        layer=layer,
        order=None if named else order,
        progress=True,
    ):
        print(path)


def _order(text: str) -> tuple[str, int]:
    """ "wrong:20" in its parts."""
    order, _, count = text.partition(":")
    if not count.isdecimal() or int(count) < 1:
        raise typer.BadParameter(
            f"--top must be ORDER:COUNT with a count from 1 up, such as wrong:20. Received: "
            f"{text!r}."
        )
    return order, int(count)
