"""A plain twin of both LLaVA-OneVision image processors: images of one prompt in, pixel values out.

make_preprocess.py asserts that it equals transformers bit for bit on every case it records.
"""
import math

import numpy as np

from resample_twin import pillow_resize, torch_resize

F = np.float32


def best_resolution(h, w, pinpoints):
    best, most, least = None, 0, math.inf
    for H, W in pinpoints:
        scale = min(W / w, H / h)
        effective = min(int(w * scale) * int(h * scale), w * h)
        wasted = H * W - effective
        if effective > most or (effective == most and wasted < least):
            best, most, least = (H, W), effective, wasted
    return best


def inside(h, w, H, W):
    """The size of the picture in its grid."""
    if W / w < H / h:
        return min(math.ceil(h * (W / w)), H), W
    return H, min(math.ceil(w * (H / h)), W)


def pad(image, top, bottom, left, right, color=(0, 0, 0)):
    h, w, _ = image.shape
    out = np.empty((top + h + bottom, left + w + right, 3), np.uint8)
    out[:] = color
    out[top : top + h, left : left + w] = image
    return out


def tiles(image, tile, pinpoints, resize):
    h, w, _ = image.shape
    H, W = best_resolution(h, w, pinpoints)
    nh, nw = inside(h, w, H, W)
    top, left = (H - nh) // 2, (W - nw) // 2  # the odd pixel goes to the bottom and right
    grid = pad(resize(image, nh, nw), top, H - nh - top, left, W - nw - left)
    cut = [grid[y : y + tile, x : x + tile] for y in range(0, H, tile) for x in range(0, W, tile)]
    return [resize(image, tile, tile)] + cut  # the base squeezes the whole image, whatever its shape


def square(image, mean):
    h, w, _ = image.shape
    m = max(h, w)
    top, left = (m - h) // 2, (m - w) // 2
    return pad(image, top, m - h - top, left, m - w - left, [int(x * 255) for x in mean])


def normalise_torchvision(image, mean, std, factor=1 / 255):
    """(x - mean·255) / (std·255): the products and all else rounded to f32."""
    inverse = F(1.0 / factor)
    return (image.astype(F) - np.array(mean, F) * inverse) / (np.array(std, F) * inverse)


def normalise_pillow(image, mean, std, factor=1 / 255):
    """x·factor in f64, rounded to f32; then (· - mean) / std in f32."""
    return ((image.astype(np.float64) * factor).astype(F) - np.array(mean, F)) / np.array(std, F)


def pixel_values(images, tile, pinpoints, mean, std, pillow=False):
    """[images, tiles of the largest, 3, tile, tile] f32; tiles that an image lacks are zero (after normalising)."""
    resize, normalise = (pillow_resize, normalise_pillow) if pillow else (torch_resize, normalise_torchvision)
    one = len(images) == 1
    parts = [tiles(im, tile, pinpoints, resize) if one else [resize(square(im, mean), tile, tile)] for im in images]
    out = np.zeros((len(images), max(map(len, parts)), 3, tile, tile), F)
    for i, part in enumerate(parts):
        for j, t in enumerate(part):
            out[i, j] = normalise(t, mean, std).transpose(2, 0, 1)
    return out
