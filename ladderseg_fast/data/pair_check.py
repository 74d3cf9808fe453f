"""Quick check of a data set before a training: do all files exist, and do their headers fit together?"""

from .file_pairs import FilePairs
from .sample import SegmentationDataset

#: Messages that one error holds.
_MOST = 20


def check_pairs(samples: SegmentationDataset) -> None:
    """Checks every file of `samples` without decoding it: some 0.1 ms for a file that the system has cached.

    `ladderseg data check` reads the pixels as well.

    Raises:
        ValueError: a file is missing, empty, of the wrong form or unreadable, or image and labels differ in size; the
            message names all such files, a line each, up to twenty, and counts the others.
    """
    if not isinstance(samples, FilePairs):
        return
    problems = []
    for index in range(len(samples)):
        try:
            samples.check_pair(index)
        except (OSError, ValueError) as error:
            problems.append(str(error))
    if len(problems) == 1:
        raise ValueError(f"{problems[0]}; `ladderseg data check` reads the pixels as well")
    if problems:
        more = [f"and {len(problems) - _MOST} more"] if len(problems) > _MOST else []
        lines = [f"{len(problems)} of {len(samples)} samples cannot be used:", *problems[:_MOST], *more]
        raise ValueError("\n  ".join(lines) + "\n`ladderseg data check` reads the pixels as well")
