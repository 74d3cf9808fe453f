from bn_operator_suite import BnConvOperatorSuite


class TestBnReluConv1x1(BnConvOperatorSuite):
    """Shapes are (N, C, H, W, M)."""

    name = "bn_relu_conv1x1"
    shapes = [
        (1, 1, 1, 1, 1),
        (1, 3, 1, 1, 19),
        (4, 17, 1, 1, 1),
        (1, 33, 5, 7, 19),
        (3, 130, 3, 2, 128),
        (2, 3, 37, 41, 128),
        (1, 64, 1, 1300, 1),
        (1, 300, 2, 3, 130),
        (2, 520, 3, 5, 17),
        (0, 3, 4, 4, 19),
    ]
    small = (2, 3, 3, 2, 4)
    large = (2, 33, 37, 41, 19)
