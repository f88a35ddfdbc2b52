"""A plain twin of the two uint8 resamplers that users meet: torchvision's (PyTorch's CPU kernel) and Pillow's.

Nothing here calls torch or Pillow. Run as a program, it proves itself value for value against both.
The algorithm is written down in ../resample/README.md.
"""
import math

import numpy as np

# ---------------------------------------------------------------- filters


def bilinear(x):
    x = abs(x)
    return 1.0 - x if x < 1.0 else 0.0


def bicubic_torch(x):
    """Keys, a = -1/2, in the order of operations of PyTorch."""
    a = -0.5
    x = abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    if x < 2.0:
        return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    return 0.0


def bicubic_pillow(x):
    """Keys, a = -1/2, in the order of operations of Pillow."""
    a = -0.5
    x = abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    if x < 2.0:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0


def sinc(x):
    if x == 0.0:
        return 1.0
    x = x * math.pi
    return math.sin(x) / x


def lanczos(x):
    return sinc(x) * sinc(x / 3) if -3.0 <= x < 3.0 else 0.0


# filter name -> (support at scale 1, function)
TORCH = {"bilinear": (1.0, bilinear), "bicubic": (2.0, bicubic_torch)}
PILLOW = {"bilinear": (1.0, bilinear), "bicubic": (2.0, bicubic_pillow), "lanczos": (3.0, lanczos)}

# ---------------------------------------------------------------- float weights of one axis (float64)


def weights(n_in, n_out, radius, filt):
    """[(first input index, [weights])] per output index; the weights of one output sum to about 1."""
    scale = n_in / n_out
    stretch = max(scale, 1.0)  # antialias: the filter widens when shrinking, never narrows
    support = radius * stretch
    inverse = 1.0 / stretch
    table = []
    for i in range(n_out):
        center = scale * (i + 0.5)
        first = max(int(center - support + 0.5), 0)  # int() truncates towards zero
        count = min(int(center + support + 0.5), n_in) - first
        w = [filt((j + first - center + 0.5) * inverse) for j in range(count)]
        total = 0.0
        for v in w:  # in this order
            total += v
        if total != 0.0:
            w = [v / total for v in w]
        table.append((first, w))
    return table


# ---------------------------------------------------------------- fixed point weights of one axis


def rounded(x):
    """Half away from zero: add ±0.5, truncate."""
    return int(x - 0.5) if x < 0 else int(x + 0.5)


def torch_axis(n_in, n_out, name):
    """int16 weights: as many fractional bits as let the largest weight of the whole axis stay below 2^15."""
    table = weights(n_in, n_out, *TORCH[name])
    top = max([0.0] + [v for _, w in table for v in w])
    bits = 0
    while bits < 22 and int(0.5 + top * (1 << (bits + 1))) < (1 << 15):
        bits += 1
    return bits, [(first, [rounded(v * (1 << bits)) for v in w]) for first, w in table]


def pillow_axis(n_in, n_out, name):
    """int32 weights, always 22 fractional bits (32 - 8 - 2)."""
    table = weights(n_in, n_out, *PILLOW[name])
    return 22, [(first, [rounded(v * (1 << 22)) for v in w]) for first, w in table]


# ---------------------------------------------------------------- the two passes


def one_axis(rows, axis):
    """rows: [n_in, ...] uint8 -> [n_out, ...] uint8, along the first dimension."""
    bits, table = axis
    out = np.empty((len(table),) + rows.shape[1:], np.uint8)
    for i, (first, w) in enumerate(table):
        acc = np.full(rows.shape[1:], 1 << (bits - 1), np.int64)
        for j, k in enumerate(w):
            acc += k * rows[first + j].astype(np.int64)
        assert acc.min(initial=0) >= -(2**31) and acc.max(initial=0) < 2**31  # int32 never overflows
        out[i] = np.clip(acc >> bits, 0, 255)  # arithmetic shift: floor
    return out


def horizontal(image, width, axis):
    return one_axis(image.transpose(1, 0, 2), axis).transpose(1, 0, 2)


def torch_resize(image, height, width, name="bicubic"):
    """image: [h, w, c] uint8. Horizontal, then vertical, always; an axis that keeps its size is skipped."""
    h, w, _ = image.shape
    if width != w:
        image = horizontal(image, width, torch_axis(w, width, name))
    if height != h:
        image = one_axis(image, torch_axis(h, height, name))
    return np.ascontiguousarray(image)


