"""`mura-tf`: parses, calls, prints."""

import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

# fewer of the libraries' own messages around what goes wrong
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
logging.getLogger("tensorflow").setLevel(logging.ERROR)

app = typer.Typer(
    help="Abnormality detection in bone radiographs: train, evaluate and report.\n\n"
    "Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[
    Path,
    typer.Argument(help="A MURA-shaped or FracAtlas folder, the folder above it, or a views CSV."),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Where prepared images are kept. [default: $MURA_TF_CACHE or ~/.cache/mura_tf]"
    ),
]


RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="JSON file of settings instead of the paper's.")
]
Weights = Annotated[
    str | None, typer.Option(help="'imagenet', 'none' or the path of backbone weights (.h5).")
]
ImageSize = Annotated[int | None, typer.Option(help="Pixels. [default: the backbone's]")]
SelectOn = Annotated[
    Literal["valid", "holdout"] | None,
    typer.Option(help="valid is the paper's; holdout, a part of the training patients."),
]
Jobs = Annotated[int, typer.Option(min=1, help="Runs at a time on this machine.")]
Runs = Annotated[list[Path], typer.Argument(help="Run folders, or folders above them.")]
SkipBad = Annotated[bool, typer.Option(help="Go on without unreadable files.")]
CPUS_PER_RUN, GPUS_PER_RUN = 1, 0


@app.command()
def check(data: Data):
    """List everything that is wrong with a data set, file by file; exit 1 if anything is."""
    with _failures_as_sentences():
        from mura_tf.data.check import check_dataset

        problems = check_dataset(data, progress=True)
        if problems.empty:
            _summary(data)
            print(f"Nothing is wrong with {data}.")
            return
        for problem in problems.itertuples():
            print(f"{problem.problem}: {problem.path}: {problem.reason}")
        print(f"{len(problems)} problems in {data}.")
        raise typer.Exit(1)


@app.command()
def prepare(
    data: Data,
    image_size: Annotated[int, typer.Option(min=8, help="Side of the squares, pixels.")] = 300,
    skip_bad: SkipBad = False,
    cache_dir: CacheDir = None,
):
    """Decode, resize and pad every radiograph once; training then starts at once."""
    with _failures_as_sentences():
        from mura_tf.data.cache import prepare_readable
        from mura_tf.data.views import load_views

        views, _, _ = prepare_readable(
            load_views(data), image_size, cache_dir, skip_bad=skip_bad, progress=True
        )
        print(f"{len(views)} views are ready at {image_size} px.")


@app.command()
def study(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the page, the Markdown, CSV and plots.")],
    image_size: Annotated[int, typer.Option(min=8, help="Side of the squares, pixels.")] = 64,
    per_class: Annotated[
        str, typer.Option(help="How many images of each class PCA gets, run by run.")
    ] = "10,1000",
    skip_bad: SkipBad = False,
    cache_dir: CacheDir = None,
):
    """Study a data set: its classes, its grey levels, PCA against incremental PCA."""
    with _failures_as_sentences():
        import mura_tf as mt
        from mura_tf.data.study import study_data
        from mura_tf.reports.data_page import write_data_study

        sizes = _listed(per_class)
        if not sizes or not all(size.isdecimal() for size in sizes):
            raise ValueError(
                f"--per-class must be whole numbers such as 10,1000. Received: {per_class!r}."
            )
        found = study_data(
            mt.load_views(data),
            image_size=image_size,
            per_class=map(int, sizes),
            skip_bad=skip_bad,
            cache_dir=cache_dir,
            progress=True,
        )
        print(f"Page: {write_data_study(found, out)}")


