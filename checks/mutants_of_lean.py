"""Mistakes in ladderseg_fast/lean/, and the tests that ought to find each."""

from mutant import Mutant

_LEAN = "ladderseg_fast/lean/"


def _tests(*names: str, only: str | None = None) -> tuple[str, ...]:
    """Files of tests/lean, and of their tests those that `only` chooses."""
    return (*(f"tests/lean/test_{name}.py" for name in names), *(("-k", only) if only else ()))


_ARENA = _tests("arena", "workspace")
_BANDS = _tests("bands", only="no_multiple or suit")
_BASIC = _tests("basic_dense_block", only="(TestBasicDenseBlock and test_dilation) or draws")
_BATCH_NORM = _tests("batch_norm")
_DENSE = _tests("dense_block", only="graph_goes_on or (inputs_without and frozen)")
_FEATURE = _tests("feature")
_HEAD = _tests("head", only="batch_norm_options or parametrized")
_MODULES = _tests("module_check", only="shared_running or (test_changed_module and stride)")
_PARTS = _tests("parts", only="equal or three or refused")
_PREDICTIONS = _tests("repeated_predictions", only="change_eps or dilate or later_ones")
_PROGRAM = _tests("program", only="hooks_may or come_back")
_PYRAMID = _tests("pyramid_context", only="graph_goes_on")
_RESIDUAL = _tests("residual", only="section_plans or stays")
_SECTION_PLANS = ("tests/models/test_section_plans.py", "-k", "gradients_of_images and strips")
_STEM = _tests("stem", only="negative or memory_layout")
_STRIPS = _tests("successive_strips")
_TRANSITION = _tests("transition", only="workspace_is_reused")
_UP = _tests("transition_up", only="strips and train")


def _lean(file: str, old: str, new: str, tests: tuple[str, ...], mistake: str) -> Mutant:
    return Mutant(_LEAN + file, old, new, tests, mistake)