def pillow_vertical_first(h, w, height, width):
    """Pillow 13: where the height loses more than twice as many pixels as the width. (Pillow <= 12: never.)"""
    return height < h and h - height > 2 * (w - width)


def pillow_resize(image, height, width, name="bicubic"):
    """image: [h, w, c] uint8. Each pass rounds and clamps to uint8, so the order of the passes shows."""
    h, w, _ = image.shape
    across = (lambda im: horizontal(im, width, pillow_axis(w, width, name))) if width != w else (lambda im: im)
    down = (lambda im: one_axis(im, pillow_axis(h, height, name))) if height != h else (lambda im: im)
    image = across(down(image)) if pillow_vertical_first(h, w, height, width) else down(across(image))
    return np.ascontiguousarray(image)


# ---------------------------------------------------------------- test images, without storing them


def noise(height, width, seed):
    """[h, w, 3] uint8 from s <- (1664525 s + 1013904223) mod 2^32, value = s >> 24, rows then columns then RGB."""
    out = np.empty(height * width * 3, np.uint8)
    s = seed & 0xFFFFFFFF
    for i in range(out.size):
        s = (s * 1664525 + 1013904223) & 0xFFFFFFFF
        out[i] = s >> 24
    return out.reshape(height, width, 3)


def gradient(height, width, seed):
    """[h, w, 3] uint8: R = (7x + 3y + seed) mod 256, G = 255 - (5x mod 256), B = (11y + x*y) mod 256."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(7 * x + 3 * y + seed) % 256, 255 - (5 * x) % 256, (11 * y + x * y) % 256], 2).astype(np.uint8)


CONTENT = {"noise": noise, "gradient": gradient}

if __name__ == "__main__":
    import collections
    import random
    import sys

    import torch
    import torchvision.transforms.v2.functional as tvF
    from PIL import Image

    torch.set_num_threads(1)
    MODE = tvF.InterpolationMode
    rng = random.Random(5)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    bad = 0
    refused = collections.Counter()
    native = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    print("CPU capability:", torch.backends.cpu.get_cpu_capability())
    for n in range(rounds):
        big = rng.choice([4, 20, 70, 150]) if n % 50 else 700
        h, w, H, W = (rng.randint(1, big) for _ in range(4))
        if n % 7 == 0:  # at the edge of Pillow's choice of order
            H = max(1, h - 2 * (w - W) + rng.randint(-1, 1))
        if n % 9 == 0:
            H = h
        if n % 11 == 0:
            W = w
        image = CONTENT[rng.choice(list(CONTENT))](h, w, n)
        chw = torch.from_numpy(image).permute(2, 0, 1)
        for name in ("bicubic", "bilinear"):
            twin = torch_resize(image, H, W, name)
            if name == "bilinear" and not native:
                continue  # without AVX2 torchvision resizes bilinear in float32: not modelled
            grey = chw.contiguous().split(1)
            views = {
                "channels last (what a PIL image becomes)": [chw],
                "contiguous": [chw.contiguous()],
                "grey planes": grey,
                "alone in a batch": [chw[None]],
                "batch of two": [torch.stack([chw, chw.flip(1)]).contiguous()],
            }
            for label, parts in views.items():
                try:
                    got = torch.cat([tvF.resize(v, [H, W], MODE[name.upper()], antialias=True).reshape(-1, H, W) for v in parts])
                except RuntimeError as e:  # PyTorch's own assertion, on some batches with a side of 1
                    refused[f"{label}, side of 1: {1 in (h, w, H, W)}: " + str(e)[:60]] += 1
                    continue
                got = got[:3].permute(1, 2, 0).numpy()
                if not np.array_equal(got, twin):
                    bad += 1
                    print("torch differs", name, label, (h, w), (H, W), np.abs(got.astype(int) - twin).max())
        for name in ("bicubic", "bilinear", "lanczos"):
            twin = pillow_resize(image, H, W, name)
            got = np.asarray(Image.fromarray(image).resize((W, H), Image.Resampling[name.upper()]))
            if not np.array_equal(got, twin):
                bad += 1
                print("Pillow differs", name, (h, w), (H, W), np.abs(got.astype(int) - twin).max())
    print(f"{rounds} random resizes, {bad} differences")
    for what, times in refused.items():
        print(f"  refused by PyTorch {times} times: {what}")
    sys.exit(bad > 0)