@app.command()
def synthesize(
    out: Annotated[Path, typer.Argument(help="A new MURA-v1.1 folder is made in here.")],
    studies_per_type: Annotated[int, typer.Option(help="Studies of each study type.")] = 60,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
):
    """Write a MURA-shaped data set of procedural radiographs with known lesions."""
    with _failures_as_sentences():
        import mura_tf as mt

        root = mt.write_synthetic_mura(out, studies_per_type, seed)
        _summary(root)
        print(f"Written to {root}.")


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Argument(help="Folder above the run folders and the report.")],
    scheme: Annotated[
        Literal["two-stage", "direct", "whole"],
        typer.Option(
            help="two-stage: one model on all study types, then from it one per type (the "
            "paper's). direct: one per type. whole: one on all types together."
        ),
    ] = "two-stage",
    types: Annotated[
        str | None, typer.Option(help="Study types with a model of their own. [default: all]")
    ] = None,
    members: Annotated[int, typer.Option(min=1, help="Models per ensemble.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="How often the ensembles are trained.")] = 1,
    recipe: RecipeFile = None,
    backbone: Annotated[str | None, typer.Option(help="See mura_tf.BACKBONES.")] = None,
    weights: Weights = None,
    image_size: ImageSize = None,
    preprocessing: Annotated[
        Literal["caffe", "caffe_rgb", "native", "unit"] | None,
        typer.Option(help="caffe is the paper's; native, what the backbone was pretrained with."),
    ] = None,
    augment: Annotated[
        str | None, typer.Option(help="For example flip,rotation:10,zoom:0.1 or none.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option()] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    max_epochs: Annotated[int | None, typer.Option()] = None,
    select_on: SelectOn = None,
    seed: Annotated[int | None, typer.Option()] = None,
    mixed_precision: Annotated[bool | None, typer.Option("--mixed-precision")] = None,
    jobs: Jobs = 1,
    skip_bad: SkipBad = False,
    tensorboard: Annotated[bool, typer.Option(help="Write TensorBoard logs.")] = False,
    cache_dir: CacheDir = None,
):
    """Train ensembles, score them, write OUT/scores.csv and OUT/report.html.

    Settings that are not given are the paper's. The same command again goes on where a killed one
    stopped, and trains no finished run twice.
    """
    given = {
        "backbone": backbone,
        "weights": weights,
        "image_size": image_size,
        "preprocessing": preprocessing,
        "augment": augment,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "max_epochs": max_epochs,
        "select_on": select_on,
        "seed": seed,
        "mixed_precision": mixed_precision,
    }
    with _failures_as_sentences():
        import mura_tf as mt
        from mura_tf.experiment import run_experiment
        from mura_tf.grid.engines import LocalEngine

        scores = run_experiment(
            mt.Recipe.from_dict(_settings(recipe, given)),
            data,
            out,
            scheme=scheme,
            study_types=_listed(types),
            members=members,
            repeats=repeats,
            engine=LocalEngine(jobs),
            skip_bad=skip_bad,
            tensorboard=tensorboard,
            cache_dir=cache_dir,
        )
        _show(scores, out)


@app.command()
def evaluate(
    runs: Runs,
    out: Annotated[
        Path | None, typer.Option(help="Where scores.csv and report.html go. [default: the first]")
    ] = None,
):
    """Score finished runs as ensembles, from their predictions alone, and write the report."""
    with _failures_as_sentences():
        folders = _run_folders(runs)
        from mura_tf.experiment import report_runs

        _show(report_runs(folders, out or runs[0]), out or runs[0])


@app.command()
def explain(
    runs: Runs,
    data: Annotated[Path, typer.Option(help="The data set of the runs, where it lies now.")],
    study: Annotated[
        str | None,
        typer.Option(help="split/study_type/patient/study, or as much of its end as is unique."),
    ] = None,
    top: Annotated[
        str | None,
        typer.Option(
            help="ORDER:COUNT with wrong (worst mistakes), confident (surest), disagreement (of "
            "the members) or pairs (right and wrong in turn). [default: wrong:20]"
        ),
    ] = None,
    score: Annotated[
        bool, typer.Option("--score", help="Score maps against the data set's lesion boxes.")
    ] = False,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="With --score: deletion, insertion, random weights.")
    ] = False,
    methods: Annotated[
        str | None,
        typer.Option(
            help="cam, grad_cam, ..., see mura_tf.explain.methods.METHODS; one, or for --score "
            "several. [default: cam; for --score all that can explain the runs]"
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Whose feature maps. [default: those the head pools]")
    ] = None,
    of: Annotated[
        Literal["abnormal", "predicted"],
        typer.Option(help="Of runs with classes: what is explained of a view."),
    ] = "abnormal",
    out: Annotated[
        Path | None, typer.Option(help="Where files go. [default: 'explained' in the first RUN]")
    ] = None,
    cache_dir: CacheDir = None,
):
    """Show where finished runs looked: a PNG per study and OUT/index.html, or --score.

    Only views that no run was trained on. --score writes OUT/heatmap_scores.csv.
    """
    with _failures_as_sentences():
        if sum([study is not None, top is not None, score]) > 1:
            raise ValueError("--study, --top and --score exclude each other. Give one of them.")
        if sanity and not score:
            raise ValueError("--sanity goes with --score. Add it.")
        if score and of == "predicted":
            raise ValueError("boxes are of lesions, so --score goes with abnormal. Leave --of out.")
        chosen = _listed(methods)
        if not score and chosen and len(chosen) > 1:
            raise ValueError(f"a figure shows one method. Received: --methods {methods}.")
        folders = _run_folders(runs)
        out = out or runs[0] / "explained"
        from mura_tf.explain.ensemble import Ensemble

        ensemble = Ensemble(folders, data, cache_dir, of=of)
        print(f"{ensemble.name}: {len(ensemble.runs)} runs, {ensemble.split} split.")
        if score:
            from mura_tf.explain.scores import write_scores

            _print_table(write_scores(ensemble, data, out, chosen, layer=layer, sanity=sanity))
            print("* better than the centred blob (95 %). Intervals: 95 %, patients resampled.")
            print(f"Scores: {out / 'heatmap_scores.csv'}")
            return
        from mura_tf.reports.study_page import explain_studies

        order, count = _order(top or "wrong:20")
        named = study is not None
        studies = [ensemble.study(study)] if named else ensemble.top(order, count)
        for path in explain_studies(
            ensemble,
            studies,
            data,
            out,
            (chosen or ["cam"])[0],
            layer=layer,
            order=None if named else order,
        ):
            print(path)


@app.command()
def reproduce(
    experiment: Annotated[
        str | None, typer.Argument(help="table_vi, for example; --list names them all.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A MURA-shaped or FracAtlas folder, or the one above it.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the runs, which tables share, and of the tables.")
    ] = Path("runs/paper"),
    backbones: Annotated[str | None, typer.Option(help="[default: the table's]")] = None,
    systems: Annotated[
        str | None, typer.Option(help="Some of a document's, by name. [default: all]")
    ] = None,
    types: Annotated[
        str | None,
        typer.Option(help="Study types with a model of their own. [default: the document's]"),
    ] = None,
    members: Annotated[
        int | None, typer.Option(min=1, help="Models per ensemble. [default: the document's]")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Ensembles trained anew. [default: the table's]")
    ] = None,
    split: Annotated[
        Literal["text", "document"] | None,
        typer.Option(help="As a document tells, or as its own numbers are. [default: text]"),
    ] = None,
    split_by: Annotated[
        Literal["patient", "image"] | None,
        typer.Option(help="By image, as some documents did, scores are too high."),
    ] = None,
    recipe: RecipeFile = None,
    weights: Weights = None,
    image_size: ImageSize = None,
    max_epochs: Annotated[int | None, typer.Option()] = None,
    select_on: SelectOn = None,
    engine: Annotated[Literal["local", "ray"], typer.Option()] = "local",
    jobs: Jobs = 1,
    ray_address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster. [default: Ray on this machine]")
    ] = None,
    cpus_per_run: Annotated[float, typer.Option(help="For Ray.")] = CPUS_PER_RUN,
    gpus_per_run: Annotated[
        float, typer.Option(help="For Ray; 0.2 lets five runs share a GPU.")
    ] = GPUS_PER_RUN,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done and what it costs.")
    ] = False,
    list_all: Annotated[
        bool, typer.Option("--list", help="Name every system, its cost and published number.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Train nothing; report what is finished.")
    ] = False,
    skip_bad: SkipBad = False,
    cache_dir: CacheDir = None,
):
    """Reproduce a table or the systems of a document; write OUT/NAME/, ours beside theirs.

    The same command again goes on where a killed one stopped. Tables with one OUT share runs.
    """
    given = {
        "weights": weights or None,
        "image_size": image_size,
        "max_epochs": max_epochs,
        "select_on": select_on,
    }
    with _failures_as_sentences():
        from mura_tf.papers import reproduce as lib
        from mura_tf.papers.parameters import ParameterTable, report_parameters

        if list_all:
            _print_listing(lib.listing())
            return
        _require_engine(engine, jobs, ray_address, cpus_per_run, gpus_per_run)
        if experiment is None:
            raise typer.BadParameter(
                f"an experiment must be named, one of {', '.join(lib.experiment_names())}."
            )
        found = lib.find_experiment(experiment)
        if isinstance(found, ParameterTable):
            if dry_run:
                count = len(_listed(backbones) or found.backbones)
                print(
                    f"{experiment} builds {count} models and counts their parameters; nothing is "
                    "downloaded or trained."
                )
                return
            _print_table(report_parameters(found, out, _listed(backbones)))
            print(f"Table: {out / experiment}")
            return
        options = {
            "study_types": _listed(types),
            "systems": _listed(systems),
            "settings": _settings(recipe, given),
            "backbones": _listed(backbones),
            "members": members,
            "repeats": repeats,
            "split": split,
            "split_by": split_by,
        }
        options = {name: value for name, value in options.items() if value is not None}
        if dry_run:
            _print_plan(*lib.cost(found, out, data, **options))
            return
        if not report_only and data is None:
            raise typer.BadParameter(
                "--data is needed to train. To report what is finished: --report-only."
            )
        report, failed = lib.reproduce(
            found,
            out,
            None if report_only else data,
            engine=None
            if report_only
            else _engine(engine, jobs, ray_address, cpus_per_run, gpus_per_run),
            cache_dir=cache_dir,
            skip_bad=skip_bad,
            **options,
        )
        for sentence in report.missing:
            print(f"Missing: {sentence}")
        print(f"Table: {out / experiment / 'table.md'}\nReport: {out / experiment / 'report.html'}")
        if failed:
            raise RuntimeError(f"{len(failed)} runs failed; see above. Repeat the command.")


def reproduce_script(path: str) -> None:
    """Makes `python experiments/NAME.py ...` the same as `mura-tf reproduce NAME ...`."""
    app(["reproduce", Path(path).stem, *sys.argv[1:]])


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder of data, runs and report.")] = Path("demo"),
):
    """The whole line on synthetic radiographs, offline, in minutes; leaves OUT/report.html."""
    with _failures_as_sentences():
        from mura_tf.demo import run_demo

        _show(run_demo(out), out)


