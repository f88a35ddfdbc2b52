"""Makes tests/golden/decoders/: small lossy files, and what several decoders make of them.

Usage: make_decoders.py. pip install pillow==13.0.0 numpy==2.4.6 safetensors==0.8.0 opencv-python-headless==5.0.0.93
simplejpeg==1.9.0 av==18.1.0 imageio==2.38.1 torch==2.15.0 torchvision==0.29.2

`files.safetensors` holds the bytes of each file. `expected.safetensors` holds FILE/DECODER, U8 [h, w, 3], for each decoder whose
values are not Pillow's. Pillow, OpenCV, imageio, simplejpeg and torchvision agree in every value by default: all of them
bring libjpeg-turbo, and libwebp. The others are options of it (`JDCT_IFAST`, no "fancy" upsampling), and FFmpeg, which
decodes with its own DCT and converts colours with swscale.
"""
import io
import pathlib

import av
import cv2
import imageio.v3
import numpy as np
import simplejpeg
import torch
import torchvision.io
from PIL import Image
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent.parent / "decoders"
H, W = 46, 60


def picture():
    """Waves, two strong edges of colour, a patch of noise."""
    y, x = np.mgrid[0:H, 0:W]
    rgb = np.stack([127 + 100 * np.sin(x / 9 + y / 31), 127 + 90 * np.cos(y / 7 - x / 40), 127 + 80 * np.sin((x + y) / 23)], -1)
    rgb[8:22, 5:33], rgb[25:40, 18:50] = (230, 20, 30), (20, 40, 220)
    rgb[28:36, 2:14] += np.random.default_rng(1).normal(0, 40, (8, 12, 3))
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8))


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def ffmpeg(file, kind):
    """The kind of pixels names the range of its values: swscale warns, and is right."""
    with av.open(io.BytesIO(file), format=kind) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


FILES = {
    "420-75.jpg": saved(picture(), format="JPEG", quality=75, subsampling=2),
    "420-95-progressive.jpg": saved(picture(), format="JPEG", quality=95, subsampling=2, progressive=True),
    "422-98.jpg": saved(picture(), format="JPEG", quality=98, subsampling=1),
    "444-50.jpg": saved(picture(), format="JPEG", quality=50, subsampling=0),
    "grey-60.jpg": saved(picture().convert("L"), format="JPEG", quality=60),
    "lossy-80.webp": saved(picture(), format="WEBP", quality=80),
}
JPEG = {
    "imageio": imageio.v3.imread,
    "simplejpeg": simplejpeg.decode_jpeg,
    "simplejpeg-plain": lambda file: simplejpeg.decode_jpeg(file, fastupsample=True),
    "simplejpeg-fast": lambda file: simplejpeg.decode_jpeg(file, fastdct=True),
    "simplejpeg-fast-plain": lambda file: simplejpeg.decode_jpeg(file, fastdct=True, fastupsample=True),
    "ffmpeg": lambda file: ffmpeg(file, "mjpeg"),
}
BOTH = {
    "opencv": lambda file: cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1],
    "torchvision": lambda file: torchvision.io.decode_image(torch.frombuffer(bytearray(file), dtype=torch.uint8), mode="RGB").permute(1, 2, 0).numpy(),
}

expected, agree = {}, {}
for name, file in FILES.items():
    pillow = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    ways = BOTH | (JPEG if name.endswith("jpg") else {"ffmpeg": lambda file: ffmpeg(file, "webp_pipe")})
    for decoder, decode in ways.items():
        rgb = np.asarray(decode(file))
        rgb = np.ascontiguousarray(rgb if rgb.ndim == 3 else np.dstack([rgb] * 3))
        if (rgb != pillow).any():
            off = np.abs(rgb.astype(int) - pillow)
            print(f"{name} {decoder}: up to {off.max()} levels, {np.sqrt((off**2).mean()):.2f} in root mean square")
            expected[f"{name}/{decoder}"] = rgb
        else:
            agree.setdefault(decoder, []).append(name)
print("as Pillow:", {decoder: len(names) for decoder, names in agree.items()})
HERE.mkdir(exist_ok=True)
save_file({name: np.frombuffer(file, np.uint8) for name, file in FILES.items()}, HERE / "files.safetensors")
save_file(expected, HERE / "expected.safetensors")
