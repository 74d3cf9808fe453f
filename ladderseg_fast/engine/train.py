"""The training loop; by default with the recipe of the paper (Kreso, Krapac, Segvic 2017, section 4)."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

import torch
from torch import Tensor

from ..data import IMAGENET_NORMALISATION, SegmentationDataset, look_for_classes
from ..memory import format_bytes, peak_memory
from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .class_weights import median_frequency_weights
from .config import BALANCED, Config
from .config_tables import config_text
from .curve import write_curve
from .device import find_device
from .errors import Interrupted, NonFiniteError
from .git_revision import git_revision
from .interrupt import InterruptRequest
from .learner import Learner
from .loaders import Batch, training_loader
from .pace import Pace
from .progress import Progress
from .random_state import get_random_states, seed_all, set_random_states
from .recorder import Recorder
from .run_directory import RunDirectory
from .run_log import RunLog
from .same_training import check_same_training
from .tensorboard import check_tensorboard
from .training_result import Evaluation, TrainingResult
from .validation import Validation

#: Batches in a row without a finite loss that say that the weights are broken and not the images.
_MOST_SKIPS = 10


def train(
    config: Config,
    training_set: SegmentationDataset,
    validation_set: SegmentationDataset,
    run: RunDirectory,
    stream: TextIO,
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> TrainingResult:
    """Trains a model as `config` says; `run` gets what RunDirectory lists. The progress goes to `stream`.

    On a CPU, configuration, data and the number of threads decide every bit of the result: whatever `data.workers` is,
    however often the training was stopped or killed, and resumed.

    Args:
        overwrite: an earlier run in `run` is replaced.
        resume: the run in `run` goes on from its last checkpoint; it begins where there is none yet, and where nothing
            is left to do its result is returned.

    Raises:
        NonFiniteError: a loss or a weight is NaN or infinite; the last checkpoint is kept.
        Interrupted: after Ctrl-C or SIGTERM, when the batch in progress is done and all is saved.
        OSError: a file cannot be read or written; the last checkpoint is kept.
        FileExistsError: `run` holds a checkpoint, or what no training wrote.
        BlockingIOError: another training is at work in `run`.
        ValueError: the data cannot be used; a setting does not fit them, the model or this machine; or the run to
            resume is of another training.
        MissingPackageError: a setting needs a package that is not installed.
    """
    if not resume:
        run.check_free(overwrite)
    config = config.resolved(len(training_set))
    with ExitStack() as stack:
        there = run.path.is_dir()
        if there:
            stack.enter_context(run.lock(stream))
        checkpoint = load_checkpoint(run.last) if resume and run.last.exists() else None
        if checkpoint is not None:
            check_same_training(run.last, checkpoint, config, training_set)
        trainer = _Trainer(config, training_set, validation_set, run, stream, resumed=checkpoint is not None)
        if not there:
            # Not before all has been checked: what is refused leaves no directory behind.
            stack.enter_context(run.lock(stream))
        interrupt = stack.enter_context(InterruptRequest())
        if checkpoint is None:
            # A run that was killed early begins again with its settings, which were perhaps edited meanwhile.
            keep_config = resume and run.config.exists() and not run.config_is_ours()
            trainer.begin(interrupt, overwrite or resume, keep_config)
        else:
            trainer.resume(checkpoint)
        trainer.fit(interrupt)
    return trainer.result


class _Trainer:
    """The parts of one training and its state between batches."""

    def __init__(
        self,
        config: Config,
        training_set: SegmentationDataset,
        validation_set: SegmentationDataset,
        run: RunDirectory,
        stream: TextIO,
        resumed: bool,
    ) -> None:
        self.config = config
        self.training_set = training_set
        self.run = run
        self.stream = stream
        self.device = find_device(config.training.device)
        self.validation = Validation(config, validation_set, self.device, stream)
        self.label_set = training_set.label_set
        seed_all(config.training.seed)
        self.learner = Learner(config, len(self.label_set), self.device, resumed)
        self.result = TrainingResult()
        #: Batches drawn so far, those left out among them.
        self.batches = 0
        #: Losses of the batches whose gradients wait for their step.
        self.losses: list[float] = []
        #: Batches left out since the last that was not.
        self.skips = 0
        #: Batches, since this process began, of which no pixel counted.
        self.empty = 0
        if config.output.tensorboard:
            check_tensorboard()

    def begin(self, interrupt: InterruptRequest, overwrite: bool, keep_config: bool) -> None:
        """Makes the run's directory, and weighs the classes by their frequency if the configuration says so."""
        warning = look_for_classes(self.training_set)
        if warning is not None:
            print(f"warning: training images: {warning}", file=self.stream, flush=True)
        self.run.create(overwrite, keep_config)
        revision = git_revision(Path.cwd())
        if not keep_config:
            self.run.write_config(config_text(self.config, revision))
        if self.learner.taken is not None:
            print(self.learner.taken, file=self.stream, flush=True)
        if self.config.training.class_weights == BALANCED:
            self.learner.weigh_classes(self._balanced_weights(interrupt))
        self.recorder = Recorder(self.config, self.run, step=0)
        colours = dict(zip(self.label_set.names, self.label_set.palette, strict=True))
        self.recorder.begin("start", revision, class_weights=self.learner.class_weights, colours=colours)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Takes up the state that `checkpoint` holds, and cuts the log there."""
        state = checkpoint.training_state
        self.run.take_up()
        self.batches, self.losses = state["batches"], list(state["losses"])
        self.result = TrainingResult.from_records(RunLog(self.run.log).cut(checkpoint.step, self.batches))
        if self.result.ended:
            self.result.overlays = sorted(self.run.overlays.glob("*.png"))
            return
        try:
            self.learner.restore(checkpoint.state, state["learner"])
        except ValueError as error:
            raise ValueError(f"{self.run.last} cannot be resumed: {error}") from error
        self.recorder = Recorder(self.config, self.run, checkpoint.step)
        self.recorder.begin("resume", git_revision(Path.cwd()), step=checkpoint.step)
        print(f"resumed at step {checkpoint.step} of {self.config.training.steps}", file=self.stream, flush=True)
        before, now = state["threads"], torch.get_num_threads()
        if before != now:
            text = f"{self.run.last} was written with {before} threads, now there are {now}: the last bits will differ"
            print(text, file=self.stream, flush=True)
        try:
            set_random_states(state["random"])
        except ValueError as error:
            raise ValueError(f"{self.run.last} cannot be resumed: {error}") from error

    def fit(self, interrupt: InterruptRequest) -> None:
        """All that is left to do; after Ctrl-C or SIGTERM it saves and raises Interrupted."""
        if self.result.ended:
            return
        steps = self.config.training.steps
        with Progress(self.stream, "train", steps, done=self.result.step) as self.progress:
            try:
                # A resumed run may have stopped between a step and its evaluation.
                self._evaluate_if_due(interrupt)
                self._train(interrupt)
            except Interrupted:
                self.save()
                self.draw_curve()
                raise
            with self.learner.result() as model:
                self.result.overlays = self.validation.draw_overlays(model, self.run.overlays, self.run.will_write)
            self.recorder.end(self.result.step)
            self.result.ended = True

    def save(self) -> None:
        """Writes the checkpoint to continue from, unless the model is broken."""
        if not self.learner.is_finite():
            raise NonFiniteError(f"a weight is not finite after step {self.result.step}; {self._advice()}")
        self.recorder.sync()
        training_state = {
            "learner": self.learner.state(),
            "batches": self.batches,
            "losses": self.losses,
            "images": len(self.training_set),
            "threads": torch.get_num_threads(),
            "random": get_random_states(),
        }
        save_checkpoint(self.run.last, self._checkpoint(training_state))

    def draw_curve(self) -> None:
        """Writes the curve of the steps and evaluations so far."""
        if self.result.losses:
            model, data, training = self.config.model, self.config.data, self.config.training
            size = f"{data.size[0]}x{data.size[1]}"
            title = f"{model.name} ({model.memory}), {data.kind}, {size}, batch {training.batch}"
            write_curve(self.run.curve, title, self.result.losses, self.result.evaluations, training.steps)

    def _train(self, interrupt: InterruptRequest) -> None:
        """The steps that are left."""
        pace = Pace()
        for images, labels, indices in self._remaining_batches():
            pace.batch_arrived()
            self._stop_if(interrupt)
            self._take(images, labels, indices)
            if len(self.losses) == self.config.training.accumulate:
                self._finish_step(pace)
                self._stop_if(interrupt)
                self._evaluate_if_due(interrupt) or self._save_if_due()
                pace.restart()
            else:
                self._stop_if(interrupt)
                pace.batch_done()

    def _remaining_batches(self) -> Iterator[Batch]:
        """As many as the steps that are left need; more, if some are skipped."""
        training = self.config.training
        while missing := (training.steps - self.result.step) * training.accumulate - len(self.losses):
            yield from training_loader(self.config, self.training_set, self.batches, missing)

    def _take(self, images: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Gathers the gradients of one batch."""
        loss = self.learner.add_batch(images, labels)
        self.batches += 1
        if math.isfinite(loss):
            self.losses.append(loss)
            self.skips = 0
            if loss == 0.0 and not self.learner.counts(labels):
                self._log_empty(indices)
            return
        files = self._files_of(indices)
        what = f"loss is {loss} at step {self.result.step + 1} of {self.config.training.steps} ({', '.join(files)})"
        if self.config.training.on_nonfinite == "stop" or self.skips == _MOST_SKIPS:
            raise NonFiniteError(f"{what}; {self._advice()}")
        self.skips += 1
        self.recorder.skip(step=self.result.step, batch=self.batches, loss=str(loss), files=files)
        self.progress.note(f"{what}; the batch is skipped")

    def _log_empty(self, indices: Tensor) -> None:
        """Notes, in the log always and on the stream once, that no pixel of a batch counted."""
        files = self._files_of(indices)
        self.recorder.empty(step=self.result.step, batch=self.batches, files=files)
        if not self.empty:
            self.progress.note(
                f"no pixel of a batch counts in the loss ({', '.join(files)}): it teaches nothing; {self.run.log} will "
                "list all such batches"
            )
        self.empty += 1

    def _finish_step(self, pace: Pace) -> None:
        """Changes the weights by the gathered gradients, and reports."""
        step, training = self.result.step, self.config.training
        learning_rate = self.learner.learning_rate(step)
        self.learner.update(step)
        loss = fmean(self.losses)
        self.losses = []
        self.result.losses.append(loss)
        pace.step_done()
        peak = peak_memory(self.device)
        images = training.batch * training.accumulate
        self.recorder.step(
            step=step + 1,
            epoch=self._epoch(),
            loss=loss,
            learning_rate=learning_rate,
            seconds=round(pace.seconds, 4),
            data_wait_seconds=round(pace.waited, 4),
            images_per_second=round(images / pace.seconds, 4),
            peak_memory_bytes=peak,
        )
        rate = f"{images / pace.average_seconds:.2f} images/s  wait {pace.waiting_share:.0%}"
        details = f"loss {loss:.3f}  lr {learning_rate:.1e}  {rate}  peak {format_bytes(peak)}"
        self.progress.update(step + 1, details)

    def _save_if_due(self) -> None:
        every = self.config.output.checkpoint_every
        if every is not None and self.result.step % every == 0:
            self.save()

    def _evaluate_if_due(self, interrupt: InterruptRequest) -> bool:
        """Evaluates if this step is to be and has not been; whether it did."""
        step = self.result.step
        due = step > 0 and (step % self.config.output.evaluate_every == 0 or step == self.config.training.steps)
        if not due or (self.result.evaluations and self.result.evaluations[-1].step == step):
            return False
        # First, so that whatever happens while evaluating costs no training.
        self.save()
        self.progress.clear()
        with self.learner.result() as model:
            scores = self.validation.scores(model, step, lambda: self._stop_if(interrupt))
        self.result.evaluations.append(Evaluation(step, scores.miou, scores.pixel_accuracy))
        if self.result.best.step == step:
            save_checkpoint(self.run.best, self._checkpoint(None))
        # Last: a run that is resumed here evaluates again unless all of it was done.
        self.recorder.evaluation(
            step=step,
            epoch=self._epoch(),
            miou=scores.miou,
            pixel_accuracy=scores.pixel_accuracy,
            iou=dict(zip(self.label_set.names, scores.iou, strict=True)),
            confusion=scores.confusion.tolist(),
        )
        self.draw_curve()
        return True

    def _checkpoint(self, training_state: dict[str, Any] | None) -> Checkpoint:
        return Checkpoint(
            step=self.result.step,
            model=self.config.model.name,
            memory=self.config.model.memory,
            label_set=self.label_set,
            size=self.config.data.size,
            normalisation=IMAGENET_NORMALISATION,
            config=self.config.as_tables(),
            state=self.learner.result_weights(),
            training_state=training_state,
        )

    def _balanced_weights(self, interrupt: InterruptRequest) -> tuple[float, ...]:
        with Progress(self.stream, "count classes", len(self.training_set), plain_lines=0) as progress:

            def on_sample(done: int) -> None:
                progress.update(done, "")
                if interrupt.pending:
                    raise Interrupted("interrupted before the first step", interrupt.pending)

            return median_frequency_weights(self.training_set, self.config.data.workers, on_sample)

    def _epoch(self) -> float:
        """Passes over the training images so far."""
        return round(self.batches * self.config.training.batch / len(self.training_set), 4)

    def _files_of(self, indices: Tensor) -> list[str]:
        """What the samples of a batch are called."""
        return [name for index in indices.tolist() for name in self._files(index)]

    def _files(self, index: int) -> list[str]:
        """What sample `index` of the training split is called: its files, or its name if it is drawn."""
        return [str(path) for path in self.training_set.files(index)] or [self.training_set.name(index)]

    def _stop_if(self, interrupt: InterruptRequest) -> None:
        if interrupt.pending is not None:
            step, steps = self.result.step, self.config.training.steps
            raise Interrupted(f"interrupted at step {step} of {steps}; saved {self.run.last}", interrupt.pending)

    def _advice(self) -> str:
        kept = f"the last checkpoint is {self.run.last}" if self.run.last.exists() else "no checkpoint was written"
        return f"a lower learning rate may help; {kept}"
