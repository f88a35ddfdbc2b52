"""Makes tests/golden/pictures/: image files as cameras, phones and editors write them, and what Pillow 13.0.0 makes of them.

Usage: make_pictures.py. `cjpeg` of libjpeg-turbo 2.1.5 must be installed: Pillow writes few of the forms of JPEG.
Every file is at most 2 KB. `files.safetensors` holds the bytes of each; `expected.json` says, for each, the size and the
sha-256 of the RGB values: `stored` of `Image.open(f).convert("RGB")`, `upright` of the same after `ImageOps.exif_transpose`
(transformers' `load_image`), `white` as vLLM and qwen-vl-utils put mode RGBA on white.
"""
import hashlib
import io
import json
import pathlib
import struct
import subprocess
import tempfile

import numpy as np
import PIL
from PIL import Image, ImageOps, features
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent.parent / "pictures"
H, W = 19, 27
LUMA = ["1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4", "3x1", "1x3", "3x2", "2x3"]
OTHERS = ["1x1,2x1,2x1", "1x1,1x2,1x2", "1x1,2x2,2x2", "2x1,1x2,1x2", "1x2,2x1,2x1", "2x2,2x1,1x2", "2x2,1x1,2x2", "2x2,2x1,2x1",
    "2x2,1x2,1x2", "2x1,2x1,1x1", "2x1,2x1,2x1", "1x2,1x2,1x2", "4x1,2x1,2x1", "4x1,1x1,2x1", "2x2,2x2,1x1"]  # fmt: skip
SCANS = {"interleaved": None, "three": "0;\n1;\n2;\n", "two": "0;\n1 2;\n", "progressive": "P",
    "progressive-three": "0: 0-0, 0, 0;\n1: 0-0, 0, 0;\n2: 0-0, 0, 0;\n0: 1-63, 0, 1;\n1: 1-63, 0, 0;\n2: 1-63, 0, 0;\n0: 1-63, 1, 0;\n"}  # fmt: skip


def picture(h=H, w=W):
    y, x = np.mgrid[0:h, 0:w]
    channels = [128 + 100 * np.sin(x / 4) + 20 * np.cos(y / 3), 128 + 90 * np.cos((x + y) / 5), 128 + 110 * np.sin(y / 4 - x / 7)]
    return np.stack(channels, -1).clip(0, 255).astype(np.uint8)


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def jpegs():
    with tempfile.TemporaryDirectory() as at:
        at = pathlib.Path(at)
        Image.fromarray(picture()).save(at / "in.ppm")
        run = lambda *options: subprocess.run(["cjpeg", *options, at / "in.ppm"], capture_output=True, check=True).stdout
        for sampling in [f"{f},1x1,1x1" for f in LUMA] + OTHERS:
            for name, scans in SCANS.items():
                options = ["-quality", "60", "-sample", sampling]
                if scans == "P":
                    options.append("-progressive")
                elif scans:
                    (at / "scans").write_text(scans)
                    options += ["-scans", at / "scans"]
                yield f"jpeg/{sampling.replace(',', '-')}-{name}.jpg", run(*options)
        yield "jpeg/restart.jpg", run("-quality", "90", "-sample", "2x2", "-restart", "1")
        yield "jpeg/restart-three.jpg", run("-quality", "90", "-sample", "2x2", "-restart", "3B", "-scans", at / "scans")
        yield "jpeg/rgb.jpg", run("-rgb", "-quality", "90")
        yield "jpeg/grey-2x2.jpg", run("-grayscale", "-sample", "2x2", "-quality", "90")
        yield "jpeg/coarse.jpg", run("-quality", "3")
        noise = np.random.default_rng(1).integers(0, 256, (H, W, 3)).astype(np.uint8)
        yield "jpeg/noise.jpg", saved(Image.fromarray(noise), format="JPEG", quality=97)
        yield "jpeg/noise-420.jpg", saved(Image.fromarray(noise), format="JPEG", quality=80, subsampling=2, progressive=True)
        yield "jpeg/narrow.jpg", saved(Image.fromarray(noise[:, :3]), format="JPEG", quality=80, subsampling=2)
        yield "jpeg/one-pixel.jpg", saved(Image.fromarray(noise[:1, :1]), format="JPEG", quality=80, subsampling=2)
        yield "jpeg/cmyk.jpg", saved(Image.fromarray(noise).convert("CMYK"), format="JPEG", quality=80)


def xmp(n, element=False):
    inside = f"<tiff:Orientation>{n}</tiff:Orientation>" if element else ""
    attribute = "" if element else f' tiff:Orientation="{n}"'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description{attribute}>{inside}</rdf:Description></x:xmpmeta>'.encode()


