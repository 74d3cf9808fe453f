"""`ladderseg evaluate` scores a trained model on a data set and exports its predictions."""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from ..atomic_file import atomic_write
from ..data import DATA_SETS, RESULT_FORMATS, SegmentationDataset, open_data_set
from ..engine import Checkpoint, RunDirectory, build_model, load_checkpoint
from ..engine.device import find_device
from ..engine.distributed import World, joined
from ..engine.evaluation import (
    DataSetScores,
    Export,
    ImageScores,
    Prediction,
    Views,
    WorstImages,
    as_record,
    evaluate_data_set,
    predictions,
)
from ..engine.predict import SizeOrOwn
from ..engine.progress import Progress
from ..engine.terminal import show
from ..engine.workers import suitable_workers
from ..models import SegmentationModel
from .arguments import add_checkpoint, add_device, add_workers, image_size_or_own, path, positive_float, positive_int
from .network_size import ShrunkImages, check_network_size
from .score_table import score_table


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the sub-command and its options."""
    parser = commands.add_parser(
        "evaluate",
        help="score a trained model on a data set",
        description="Score a trained model on a data set: IoU of every class, their mean, and pixel accuracy; on "
        "Cityscapes also iIoU and the categories, as the benchmark defines them. Every pixel of the annotations "
        "counts, at their own size, whatever size the network sees.",
        epilog="The network's scores, at a quarter of the size it sees, are upsampled bilinearly to the annotations' "
        "size. With several --scales, or --flip, the softmax probabilities of all views are averaged there. --export "
        "also works on splits without labels, which have no scores.",
    )
    add_checkpoint(parser, "model", "RUN|FILE")
    data = parser.add_argument_group("data")
    data.add_argument("--data", choices=tuple(DATA_SETS), required=True, help="the kind of data set")
    data.add_argument("--root", type=path, metavar="DIR", help="directory of the data set (street scenes have none)")
    data.add_argument("--split", default="val", metavar="NAME", help="default: %(default)s")
    data.add_argument(
        "--no-iiou",
        action="store_true",
        help=f"{' and '.join(_with_instances())}: leave out iIoU, which needs *_instanceIds.png",
    )
    add_workers(data)
    view = parser.add_argument_group("what the network sees")
    view.add_argument(
        "--size",
        type=image_size_or_own,
        metavar="HxW|own",
        help="height and width of the images for the network, or their own (default: that of the training)",
    )
    view.add_argument(
        "--scales", type=_scales, default=(1.0,), metavar="X,X,...", help="factors of that size (default: 1)"
    )
    view.add_argument("--flip", action="store_true", help="also look at every image with left and right exchanged")
    add_device(view)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json", type=path, metavar="FILE", help="write all scores as JSON, including those of every image"
    )
    output.add_argument(
        "--worst", type=positive_int, metavar="N", help="draw the N images with the lowest mIoU; needs --out"
    )
    output.add_argument("--out", type=path, metavar="DIR", help="where --worst draws")
    output.add_argument(
        "--export",
        nargs=2,
        metavar=("FORMAT", "DIR"),
        help=f"write the predictions as the benchmark's server takes them; FORMAT is {' or '.join(RESULT_FORMATS)}",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates as the arguments say, and prints the table."""
    with joined() as world:
        return _run(arguments, world)


