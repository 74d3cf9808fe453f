"""A ladder of a few channels, with every kind of stage, whose step takes milliseconds."""

from torch import Tensor, nn

from ladderseg_fast import lean
from ladderseg_fast.lean import Workspace
from ladderseg_fast.nn import Bottleneck, Context, DenseBlock, Head, Transition, TransitionUp


class SmallLadder(nn.Module):
    """Images [N, 3, H, W] -> scores [N, 4, H/4, W/4], lean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.block = DenseBlock(8, layers=2, growth_rate=8)
        self.transition = Transition(24, 12)
        self.residual = nn.Sequential(Bottleneck(12, 8))
        self.context = Context(32, hidden_channels=8, out_channels=8)
        self.up = TransitionUp(8, 24, skip_channels=8, out_channels=8)
        self.head = Head(8, num_classes=4)

    def lean(self, images: Tensor, workspace: Workspace) -> Tensor:
        skip = lean.stem(self.conv, self.norm, images, workspace=workspace)
        skip = lean.dense_block(self.block, skip, workspace=workspace)
        x = lean.transition(self.transition, skip, workspace=workspace).relu()
        x = lean.context(self.context, lean.residual_layer(self.residual, x, workspace=workspace), workspace=workspace)
        x = lean.transition_up(self.up, x, skip, workspace=workspace)
        return lean.head(self.head, x, workspace=workspace)