def turned():
    small = Image.fromarray(picture(5, 7))
    kinds = {"jpg": {"format": "JPEG", "quality": 95, "subsampling": 0}, "png": {"format": "PNG"},
        "webp": {"format": "WEBP", "lossless": True}, "tif": {"format": "TIFF"}}  # fmt: skip
    for n in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = n
        for ending, options in kinds.items():
            yield f"turned/{n}.{ending}", saved(small, exif=exif, **options)
    body = lambda order, kind, value: struct.pack(order + "HHII", 0x0112, kind, 1, value)
    for name, head, entry in [
        ("big-endian", b"MM\0*\0\0\0\x08\0\x01", struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)),
        ("long", b"II*\0\x08\0\0\0\x01\0", body("<", 4, 8)),
        ("nine", b"II*\0\x08\0\0\0\x01\0", body("<", 3, 9)),
        ("none", b"II*\0\x08\0\0\0\0\0", b""),
    ]:
        yield f"turned/{name}.jpg", saved(small, exif=b"Exif\0\0" + head + entry + b"\0\0\0\0", **kinds["jpg"])
    yield "turned/xmp.jpg", saved(small, xmp=xmp(6), **kinds["jpg"])
    yield "turned/xmp-element.jpg", saved(small, xmp=xmp(3, True), **kinds["jpg"])
    exif = Image.Exif()
    exif[0x0112] = 8
    yield "turned/exif-before-xmp.jpg", saved(small, exif=exif, xmp=xmp(6), **kinds["jpg"])
    yield "turned/xmp.webp", saved(small, xmp=xmp(6), **kinds["webp"])


def transparent():
    rgb, alpha = picture(9, 11), np.random.default_rng(3).integers(0, 256, (9, 11)).astype(np.uint8)
    alpha[0], alpha[1] = 0, 255
    rgba = Image.fromarray(np.dstack([rgb, alpha]))
    yield "alpha/rgba.png", saved(rgba, format="PNG")
    yield "alpha/rgba.webp", saved(rgba, format="WEBP", lossless=True, exact=True)
    yield "alpha/rgba.tif", saved(rgba, format="TIFF")
    yield "alpha/opaque.png", saved(Image.fromarray(np.dstack([rgb, alpha * 0 + 255])), format="PNG")
    yield "alpha/grey.png", saved(rgba.convert("LA"), format="PNG")
    yield "alpha/palette.png", saved(Image.fromarray(rgb).quantize(8), format="PNG", transparency=bytes(range(0, 240, 30)))
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "alpha/turned.png", saved(rgba, format="PNG", exif=exif)


def bmps():
    pixels = np.arange(0, 65536, 997, dtype=np.uint16)[: 6 * 10].reshape(6, 10)
    rows = pixels[::-1].tobytes()
    info = lambda compression: struct.pack("<IiiHHIIiiII", 40, 10, 6, 1, 16, compression, len(rows), 0, 0, 0, 0)
    for name, compression, masks in [("555", 0, b""), ("555-masks", 3, struct.pack("<III", 0x7C00, 0x3E0, 0x1F)),
        ("565", 3, struct.pack("<III", 0xF800, 0x7E0, 0x1F))]:  # fmt: skip
        start = 14 + 40 + len(masks)
        yield f"bmp/{name}.bmp", struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start) + info(compression) + masks + rows


def told(image):
    rgb = image.convert("RGB")
    return {"size": [rgb.height, rgb.width], "sha256": hashlib.sha256(np.asarray(rgb).tobytes()).hexdigest()}


def on_white(image):
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.split()[3])
    return white


def main():
    assert PIL.__version__ == "13.0.0"
    HERE.mkdir(exist_ok=True)
    files, expected = {}, {}
    for name, data in [*jpegs(), *turned(), *transparent(), *bmps()]:
        assert len(data) <= 4000, (name, len(data))
        files[name] = np.frombuffer(data, np.uint8)
        image = lambda: Image.open(io.BytesIO(data))
        upright = ImageOps.exif_transpose(image())
        expected[name] = {"mode": image().mode, "stored": told(image()), "upright": told(upright), "white": told(on_white(upright))}
    save_file(files, HERE / "files.safetensors")
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(expected.items())]
    (HERE / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(len(files), "files", sum(map(len, files.values())), "bytes", f"libjpeg-turbo {features.version('libjpeg_turbo')}")


if __name__ == "__main__":
    main()
