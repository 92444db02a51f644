"""Positions of the windows that an image or a scene is cut into."""

__all__ = ["window_starts"]


def window_starts(length: int, window: int, overlap: int) -> list[int]:
    """First pixels of the windows along one side of an image, ascending; [0] for an image no larger than a window.

    Args:
        length: length of the side in pixels.
        window: side of a window in pixels.
        overlap: overlap of neighbouring windows in pixels, below ``window``; the last window ends at the border and
            may overlap more.
    """
    last = max(0, length - window)
    return [*range(0, last, window - overlap), last]
