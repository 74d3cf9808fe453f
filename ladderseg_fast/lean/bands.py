"""The first dense block in bands of rows: without backward, its map never exists in full.

It is the widest map of a prediction, and needed for no more than the skip connection's projection and the transition,
each of them pixel by pixel. So stem, block and these readers go through the image band by band. A band has a few rows
more on either side than its readers take: those that the band's edge, where the image goes on, has made wrong. The
convolutions that made them are repeated by the next band.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ..ops.backend import backend_of
from ..ops.strips import Strip, strips
from .batch_norm import uses_batch_statistics
from .feature import Feature
from .joint_batch import BATCH_NORMS
from .passes import ForwardPass
from .plan import MIB
from .stages import DenseBlockStage, ProjectionStage, Stage, StemStage, TransitionStage
from .workspace import Phase

#: Bytes of the block's map in a band.
_BAND_BYTES = 72 * MIB
#: Rows of a band at least: of fewer, those that are made twice would be many.
_LEAST_ROWS = 128

#: Bands begin at multiples of so many rows: of the two that the transition pools, and of those of the 3x3 convolutions'
#: tiles, so that large bands have the bits of the whole map.
_MULTIPLE = 4
# Else the last band of an image could have a single row, of which the transition, which pools two, makes none.
assert _LEAST_ROWS >= 4 * _MULTIPLE, "bands have at least two multiples of rows, so the last one has more than one row"

#: Pixels of the images for one of the stem's results, in each direction.
_STEM_STRIDE = 4
#: Rows of the stem's result that an edge makes wrong: result y reads image rows 4y - 5 to 4y + 5.
_STEM_HALO = 2

_Reader = ProjectionStage | TransitionStage


@dataclass
class _BandPass(ForwardPass):
    """A forward pass over a band, which writes to the band's rows of the features that exist in full."""

    targets: dict[str, Tensor] = field(default_factory=dict)

    def new_feature(self, name: str, n: int, c: int, h: int, w: int, spread: bool = False) -> Feature:
        if name not in self.targets:
            return super().new_feature(name, n, c, h, w, spread)
        feature = self.features[name] = Feature(self.targets[name])
        return feature


def forward_in_bands(stages: Sequence[Stage], step: ForwardPass) -> int:
    """Runs the first stages of a pass without backward in bands; returns how many: 0 if that does not suit them.

    It suits a stem and its dense block, read by projections and transitions alone, without statistics of the batch, on
    a CPU. On a GPU a pass without backward has memory enough wherever a training step has.
    """
    if backend_of(step.like.device).on_gpu or len(stages) < 2:
        return 0
    stem, block = stages[:2]
    if not isinstance(stem, StemStage) or not isinstance(block, DenseBlockStage) or block.writes != stem.writes:
        return 0
    readers: list[_Reader] = []
    for stage in stages[2:]:
        if stage.reads == (stem.writes,) and isinstance(stage, (ProjectionStage, TransitionStage)):
            readers.append(stage)
        else:
            break
    first = 2 + len(readers)
    others = {name for stage in stages[first:] for name in stage.reads}.union(step.outputs)
    norms = [module for stage in stages[:first] for module in stage.modules if isinstance(module, BATCH_NORMS)]
    if stem.writes in others or any(map(uses_batch_statistics, norms)):
        return 0
    n, _, height, width = step.features[stem.reads[0]].data.shape
    h, w = -(-height // _STEM_STRIDE), -(-width // _STEM_STRIDE)
    pixels = _BAND_BYTES // (stem.channels * step.like.element_size())
    if n * h * w <= pixels:
        return 0
    halo = _STEM_HALO + sum(layer.dilation for layer in block.layers)
    halo = -(-halo // _MULTIPLE) * _MULTIPLE
    bands = strips(n, h, w, max(pixels, _LEAST_ROWS * w), halo, _MULTIPLE)
    _Bands(stem, block, readers, step, (n, h, w)).run(list(bands))
    return first


class _Bands:
    """The bands of one pass over `shape` (n, h, w), the size of the block's map."""

    def __init__(
        self,
        stem: StemStage,
        block: DenseBlockStage,
        readers: Sequence[_Reader],
        step: ForwardPass,
        shape: tuple[int, int, int],
    ) -> None:
        self._stem, self._block, self._readers, self._step = stem, block, readers, step
        n, h, w = shape
        for reader in readers:
            scale = _scale(reader)
            step.new_feature(reader.writes, n, reader.conv.out_channels, h // scale, w // scale)

    def run(self, bands: Sequence[Strip]) -> None:
        for band in bands:
            self._run(band)

    def _run(self, band: Strip) -> None:
        step, name = self._step, self._stem.reads[0]
        rows = slice(_STEM_STRIDE * band.outer.start, _STEM_STRIDE * band.outer.stop)
        images = Feature(step.features[name].data[band.images, :, rows])
        targets = {reader.writes: self._part(reader, band) for reader in self._readers}
        features = {name: images}
        here = _BandPass(
            step.parameters,
            step.plan,
            step.workspace,
            step.like,
            step.weights,
            step.running_norms,
            features,
            (),
            keep=False,
            targets=targets,
        )
        for stage in (self._stem, self._block):
            step.workspace.enter(stage, Phase.FORWARD)
            stage.forward(here)
        whole = here.features[self._stem.writes]  # held while there are parts of it
        here.features[self._stem.writes] = Feature(whole.data[:, :, band.inner])
        for reader in self._readers:
            step.workspace.enter(reader, Phase.FORWARD)
            reader.forward(here)

    def _part(self, reader: _Reader, band: Strip) -> Tensor:
        scale = _scale(reader)
        rows = slice(band.rows.start // scale, band.rows.stop // scale)
        return self._step.features[reader.writes].data[band.images, :, rows]


def _scale(reader: _Reader) -> int:
    """Rows that the reader makes one row of."""
    return 2 if isinstance(reader, TransitionStage) else 1
