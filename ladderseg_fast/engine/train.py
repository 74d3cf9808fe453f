"""The training loop; by default with the recipe of the paper (Kreso, Krapac, Segvic 2017, section 4)."""

import math
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

import torch
from torch import Tensor

from ..data import SegmentationDataset, check_something_counts, look_for_classes
from ..memory import format_bytes, peak_memory
from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .class_weights import median_frequency_weights
from .config import BALANCED, Config, decided
from .config_tables import build_config, config_text, read_config_file
from .curve import write_curve
from .device import find_devices
from .distributed import World
from .errors import Interrupted, NonFiniteError, RankError, SystemRefusal
from .git_revision import GitRevision, git_revision
from .idle_batches import IdleBatches
from .image_memory import check_images_fit
from .image_statistics import with_form, with_statistics
from .interrupt import InterruptRequest, child_signals_held
from .learner import Learner
from .loaders import Batch, training_loader
from .pace import Pace
from .progress import Progress
from .random_state import get_random_states, seed_all, set_random_states
from .recorder import Recorder
from .refusals import refusal, refusals_named
from .run_directory import RunDirectory
from .run_log import Record, RunLog
from .same_training import check_same_training, length_before, names_digest, other_roundings
from .tensorboard import check_tensorboard
from .terminal import show
from .training_result import Evaluation, TrainingResult
from .validation import Validation

#: Advice for a training to which the system refuses memory.
_LESS = (
    "a smaller training.batch, data.size or data.crop, fewer data.workers, "
    'or a budget such as model.memory = "8GiB" need less memory'
)


def train(
    config: Config,
    training_set: SegmentationDataset,
    validation_set: SegmentationDataset,
    run: RunDirectory,
    stream: TextIO,
    *,
    overwrite: bool = False,
    resume: bool = False,
    world: World | None = None,
) -> TrainingResult:
    """Trains a model as `config` says; `run` gets what RunDirectory lists. The progress goes to `stream`.

    The processes of `world` train together: each batch is shared between them, and the first one alone writes `run` and
    `stream`. What they need of `run` it tells the others.

    On a CPU, configuration, data and the numbers of threads and processes decide every bit of the result: whatever
    `data.workers` is, however often the training was stopped or killed, and resumed.

    Args:
        overwrite: an earlier run in `run` is replaced.
        resume: the run in `run` goes on from its last checkpoint; it begins where there is none yet, and where nothing
            is left to do its result is returned. Of settings that enter the result only the length may have changed:
            step s from there on has the learning rate of step s in a training of the new length.

    Raises:
        NonFiniteError: a loss or a weight is NaN or infinite; the last checkpoint is kept.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, when the batch in progress is done and all is saved; the message
            says so, or what could not be written.
        KeyboardInterrupt: after a second Ctrl-C, at once; the message names the last checkpoint.
        SystemRefusal: the system refused memory, ended a process that loads images, or closed the pipe or terminal of
            `stream`; the message says whether the state was saved or which checkpoint is the last.
        OSError: a file cannot be read or written. Where a checkpoint can be written, all batches before are saved.
        FileExistsError: `run` holds a checkpoint, or what no training wrote.
        BlockingIOError: another training is at work in `run`.
        ValueError: the data cannot be used, or no pixel of `validation_set` has a class; a setting does not fit them,
            the model or this machine; or the run to resume is of another training.
        RankError: another process of `world` failed or is gone.
        MissingPackageError: a setting needs a package that is not installed.
    """
    world = world or World()
    stream = world.stream(stream)
    if not resume:
        world.first(lambda: run.check_free(overwrite))
    if world.size > 1 and "," in config.training.device:
        raise ValueError(
            f"training.device must be one name with {world.size} processes, which have a device each, "
            f"got {config.training.device!r}"
        )
    config = with_form(config, training_set, validation_set)
    config = config.resolved(len(training_set), world.size, world.local_size)
    if config.training.batch % world.size:
        raise ValueError(
            f"training.batch must be divisible by the {world.size} processes, which share each batch, "
            f"got {config.training.batch}"
        )
    check_images_fit(config, world.size, world.local_size)
    with refusals_named(), ExitStack() as stack:

        def take_lock() -> None:
            stack.enter_context(run.lock(stream))

        there = world.first(run.path.is_dir)
        if there:
            world.first(take_lock)
        checkpoint = world.first(lambda: _checkpoint_to_resume(run) if resume else None)
        if checkpoint is not None:
            if config.data.normalisation is None:
                config = replace(config, data=config.data.with_normalisation(checkpoint.normalisation))
            check_same_training(run.last, checkpoint, config, training_set)
        try:
            check_something_counts(validation_set)
        except ValueError as error:
            raise ValueError(f"the validation split cannot be used for scores: {error}") from error
        config = with_statistics(config, training_set, stream, world)
        trainer = _Trainer(config, training_set, validation_set, run, stream, checkpoint is not None, world)
        if not there:
            # Not before all has been checked: what is refused leaves no directory behind.
            world.first(take_lock)
        interrupt = stack.enter_context(InterruptRequest())
        if checkpoint is None:
            # A run that was killed early begins again with its settings, which were perhaps edited meanwhile.
            trainer.begin(interrupt, overwrite or resume, resume)
        else:
            trainer.resume(checkpoint)
        trainer.fit(interrupt)
    return trainer.result


