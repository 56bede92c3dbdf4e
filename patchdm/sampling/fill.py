"""Filling what is unknown without a model: by the nearest known pixel, and by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchdm.formats.images import Pixels

TELEA_RADIUS = 3
"""Pixels around each one that are looked at: the value of OpenCV's examples."""


def nearest_known(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest known pixel of each pixel, and how far it is.

    Args:
        mask: (H, W), True where a pixel is unknown.

    Returns:
        (H, W) numbers of pixels in reading order, and (H, W) distances in pixels, Euclid's within
        2 %. A known pixel is its own nearest; where none is known, all are infinitely far.
    """
    if mask.all():
        return np.zeros(mask.shape, np.int64), np.full(mask.shape, np.inf, np.float32)
    distance, labels = cv2.distanceTransformWithLabels(
        mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    pixel_of_label = np.zeros(labels.max() + 1, np.int64)
    pixel_of_label[labels[~mask]] = np.flatnonzero(~mask)
    return pixel_of_label[labels], np.asarray(distance, np.float32)


def replicate(images: Tensor, mask: Tensor) -> Tensor:
    """Give every unknown pixel the value of the nearest known one.

    Args:
        images: (B, C, H, W).
        mask: (B, 1, H, W) bool, True where unknown.

    Raises:
        ValueError: nothing is known of an image.
    """
    filled = []
    for image, hole in zip(images, mask[:, 0].cpu().numpy(), strict=True):
        if hole.all():
            raise ValueError("found an image of which no pixel is known, expected one or more")
        nearest = torch.from_numpy(nearest_known(hole)[0]).to(image.device)
        filled.append(image.flatten(1)[:, nearest])
    return torch.stack(filled)


def telea(images: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """Inpaint (n, H, W, 3) where a mask (H, W) is True, by OpenCV's fast marching (Telea, 2004)."""
    hole = mask.astype(np.uint8)
    filled = [
        cv2.inpaint(np.ascontiguousarray(image), hole, TELEA_RADIUS, cv2.INPAINT_TELEA)
        for image in images
    ]
    return np.stack(filled)