def _run(arguments: argparse.Namespace, world: World) -> int:
    # The others may not see the run, and a training that goes on replaces its checkpoints.
    world.first(lambda: _check(arguments))
    checkpoint = world.first(lambda: load_checkpoint(arguments.model))
    options = _split_options(arguments.data, checkpoint)
    samples = open_data_set(arguments.data, arguments.root, arguments.split, **options)
    if not samples.labelled:
        _check_unlabelled(arguments)
    _check_classes(checkpoint, samples)
    samples.expect(checkpoint.normalisation.form)
    device = world.device(find_device(arguments.device))
    model = build_model(checkpoint, device)
    views = Views(_network_size(arguments.size, checkpoint), arguments.scales, arguments.flip)
    if views.size is not None:
        check_network_size(views.size, model.min_size)
    workers = arguments.workers
    if workers is None:
        workers = suitable_workers(device, networks=world.local_size)
    job = _Job(model, samples, checkpoint, views, workers, arguments.size is not None, world)
    export = Export(arguments.export[0], Path(arguments.export[1]), samples.label_set) if arguments.export else None
    worst = WorstImages(arguments.worst) if arguments.worst else None
    if worst is not None:
        world.first(lambda: arguments.out.mkdir(parents=True, exist_ok=True))
    if samples.labelled:
        result = _evaluate(job, not arguments.no_iiou, worst, export)
        world.first(lambda: _report(arguments, job, result, worst))
    else:
        assert export is not None, "checked above"
        _predict(job, export)
    if export is not None:
        count = sum(world.gather(export.count))
        world.first(lambda: show(f"written to {export.directory}: {count} predictions"))
    return 0


def _report(arguments: argparse.Namespace, job: "_Job", result: DataSetScores, worst: WorstImages | None) -> None:
    """Prints and writes what is asked for of `result`."""
    show(f"{_title(arguments, job)}\n\n{score_table(result, job.samples.label_set)}")
    if arguments.json is not None:
        _write_json(arguments, job, result)
    if worst is not None:
        show(f"written to {arguments.out}: {len(worst.write(job.samples, arguments.out))} images")


@dataclass(frozen=True)
class _Job:
    """One evaluation: the model, its data, and what is wanted of it."""

    model: SegmentationModel
    samples: SegmentationDataset
    checkpoint: Checkpoint
    views: Views
    workers: int
    size_chosen: bool
    """Whether --size chose the size."""
    world: World
    """The processes that share the samples."""

    @property
    def share(self) -> int:
        """Number of this process's samples."""
        return len(range(self.world.rank, len(self.samples), self.world.size))

    def note_size(self, prediction: Prediction, shrunk: ShrunkImages) -> None:
        """Adds the image to `shrunk`, unless the user chose the size at which the network saw it."""
        if not self.size_chosen:
            size = prediction.labels.shape
            shrunk.add(prediction.sample.name, size, max(self.views.sizes(size, self.model.min_size)))