MUTANTS = [
    # Batch norm.
    _lean(
        "batch_norm.py",
        "momentum, batches = 1.0 / float(batches) if",
        "momentum, batches = 1.0 / float(batches + 1) if",
        _BATCH_NORM,
        "the cumulative average counts one batch too many",
    ),
    _lean(
        "batch_norm.py",
        "return module.training or (module.running_mean is None and module.running_var is None)",
        "return module.training",
        _HEAD,
        "evaluation without running statistics takes them all the same",
    ),
    _lean(
        "batch_norm.py",
        "        accumulate = deferred is not None",
        "        accumulate = False",
        _DENSE,
        "the last reader's correction takes the place of the others'",
    ),
    _lean(
        "batch_norm.py",
        "    if positions == 1 and group_of(",
        "    if positions == 0 and group_of(",
        _BATCH_NORM,
        "a single value per channel is not refused",
    ),
    _lean(
        "batch_norm.py",
        "if module.eps < 0 or (of_batch and module.eps == 0):",
        "if module.eps < 0:",
        _BATCH_NORM,
        "an eps of 0 is not refused in training",
    ),
    _lean(
        "batch_norm.py",
        "            torch.autograd.graph.increment_version(buffer)  #",
        "            pass  #",
        _BATCH_NORM,
        "autograd does not hear of running statistics that a kernel writes",
    ),
    _lean(
        "batch_norm.py",
        "batches.dtype == torch.int64 and batches.dim() == 0",
        "batches.dim() == 0",
        _BATCH_NORM,
        "a kernel writes eight bytes to a count of another dtype",
    ),
    _lean(
        "batch_norm.py",
        "    updates = module.training and module.track_running_stats\n",
        "    updates = module.training\n",
        _BATCH_NORM,
        "running statistics are updated though none are tracked",
    ),
    _lean(
        "batch_norm.py",
        "                buffer.copy_(updated)",
        "                pass",
        _BATCH_NORM,
        "running statistics of another dtype are not updated",
    ),
    _lean(
        "running_norms.py",
        'for name in ("weight", "bias"))',
        'for name in ("bias", "weight"))',
        _HEAD,
        "gamma and beta are exchanged in evaluation",
    ),
    _lean(
        "running_norms.py",
        "checked_epsilon(module, of_batch=False)",
        "checked_epsilon(module, of_batch=True)",
        _BATCH_NORM,
        "evaluation refuses an eps of 0, as training does",
    ),
    # Features and their gradients.
    _lean(
        "feature.py",
        "        if start == self._known:\n",
        "        if start >= self._known:\n",
        _FEATURE,
        "channels in a gap count as having statistics",
    ),
    _lean(
        "feature.py",
        "            correction = correction.plus(other)",
        "            correction = other",
        _FEATURE,
        "of the corrections of two groups the last alone is applied",
    ),
    _lean(
        "feature.py",
        "        self._deferred, self._feature = {}, None\n\n    def corrected",
        "\n    def corrected",
        _HEAD,
        "a settled gradient is corrected once more",
    ),
    _lean(
        "feature.py",
        "        if correction is not None:\n            target.take_over(correction, feature)",
        "",
        _PARTS,
        "a gradient is handed on without its correction",
    ),
    _lean(
        "passes.py",
        "layout.empty(grad, *grad.shape).copy_(grad) if shared else layout.pixel_major(grad)",
        "layout.pixel_major(grad)",
        _RESIDUAL,
        "backward writes to the gradient that the caller gave",
    ),
    _lean(
        "passes.py",
        "        return self.gradient_to_add_to(name), True",
        "        return self.gradient_to_add_to(name), False",
        _DENSE,
        "a reader overwrites what later readers have added",
    ),
    _lean(
        "passes.py",
        "            self._make_gradient(name).data.zero_()",
        "            self._make_gradient(name)",
        _tests("stem", only="workspace_is_reused"),
        "readers add to memory that is not cleared",
    ),
    _lean(
        "passes.py",
        "        if module.training:\n            self._check_own_statistics(module)\n",
        "",
        _MODULES,
        "shared running statistics are not refused",
    ),
    # Programs.
    _lean(
        "program.py",
        "        changed |= {stage.writes for stage in program.stages if stage.overwrites_gradient}\n",
        "",
        _RESIDUAL,
        "a stage that works in place is not counted among those that change a gradient",
    ),
    _lean(
        "program.py",
        "if needed.intersection(stage.reads) or wanting.intersection(stage.modules):",
        "if needed.intersection(stage.reads):",
        ("tests/models/test_lean_equals_plain.py", "-k", "only_batch_norm"),
        "parameters do not make a gradient needed, inputs alone do",
    ),
    _lean(
        "program.py",
        "        if call.hooked:\n            maps = _copies(maps)\n",
        "",
        _PROGRAM,
        "hooks get maps whose place is taken again",
    ),
    _lean(
        "saved_tensors.py",
        "            if _kind(tensor) != kind:",
        "            if False:",
        _PROGRAM,
        "saved tensors that come back as others are not refused",
    ),
    _lean(
        "module_check.py",
        '        "stride",\n',
        "",
        _MODULES,
        "another stride of a convolution is not noticed after the first step",
    ),
    _lean(
        "weights.py",
        "[:, self.start : self.stop]",
        "[:, : self.stop]",
        _UP,
        "the weight of the second half begins with the first half's",
    ),
    # Stages.
    _lean(
        "stages/head.py",
        "grad.sum(dim=(0, 2, 3)",
        "grad.mean(dim=(0, 2, 3)",
        _HEAD,
        "the bias gets the mean of the gradient, not the sum",
    ),
    _lean(
        "stages/head.py",
        "            if bias.shape != (self.conv.out_channels,):",
        "            if False:",
        _HEAD,
        "a bias of another shape is not refused, but spread over the classes",
    ),
    _lean(
        "stages/basic_dense_block.py",
        "statistics=uses_batch_statistics(self.norm) and self.dropout is None,",
        "statistics=uses_batch_statistics(self.norm),",
        _BASIC,
        "the next layer normalises with the statistics of the map before dropout",
    ),
    _lean(
        "stages/basic_dense_block.py",
        "halo=self.dilation)",
        "halo=1)",
        _BASIC,
        "a dilated layer's strips lack rows at their edges",
    ),
    _lean(
        "stages/basic_dense_block.py",
        "                grad_first_row=strip.inner.start,\n",
        "",
        _BASIC,
        "the gradient of a strip is read from the row of the halo on",
    ),
    _lean(
        "stages/basic_dense_block.py",
        "            grad_x[strip.images, :, strip.rows].add_(part)",
        "            grad_x[strip.images, :, strip.rows].copy_(part)",
        _BASIC,
        "a layer's gradient takes the place of what later layers have added",
    ),
    _lean(
        "dropout.py",
        " or not module.training or",
        " or",
        _BASIC,
        "dropout draws in evaluation too",
    ),
    _lean(
        "dropout.py",
        "        if mask.dtype == torch.bool and self.p < 1:\n            x.mul_(1 / (1 - self.p))",
        "",
        _tests("basic_dense_block", only="spectral_norm"),
        "backward of dropout lacks the factor 1 / (1 - p)",
    ),
    _lean(
        "dropout.py",
        "factors.bernoulli_(1 - self.p)",
        "factors.bernoulli_(self.p)",
        _BASIC,
        "channels are kept with the probability of a zero",
    ),
    _lean(
        "stages/bottleneck.py",
        "if before is not None and before.images == strip.images:",
        "if before is not None:",
        _STRIPS,
        "a strip begins with rows of the image before",
    ),
    _lean(
        "stages/bottleneck.py",
        "memory[: images.shape[0], :, last - made : last]",
        "memory[: images.shape[0], :, last - made - 1 : last - 1]",
        _STRIPS,
        "rows that two strips read are copied from one row above",
    ),
    _lean(
        "stages/bottleneck.py",
        "hidden[:, :, strip.inner], correction)",
        "hidden[:, :, : grad_hidden.shape[2]], correction)",
        _SECTION_PLANS,
        "a strip's correction reads the rows of its halo",
    ),
    _lean(
        "stages/pyramid.py",
        "            data += grad[:, :c]\n",
        "",
        _PYRAMID,
        "the hidden map lacks the gradient of its copy",
    ),
    _lean(
        "stages/stem.py",
        "positions = n * ((h + 1) // 2) * ((w + 1) // 2)",
        "positions = n * (h // 2) * (w // 2)",
        _STEM,
        "the last row and column of an odd image are not counted",
    ),
    _lean(
        "stages/stem.py",
        " if gamma is None else gamma.contiguous()",
        "",
        _STEM,
        "the maximum is pooled where gamma is negative",
    ),
    _lean(
        "stages/transition.py",
        "height if last else 2 * strip.rows.stop)",
        "2 * strip.rows.stop)",
        _TRANSITION,
        "the gradient of a last, odd row is not written",
    ),
    _lean(
        "stages/transition.py",
        "running.add(out.numel() // out.shape[1], statistics)",
        "running.add(1, statistics)",
        ("tests/models/test_lean_equals_plain.py", "-k", "any_memory_plan"),
        "strips of different sizes weigh the same in the statistics",
    ),
    _lean(
        "stages/transition_up.py",
        "values, norm.part(second), weights[1], 1, out, row, accumulate=True,",
        "values, norm.part(second), weights[1], 1, out, row, accumulate=False,",
        _UP,
        "the second half's convolution takes the place of the first's",
    ),
    _lean(
        "stages/transition_up.py",
        "if self._last is None or self._last[:2] != (images, rows):",
        "if self._last is None:",
        _UP,
        "rows of another strip are taken for those asked for",
    ),
    _lean(
        "stages/transition_up.py",
        "step.norms[up.norm].part(channels)",
        "step.norms[up.norm].part(slice(0, channels.stop - channels.start))",
        _UP,
        "the second half normalises with the first channels' statistics",
    ),
    _lean(
        "stages/residual_unit.py",
        "stride * rows.start : stop : stride, ::stride]",
        "rows.start : stop : stride, ::stride]",
        _RESIDUAL,
        "the projection's strips begin at rows of the output, not of the input",
    ),
    _lean(
        "stages/unit_end.py",
        "            gradient.mul_(self._step.norms[norm].norm.scale.view(-1, 1, 1, 1))\n",
        "",
        _RESIDUAL,
        "the weight's gradient lacks the scale of the batch norm",
    ),
    # Bands of a prediction.
    _lean("bands.py", "_STEM_HALO = 2", "_STEM_HALO = 1", _BANDS, "bands lack a row that the stem's edge makes wrong"),
    _lean(
        "bands.py",
        "sum(layer.dilation for layer in block.layers)",
        "max(layer.dilation for layer in block.layers)",
        _BANDS,
        "a band's halo is that of one layer",
    ),
    _lean(
        "bands.py",
        "    if stem.writes in others or any(map(uses_batch_statistics, norms)):",
        "    if stem.writes in others:",
        _BANDS,
        "a band normalises with its own statistics",
    ),
    # Recorded passes and their memory.
    _lean(
        "step_facts.py",
        '("training", "momentum", "eps", "track_running_stats")',
        '("training", "momentum", "track_running_stats")',
        _PREDICTIONS,
        "a recording is repeated though eps has changed",
    ),
    _lean(
        "step_facts.py",
        "    values += program.stage_facts\n",
        "",
        _PREDICTIONS,
        "a recording is repeated though a stage has changed",
    ),
    _lean(
        "recorded_step.py",
        "[(spans[i][0], spans[i][1] + 1) for i in large]",
        "[(spans[i][0], spans[i][1]) for i in large]",
        _PREDICTIONS,
        "a block's place is given away at the last event that reads it",
    ),
    _lean(
        "arena.py",
        "if recording.spans[other][1] > begin]",
        "if recording.spans[other][1] > begin + 1]",
        _ARENA,
        "maps lie over those that end just after they begin",
    ),
    _lean(
        "arena.py",
        "                start = max(start, high)",
        "                start = high",
        _ARENA,
        "a map lies over the upper part of one that encloses another",
    ),
    _lean(
        "workspace.py",
        "        if arena.data.device != device or not arena.take_at(start, size):\n            return None\n",
        "        if arena.data.device != device:\n            return None\n        arena.take_at(start, size)\n",
        _ARENA,
        "a map is put into its recorded place though another is there",
    ),
    _lean(
        "workspace.py",
        "            if before <= start and start + size <= before + length:",
        "            if before <= start:",
        _ARENA,
        "a placed map reaches beyond a gap",
    ),
    _lean(
        "workspace.py",
        "            self.in_use -= use.size",
        "            pass",
        _ARENA,
        "memory that is given back counts as in use",
    ),
    _lean(
        "workspace.py",
        "            except BaseException:\n                self._memory = _Memory()\n",
        "            except BaseException:\n",
        _ARENA,
        "after an error the workspace goes on with accounts that do not fit together",
    ),
    _lean(
        "workspace.py",
        "            if before + length == start:",
        "            if before + length <= start:",
        _ARENA,
        "a gap is joined with one that is not its neighbour",
    ),
]