def _run_folders(roots: list[Path]) -> list[Path]:
    """The run folders at and below `roots`, each once."""
    found = [path.parent for root in roots for path in sorted(root.rglob("run.json"))]
    folders = list({path.resolve(): path for path in found}.values())
    if not folders:
        raise FileNotFoundError(
            f"no run.json below {', '.join(map(str, roots))}, expected at least one run folder. "
            "`mura-tf train` makes them."
        )
    return folders


def _order(text: str) -> tuple[str, int]:
    """ "wrong:20" in its parts; the order itself is checked where it is used."""
    order, _, count = text.partition(":")
    if not count.isdecimal() or int(count) < 1:
        raise ValueError(
            f"--top must be ORDER:COUNT with a count from 1 up, such as wrong:20. Received: "
            f"{text!r}."
        )
    return order, int(count)


def _require_engine(name: str, jobs: int, address: str | None, cpus: float, gpus: float) -> None:
    """Options of the engine that was not chosen would do nothing."""
    if name == "ray" and jobs > 1:
        raise typer.BadParameter(
            "--jobs is of this machine. With --engine ray give --cpus-per-run or --gpus-per-run: "
            "as many runs go at a time as the cluster has room for."
        )
    for option, given in (
        ("--ray-address", address is not None),
        ("--cpus-per-run", cpus != CPUS_PER_RUN),
        ("--gpus-per-run", gpus != GPUS_PER_RUN),
    ):
        if name != "ray" and given:
            raise typer.BadParameter(
                f"{option} is an option of Ray. Add --engine ray, or leave it."
            )