def _evaluate(job: _Job, instances: bool, worst: WorstImages | None, export: Export | None) -> DataSetScores:
    """Scores all samples, and offers each prediction to `worst` and `export`."""
    with Progress(job.world.stream(sys.stderr), "evaluate", job.share) as progress:
        shrunk = ShrunkImages(progress.note)

        def on_image(prediction: Prediction, image: ImageScores) -> None:
            if worst is not None:
                worst.add(prediction, image)
            if export is not None:
                export.write(prediction)
            job.note_size(prediction, shrunk)
            progress.update(prediction.index // job.world.size + 1, "")

        scores = evaluate_data_set(
            job.model, job.samples, job.checkpoint.normalisation, job.views, job.workers, instances, on_image, job.world
        )
        if worst is not None:
            worst.add_all(other for rank, other in enumerate(job.world.gather(worst)) if rank != job.world.rank)
        shrunk.finish(job.world)
        return scores


def _predict(job: _Job, export: Export) -> None:
    with Progress(job.world.stream(sys.stderr), "predict", job.share) as progress:
        shrunk = ShrunkImages(progress.note)
        for prediction in predictions(
            job.model, job.samples, job.checkpoint.normalisation, job.views, job.workers, job.world
        ):
            export.write(prediction)
            job.note_size(prediction, shrunk)
            progress.update(prediction.index // job.world.size + 1, "")
        shrunk.finish(job.world)


def _title(arguments: argparse.Namespace, job: _Job) -> str:
    """Describes in one line what was evaluated."""
    views = job.views
    size = "their own size" if views.size is None else f"{views.size[0]}x{views.size[1]}"
    scales = "" if views.scales == (1.0,) else " times " + ", ".join(f"{scale:g}" for scale in views.scales)
    flip = ", each also flipped" if views.flip else ""
    return (
        f"{arguments.model} (step {job.checkpoint.step}) on {arguments.data} {arguments.split}: "
        f"{len(job.samples)} images, seen at {size}{scales}{flip}, on {next(job.model.parameters()).device}"
    )


def _write_json(arguments: argparse.Namespace, job: _Job, result: DataSetScores) -> None:
    record = {
        "model": str(arguments.model),
        "step": job.checkpoint.step,
        "data": arguments.data,
        "split": arguments.split,
        "size": job.views.size,
        "scales": job.views.scales,
        "flip": job.views.flip,
        "device": str(next(job.model.parameters()).device),
    }
    text = json.dumps(record | as_record(result, job.samples.label_set), indent=1, allow_nan=False)
    with atomic_write(arguments.json) as file:
        file.write(text.encode() + b"\n")


def _check(arguments: argparse.Namespace) -> None:
    """Raises ValueError if options do not go together, or if the JSON file could not be written in the end."""
    if (arguments.worst is None) != (arguments.out is None):
        raise ValueError("--worst and --out need each other")
    if arguments.no_iiou and arguments.data not in _with_instances():
        raise ValueError(f"--no-iiou is for --data {' or '.join(_with_instances())}, not {arguments.data}")
    if arguments.export and arguments.export[0] not in RESULT_FORMATS:
        raise ValueError(f"--export writes {' or '.join(RESULT_FORMATS)}, not {arguments.export[0]}")
    if arguments.json is not None:
        model: Path = arguments.model
        RunDirectory(model if model.is_dir() else model.parent).check_output(arguments.json)
        if arguments.json.exists() and model.exists() and arguments.json.samefile(model):
            raise ValueError(f"{arguments.json} is the model to evaluate, which would be lost: choose another file")
    if arguments.json is not None and not arguments.json.parent.is_dir():
        raise FileNotFoundError(f"{arguments.json.parent}: no such directory (for --json)")


def _check_unlabelled(arguments: argparse.Namespace) -> None:
    """Raises ValueError if something is asked for that needs labels, or if nothing else is asked for."""
    for flag, given in (("--json", arguments.json), ("--worst", arguments.worst)):
        if given is not None:
            raise ValueError(f"{flag} needs labels, but split {arguments.split} of {arguments.data} has none")
    if not arguments.export:
        raise ValueError(
            f"split {arguments.split} of {arguments.data} has no labels to evaluate against; "
            "--export writes predictions"
        )


def _check_classes(checkpoint: Checkpoint, samples: SegmentationDataset) -> None:
    """Raises ValueError unless the model was trained on the classes of `samples`."""
    trained, present = checkpoint.label_set.names, samples.label_set.names
    if trained != present:
        differing = [f"{one!r} and {other!r}" for one, other in zip(trained, present, strict=False) if one != other]
        detail = f"; the first to differ are {differing[0]}" if differing else ""
        raise ValueError(f"the model's {len(trained)} classes are not the data set's {len(present)}{detail}")


def _split_options(kind: str, checkpoint: Checkpoint) -> dict[str, object]:
    """Options that decided the training's splits of the same kind of data, so that no training image is among the val
    split.
    """
    data = checkpoint.config.get("data", {})
    names = [option.name for option in DATA_SETS[kind].options if option.kept] if kind == data.get("kind") else []
    return {name: data[name] for name in names if name in data}


def _with_instances() -> list[str]:
    """The kinds of data sets that have an iIoU."""
    return [name for name, kind in DATA_SETS.items() if kind.instance_ids]


def _network_size(size: SizeOrOwn | None, checkpoint: Checkpoint) -> tuple[int, int] | None:
    if size is None:
        return checkpoint.size
    return None if isinstance(size, str) else size


def _scales(text: str) -> tuple[float, ...]:
    """Scales from a text: "0.75,1" gives (0.75, 1.0)."""
    return tuple(positive_float(part) for part in text.split(","))
