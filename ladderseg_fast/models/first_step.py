"""The first training step of a model on a GPU: its maps are placed before it runs."""

import torch

from .. import lean, memory
from ..memory.lean_model import LeanModel
from ..ops import autocast
from ..ops.backend import backend_of
from .placement import DevicePlacement


def place_first_step(
    model: LeanModel,
    shape: torch.Size,
    images_dtype: torch.dtype,
    device: torch.device,
    plan: lean.MemoryPlan | None,
    workspace: lean.Workspace,
    placement: DevicePlacement | None,
) -> None:
    """Tells `workspace`, or those of `placement`, the places of the maps of the training step that is about to begin.

    Without them it would take a buffer for each map that fits into no gap, and release them after the step. On a CPU
    the system gets their pages back; on a GPU torch's allocator keeps them beside the one buffer of later steps, so
    that a process would hold twice what a step takes. It does nothing on a CPU, if the workspace already has memory,
    and if no backward pass will follow.

    Args:
        shape: of the images, [N, C, H, W].
        images_dtype, device: theirs too.
    """
    workspaces = [workspace] if placement is None else placement.workspaces
    if any(each.resident for each in workspaces) or device.type == "meta" or not backend_of(device).on_gpu:
        return
    if not torch.is_grad_enabled() or not any(parameter.requires_grad for parameter in model.parameters()):
        return
    dtype = autocast.feature_dtype(images_dtype, device)
    plan = plan or lean.MemoryPlan.default(device)
    try:
        if placement is None:
            workspace.expect(memory.placements(model, shape, plan, dtype, device))
        else:
            planner = memory.parts_planner_for(model, shape, len(workspaces), placement.cuts, dtype, device)
            for estimate, each in zip(planner.with_plan(plan).estimates, workspaces):
                each.expect(estimate.placements)
    except Exception:
        # The step itself says what is wrong with it. And a model of which there can be no copy takes more memory.
        return