class _Trainer:
    """Parts of one training and its state between batches."""

    def __init__(
        self,
        config: Config,
        training_set: SegmentationDataset,
        validation_set: SegmentationDataset,
        run: RunDirectory,
        stream: TextIO,
        resumed: bool,
        world: World,
    ) -> None:
        self.config = config
        self.world = world
        self.steps = decided(config.training.steps)
        self.training_set = training_set
        self.run = run
        self.stream = stream
        self.device = world.device(find_devices(config.training.device)[0])
        self.validation = Validation(config, validation_set, self.device, stream, world)
        self.label_set = training_set.label_set
        self.names = names_digest(training_set)
        seed_all(config.training.seed)
        self.learner = Learner(config, len(self.label_set), self.device, resumed, world)
        self.result = TrainingResult()
        #: Batches drawn so far, those left out among them.
        self.batches = 0
        #: Losses of the batches whose gradients wait for their step.
        self.losses: list[float] = []
        #: Whether weights, gradients, counters and log are those after the same batch; and the batches that were saved.
        self.whole, self.saved = True, 0
        if config.output.tensorboard:
            check_tensorboard()

    def begin(self, interrupt: InterruptRequest, overwrite: bool, resume: bool) -> None:
        """Makes the run's directory, and weighs the classes by their frequency if the configuration says so."""
        revision = self.world.first(lambda: self._make_directory(overwrite, resume))
        if self.config.training.class_weights == BALANCED:
            self.learner.weigh_classes(self._balanced_weights(interrupt))
        self.recorder = Recorder(self.config, self.run, 0, self.world)
        colours = dict(zip(self.label_set.names, self.label_set.palette, strict=True))
        self.recorder.begin("start", revision, class_weights=self.learner.class_weights, colours=colours)

    def _make_directory(self, overwrite: bool, resume: bool) -> GitRevision | None:
        """Makes the run's directory with its settings; returns the revision of the user's files."""
        # A run that was killed early begins again with its settings, which were perhaps edited meanwhile.
        keep_config = resume and self.run.config.exists() and not self.run.config_is_ours()
        warning = look_for_classes(self.training_set)
        if warning is not None:
            show(f"warning: training images: {warning}", stream=self.stream)
        self.run.create(overwrite, keep_config)
        revision = git_revision(Path.cwd())
        if not keep_config:
            self.run.write_config(config_text(self.config, revision))
        if self.learner.taken is not None:
            show(self.learner.taken, stream=self.stream)
        self._say_where()
        return revision

    def resume(self, checkpoint: Checkpoint) -> None:
        """Restores the state that `checkpoint` holds, and cuts the log there; the length may have changed."""
        state = checkpoint.training_state
        assert state is not None, "check_same_training refuses such a checkpoint"
        steps_before, steps = length_before(checkpoint, self.config), self.steps
        self.batches, self.losses = state["batches"], list(state["losses"])
        self.saved = self.batches
        revision, records = self.world.first(lambda: self._take_up(checkpoint.step, steps != steps_before))
        self.result = TrainingResult.from_records(records)
        if self.result.ended and steps == steps_before:
            self.result.overlays = sorted(self.run.overlays.glob("*.png"))
            return
        self.result.ended = False
        try:
            self.learner.restore(checkpoint.state, state["learner"], len(self.losses))
        except ValueError as error:
            raise ValueError(f"{self.run.last} cannot be resumed: {error}") from error
        self.recorder = Recorder(self.config, self.run, checkpoint.step, self.world)
        self.recorder.begin("resume", revision, step=checkpoint.step, steps_before=steps_before)
        text = f"resumed at step {checkpoint.step} of {steps}"
        if steps != steps_before:
            text += f", formerly of {steps_before}: the learning rate follows the new length"
        show(text, stream=self.stream)
        self._say_where()
        for text in other_roundings(self.run.last, state, self.config, self.world.size):
            show(text, stream=self.stream)
        try:
            set_random_states(state["random"])
        except ValueError as error:
            raise ValueError(f"{self.run.last} cannot be resumed: {error}") from error

    def _say_where(self) -> None:
        if self.learner.cut is not None:
            show(self.learner.cut, stream=self.stream)

    def _take_up(self, step: int, new_length: bool) -> tuple[GitRevision | None, list[Record]]:
        """Makes the directory ready to continue after `step` steps; returns the revision of the user's files, and the
        records up to there.
        """
        revision = git_revision(Path.cwd())
        self.run.take_up()
        if new_length:
            self._write_length(revision)
        return revision, RunLog(self.run.log).cut(step, self.batches)

    def _write_length(self, revision: GitRevision | None) -> None:
        """Brings config.toml to a length that has changed, so that the run can be resumed with its own settings again.

        Raises:
            ValueError: it was edited, and says something else.
        """
        file, steps = self.run.config, self.steps
        if self.run.config_is_ours() or not file.exists():
            self.run.write_config(config_text(self.config, revision))
        elif build_config([read_config_file(file)]).resolved(len(self.training_set)).training.steps != steps:
            raise ValueError(
                f"{file} was changed since the run wrote it: write steps = {steps} under [training] there, "
                "and resume without another length"
            )

    def fit(self, interrupt: InterruptRequest) -> None:
        """Runs the rest of the training; if something ends it early, saves what it can, and says so."""
        if self.result.ended:
            return
        self.idle = IdleBatches(self.config, self.training_set, self.recorder, self.world)
        self.world.keeps(partial(_last_in_words, self.run, self.world.is_first))
        with Progress(self.stream, "train", self.steps, done=self.result.step) as self.progress:
            try:
                # A resumed run may have stopped between a step and its evaluation.
                self._evaluate_if_due(interrupt)
                self._train(interrupt)
                self.result.overlays = self.world.first(self._draw_overlays)
            except Interrupted as stopped:
                self.world.leaving()
                try:
                    self.save()
                    self.draw_curve()
                except OSError as refused:
                    step = f"step {self.result.step} of {self.steps}"
                    text = f"interrupted at {step}; {refused}; {self._last_checkpoint()}"
                    raise Interrupted(text, stopped.signal) from refused
                raise
            except KeyboardInterrupt as second:
                text = f"interrupted at once, after step {self.result.step} of {self.steps}; {self._last_checkpoint()}"
                raise KeyboardInterrupt(text) from second
            except Exception as raised:
                self.world.leaving()
                self._keep_what_is_done(raised)
                raise
            self.world.first(lambda: self.recorder.end(self.result.step))
            self.result.ended = True

    def _keep_what_is_done(self, raised: Exception) -> None:
        """Saves what can be saved after an error, and says so.

        A method of its own: a variable in `fit` would keep the error, and loader processes with it, until Python
        happens to look for cycles.

        Raises:
            RankError, SystemRefusal: the error in their words.
        """
        error = self.world.explained(raised)
        # Of several processes, each has but its part of an unfinished step.
        alone = self.world.size == 1 or (self.world.is_first and not self.losses)
        unsaved = self.whole and self.saved != self.batches and alone
        kept = self._saved_now() if unsaved else self._last_checkpoint()
        if isinstance(error, RankError):
            raise RankError(f"{error}; {kept}") from raised
        reason = refusal(error)
        if reason is not None:
            advice = "" if isinstance(error, BrokenPipeError) else f"; {_LESS}"
            raise SystemRefusal(f"{reason}; {kept}{advice}") from error
        if unsaved:
            self.progress.note(kept)

    def save(self) -> None:
        """Writes the checkpoint to continue from, unless the model is broken; a call of all processes together."""
        if self.losses:
            self.learner.unite()
        self.world.first(self._save_here)
        self.saved = self.batches

    def _save_here(self) -> None:
        """Writes the checkpoint from the state of this process."""
        if not self.learner.is_finite():
            raise NonFiniteError(f"a weight is not finite after step {self.result.step}; {self._advice()}")
        self.recorder.sync()
        training_state = {
            "learner": self.learner.state(),
            "batches": self.batches,
            "losses": self.losses,
            "images": len(self.training_set),
            "names": self.names,
            "threads": torch.get_num_threads(),
            "processes": self.world.size,
            "random": get_random_states(),
        }
        self._write(self.run.last, training_state)

    def draw_curve(self) -> None:
        """Writes the curve of the steps and evaluations so far, in the first process."""
        if self.result.losses and self.world.is_first:
            model, data, training = self.config.model, self.config.data, self.config.training
            height, width = decided(data.size)
            title = f"{model.name} ({model.memory}), {data.kind}, {height}x{width}, batch {training.batch}"
            write_curve(self.run.curve, title, self.result.losses, self.result.evaluations, self.steps)

    def _saved_now(self) -> str:
        """Saves after an error, and says what there is to continue from."""
        try:
            self._save_here()
        except Exception as error:  # whatever it is: the error that is under way comes first, and this one is told
            return f"step {self.result.step} could not be saved ({error}); {self._last_checkpoint()}"
        return f"saved {self.run.last} at step {self.result.step} of {self.steps}"

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Block in which weights, gradients, counters and log change together; an error leaves a state that is not
        saved.
        """
        with child_signals_held():
            self.whole = False
            yield
            self.whole = True

    def _train(self, interrupt: InterruptRequest) -> None:
        """Runs the steps that are left."""
        pace = Pace()
        for images, labels, indices in self._batches_of_all():
            pace.batch_arrived()
            self._stop_if(interrupt)
            with self._changing():
                note = self._take(images, labels, indices)
                finished = len(self.losses) == self.config.training.accumulate
                details = self._finish_step(pace) if finished else ""
            if note is not None:
                self.progress.note(note)
            if finished:
                self.progress.update(self.result.step, details)
                self._stop_if(interrupt)
                if not self._evaluate_if_due(interrupt):
                    self._save_if_due()
                pace.restart()
            else:
                self._stop_if(interrupt)
                pace.batch_done()

    def _batches_of_all(self) -> Iterator[Batch]:
        """Remaining batches; if one process cannot load its share of a batch, none has it."""
        batches = self._remaining_batches()
        while True:
            with self.world.together():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _remaining_batches(self) -> Iterator[Batch]:
        """This process's shares of the batches for the steps that are left, and more if some are skipped."""
        accumulate = self.config.training.accumulate
        while missing := (self.steps - self.result.step) * accumulate - len(self.losses):
            yield from training_loader(self.config, self.training_set, self.batches, missing, self.world)

    def _take(self, images: Tensor, labels: Tensor, indices: Tensor) -> str | None:
        """Gathers the gradients of one batch; returns what to say about it if it teaches nothing."""
        loss = self.learner.add_batch(images, labels)
        self.batches += 1
        if not math.isfinite(loss):
            return self.idle.not_finite(loss, self.result.step, self.batches, indices, self._advice())
        self.losses.append(loss)
        self.idle.has_taught()
        if loss != 0.0 or any(self.world.gather(self.learner.counts(labels))):
            return None
        return self.idle.no_pixel(self.result.step, self.batches, indices)

    def _finish_step(self, pace: Pace) -> str:
        """Changes the weights by the gathered gradients, and logs the step; returns what to show of it."""
        step, training = self.result.step, self.config.training
        learning_rate = self.learner.learning_rate(step)
        self.learner.update(step)
        loss = fmean(self.losses)
        self.losses = []
        self.result.losses.append(loss)
        pace.step_done()
        peak = max(map(peak_memory, self.learner.devices))
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
        return f"loss {loss:.3f}  lr {learning_rate:.1e}  {rate}  peak {format_bytes(peak)}"

    def _save_if_due(self) -> None:
        every = self.config.output.checkpoint_every
        if every is not None and self.result.step % every == 0:
            self.save()

    def _evaluate_if_due(self, interrupt: InterruptRequest) -> bool:
        """Evaluates if this step is due and has not been evaluated; returns whether it did."""
        step = self.result.step
        due = step > 0 and (step % decided(self.config.output.evaluate_every) == 0 or step == self.steps)
        if not due or (self.result.evaluations and self.result.evaluations[-1].step == step):
            return False
        # First, so that whatever happens while evaluating costs no training.
        self.save()
        self.progress.clear()
        with self.learner.result() as model:
            scores = self.validation.scores(model, step, lambda: self._stop_if(interrupt))
        self.result.evaluations.append(Evaluation(step, scores.miou, scores.pixel_accuracy))
        if self.result.best is not None and self.result.best.step == step:
            self.world.first(lambda: self._write(self.run.best, None))
        self.draw_curve()
        # Last: a run that is resumed here evaluates again unless all of it was done.
        self.recorder.evaluation(
            step=step,
            epoch=self._epoch(),
            miou=scores.miou,
            pixel_accuracy=scores.pixel_accuracy,
            iou=dict(zip(self.label_set.names, scores.iou, strict=True)),
            confusion=scores.confusion.tolist(),
        )
        return True

    def _draw_overlays(self) -> list[Path]:
        with self.learner.result() as model:
            return self.validation.draw_overlays(model, self.run.overlays, self.run.will_write)

    def _write(self, path: Path, training_state: dict[str, Any] | None) -> None:
        """Writes the weights with `training_state` to `path`."""
        checkpoint = Checkpoint(
            step=self.result.step,
            model=self.config.model.name,
            memory=self.config.model.memory,
            label_set=self.label_set,
            size=decided(self.config.data.size),
            normalisation=decided(self.config.data.normalisation),
            config=self.config.as_tables(),
            state=self.learner.result_weights(),
            training_state=training_state,
        )
        with self.world.writing():
            save_checkpoint(path, checkpoint)

    def _balanced_weights(self, interrupt: InterruptRequest) -> tuple[float, ...]:
        with Progress(self.stream, "count classes", len(self.training_set), plain_lines=0) as progress:

            def on_sample(done: int) -> None:
                progress.update(done, "")
                if interrupt.pending:
                    raise Interrupted("interrupted before the first step", interrupt.pending)

            return median_frequency_weights(self.training_set, decided(self.config.data.workers), on_sample, self.world)

    def _epoch(self) -> float:
        """Number of passes over the training images so far."""
        return round(self.batches * self.config.training.batch / len(self.training_set), 4)

    def _stop_if(self, interrupt: InterruptRequest) -> None:
        number = self.world.largest(interrupt.pending or 0)
        if number:
            text = f"interrupted at step {self.result.step} of {self.steps}; saved {self.run.last}"
            raise Interrupted(text, signal.Signals(number))

    def _advice(self) -> str:
        return f"a lower learning rate may help; {self._last_checkpoint()}"

    def _last_checkpoint(self) -> str:
        return _last_in_words(self.run, self.world.is_first)


def _checkpoint_to_resume(run: RunDirectory) -> Checkpoint | None:
    """The last checkpoint of `run`; None if there is none yet.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged; the message says what there is instead.
    """
    if not run.last.exists():
        return None
    try:
        return load_checkpoint(run.last)
    except ValueError as error:
        try:
            step = load_checkpoint(run.best).step
            instead = f"{run.best} is whole: --init-from {run.best} starts another run from its weights, of step {step}"
        except (OSError, ValueError):
            instead = f"{run.path} has no other checkpoint that is whole: --overwrite begins anew"
        raise ValueError(f"{error}; {instead}") from error


def _last_in_words(run: RunDirectory, sees: bool) -> str:
    """Words about the last checkpoint of `run`, for a process that `sees` its directory, or may not see it."""
    if run.last.exists():
        return f"the last checkpoint is {run.last}"
    return "no checkpoint was written" if sees else f"the last checkpoint, if any, is {run.last}"
