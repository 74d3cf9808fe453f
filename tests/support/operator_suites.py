"""The suites of all operators, for tests that run over them: their arguments, and the comparison with the reference."""

from ops import (
    test_bn_relu,
    test_bn_relu_avgpool2,
    test_bn_relu_conv1x1,
    test_bn_relu_conv3x3,
    test_bn_relu_maxpool,
    test_channel_statistics,
    test_upsample_argmax,
    test_upsample_cross_entropy,
    test_upsample_project_concat,
)
from support.operator_suite import OperatorSuite

_CLASSES: list[type[OperatorSuite]] = [
    test_bn_relu.TestBnRelu,
    test_bn_relu_avgpool2.TestBnReluAvgpool2,
    test_bn_relu_conv1x1.TestBnReluConv1x1,
    test_bn_relu_conv3x3.TestBnReluConv3x3,
    test_bn_relu_maxpool.TestBnReluMaxpool,
    test_channel_statistics.TestChannelStatistics,
    test_upsample_argmax.TestUpsampleArgmax,
    test_upsample_cross_entropy.TestUpsampleCrossEntropy,
    test_upsample_project_concat.TestUpsampleProjectConcat,
]

#: By the operator's name.
SUITES: dict[str, OperatorSuite] = {suite.name: suite() for suite in _CLASSES}
