"""Sizes of class scores and of the labels that they are upsampled to."""

#: (N, K, h, w, H, W): up and down, by other factors in height than in width, from and to one row or column.
SCALES = [
    (2, 5, 4, 6, 16, 24),
    (1, 21, 5, 7, 13, 31),
    (2, 4, 9, 3, 4, 17),
    (1, 3, 30, 41, 7, 2),
    (1, 3, 5, 1, 1, 9),
    (1, 3, 1, 5, 9, 1),
    (1, 2, 3, 200, 5, 3),
    (1, 2, 2, 3, 2, 300),
]