def _engine(name: str, jobs: int, address: str | None, cpus: float, gpus: float):
    from mura_tf.grid.engines import LocalEngine, RayEngine

    return RayEngine(address, cpus, gpus) if name == "ray" else LocalEngine(jobs)


def _print_plan(table, sentence: str) -> None:
    _print_table(table.round(2))
    print(sentence)


def _print_listing(table) -> None:
    for (command, document), rows in table.groupby(["command", "document"], sort=False):
        print(f"{command} (document {document})")
        for row in rows.itertuples():
            print(
                f"  {row.system:<40} {row.runs:>4} runs {row.images:>8} M images  {row.published}"
            )


def _print_table(table) -> None:
    from rich.console import Console
    from rich.table import Table

    drawn = Table(*table.columns)
    for row in table.itertuples(index=False):
        drawn.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row))
    Console().print(drawn)


def _settings(file: Path | None, given: dict) -> dict:
    """The settings of the file, and the options that were given."""
    from mura_tf.training.recipe import read_settings

    settings = read_settings(file) if file else {}
    settings |= {name: value for name, value in given.items() if value is not None}
    if settings.get("weights") == "none":
        settings["weights"] = None
    if isinstance(settings.get("augment"), str):
        augment = settings["augment"]
        settings["augment"] = () if augment in ("", "none") else _listed(augment)
    return settings


def _listed(text: str | None) -> tuple[str, ...] | None:
    """The parts between commas; None for an option that was not given, or is empty."""
    return tuple(part.strip() for part in text.split(",")) if text else None


def _show(scores, out: Path) -> None:
    from mura_tf.experiment import print_scores

    print_scores(scores)
    print(f"Scores: {out / 'scores.csv'}\nReport: {out / 'report.html'}")


def _summary(data: Path) -> None:
    import mura_tf as mt

    table = mt.summarize(mt.load_views(data))
    print(table.to_string())
    published = table.attrs["published"]
    if published is not None:
        print("The counts are " + ("" if published else "not ") + "those of the paper's Table I.")


@contextmanager
def _failures_as_sentences():
    """What is wrong with the input or the machine is one sentence on stderr and exit status 1."""
    try:
        yield
    except typer.Exit:  # a RuntimeError, too
        raise
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        sentence = str(error)
        if isinstance(error, OSError) and error.filename is not None:  # Python's own
            sentence = f"{error.filename}: {error.strerror}. Give another path, or mend this one."
        print(f"Error: {sentence}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        raise typer.Exit(130) from None
