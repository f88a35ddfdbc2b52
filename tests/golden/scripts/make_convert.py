"""Makes tests/golden/convert/: small image files of every kind, and the RGB that Pillow's convert makes of them."""
import io
import json
import pathlib
import struct
import zlib

import numpy as np
import PIL
from PIL import Image, features

from record import write
from resample_twin import gradient, noise

HERE = pathlib.Path(__file__).parent.parent / "convert"
H, W = 11, 13


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, color, rows, extra=b"", interlace=0):
    """A PNG from packed rows (bytes each, filter 0), for the kinds that Pillow does not write."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    body = b"".join(b"\0" + r for r in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(body, 9)) + chunk(b"IEND", b"")


def packed(values, depth):
    """Rows of small numbers packed into bytes, most significant first."""
    rows = []
    for row in values:
        bits = "".join(f"{int(v):0{depth}b}" for v in row)
        bits += "0" * (-len(bits) % 8)
        rows.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return rows


def adam7(pixels):
    """The rows of the seven passes; pixels: [h, w, bytes a pixel] uint8."""
    rows = []
    for y0, x0, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        part = pixels[y0::dy, x0::dx]
        if part.size:
            rows += [r.tobytes() for r in part]
    return rows


def files():
    rgb, grey = gradient(H, W, 40), gradient(H, W, 3)[..., 0]
    alpha = noise(H, W, 9)[..., 0]
    alpha[0], alpha[1] = 0, 255
    im = lambda a, mode=None: Image.fromarray(a) if mode is None else Image.fromarray(a, mode)
    out = {}

    def save(name, image, **options):
        buffer = io.BytesIO()
        image.save(buffer, **options)
        out[name] = buffer.getvalue()

    rgba = np.dstack([rgb, alpha])
    save("rgb8.png", im(rgb), format="PNG")
    save("grey8.png", im(grey), format="PNG")
    save("grey8-alpha.png", im(np.dstack([grey, alpha])), format="PNG")
    save("rgba8.png", im(rgba), format="PNG")
    palette = im(rgb).quantize(20)
    save("palette.png", palette, format="PNG")
    save("palette-16.png", im(rgb).quantize(16), format="PNG", bits=4)
    save("palette-4.png", im(rgb).quantize(4), format="PNG", bits=2)
    save("palette-trns.png", palette, format="PNG", transparency=bytes(range(0, 240, 12)))
    save("palette-trns-one.png", palette, format="PNG", transparency=3)
    save("bit1.png", im(grey).convert("1"), format="PNG")
    for depth in (1, 2, 4):
        out[f"grey{depth}.png"] = png(W, H, depth, 0, packed(noise(H, W, depth)[..., 0] >> (8 - depth), depth))
    out["grey4-trns.png"] = png(W, H, 4, 0, packed(noise(H, W, 4)[..., 0] >> 4, 4), chunk(b"tRNS", struct.pack(">H", 5)))
    out["grey8-trns.png"] = png(W, H, 8, 0, [r.tobytes() for r in grey], chunk(b"tRNS", struct.pack(">H", int(grey[2, 2]))))
    out["rgb8-trns.png"] = png(W, H, 8, 2, [r.tobytes() for r in rgb], chunk(b"tRNS", struct.pack(">HHH", *map(int, rgb[2, 2]))))
    wide = (noise(H, W, 77).astype(np.uint16) << 8) | noise(H, W, 78)
    wide[0, :, :] = [[0, 1, 127], [128, 255, 256], [257, 511, 512], [300, 1000, 32767], [32768, 32895, 32896], [65279, 65280, 65281], [65407, 65408, 65535]] + [[0, 0, 0]] * (W - 7)
    big = lambda a: [r.astype(">u2").tobytes() for r in a]
    out["grey16.png"] = png(W, H, 16, 0, big(wide.reshape(H, -1)[:, :W]))
    small = wide.reshape(H, -1)[:, :W] % 400
    out["grey16-small-values.png"] = png(W, H, 16, 0, big(small))
    out["grey16-alpha.png"] = png(W, H, 16, 4, big(wide[..., :2]))
    out["rgb16.png"] = png(W, H, 16, 2, big(wide))
    out["rgba16.png"] = png(W, H, 16, 6, big(np.dstack([wide, wide[..., 1]])))
    out["rgb8-interlaced.png"] = png(W, H, 8, 2, adam7(rgb), interlace=1)
    out["grey8-interlaced.png"] = png(W, H, 8, 0, adam7(grey[..., None]), interlace=1)
    out["rgb8-gamma.png"] = png(W, H, 8, 2, [r.tobytes() for r in rgb], chunk(b"gAMA", struct.pack(">I", 100000)))

    soft = im(rgb // 3 + 60).resize((29, 21), Image.Resampling.BICUBIC)
    save("rgb.jpg", soft, format="JPEG", quality=90)
    save("rgb-444.jpg", soft, format="JPEG", quality=95, subsampling=0)
    save("rgb-422.jpg", soft, format="JPEG", quality=85, subsampling=1)
    save("rgb-progressive.jpg", soft, format="JPEG", quality=80, progressive=True)
    save("grey.jpg", soft.convert("L"), format="JPEG", quality=90)
    ramp = np.dstack([gradient(21, 29, 1) // 2, gradient(21, 29, 9)[..., 1] // 3])
    save("cmyk.jpg", Image.fromarray(np.ascontiguousarray(ramp), "CMYK"), format="JPEG", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("exif-orientation-6.jpg", soft, format="JPEG", quality=90, exif=exif)
    save("exif-orientation-6.png", im(rgb), format="PNG", exif=exif)
    save("rgb.bmp", im(rgb), format="BMP")
    save("grey.bmp", im(grey), format="BMP")
    save("palette.bmp", palette, format="BMP")
    save("rgba.bmp", im(rgba), format="BMP")
    save("bit1.bmp", im(grey).convert("1"), format="BMP")
    save("palette.gif", palette, format="GIF")
    save("animated.gif", palette, format="GIF", save_all=True, append_images=[im(noise(H, W, 4)).quantize(8)], duration=50)
    save("transparent.gif", palette, format="GIF", transparency=2)
    if features.check("webp"):
        save("lossless.webp", im(rgb), format="WEBP", lossless=True)
        save("lossless-rgba.webp", im(rgba), format="WEBP", lossless=True, exact=True)
        save("lossy.webp", soft, format="WEBP", quality=90)
        save("lossy-rgba.webp", Image.merge("RGBA", [*soft.split(), soft.convert("L").point(lambda v: (v * 7) % 256)]), format="WEBP", quality=80)
    save("rgb.tiff", im(rgb), format="TIFF")
    save("grey.tiff", im(grey), format="TIFF")
    save("rgba.tiff", im(rgba), format="TIFF")
    save("rgb-lzw.tiff", im(rgb), format="TIFF", compression="tiff_lzw")
    save("grey16.tiff", Image.fromarray(np.ascontiguousarray(wide.reshape(H, -1)[:, :W])), format="TIFF")
    save("cmyk.tiff", Image.fromarray(np.ascontiguousarray(ramp), "CMYK"), format="TIFF")
    save("bit1.tiff", im(grey).convert("1"), format="TIFF")
    return out


def main():
    HERE.mkdir(exist_ok=True)
    for old in [*HERE.glob("*.*")]:
        if old.suffix not in (".md",):
            old.unlink()
    expected, listing = {}, []
    for name, data in files().items():
        assert len(data) <= 3000, (name, len(data))
        (HERE / name).write_bytes(data)
        image = Image.open(HERE / name)
        mode = image.mode
        rgb = image.convert("RGB")
        expected[name] = np.ascontiguousarray(np.asarray(rgb))
        listing.append({"file": name, "mode": mode, "size": [rgb.height, rgb.width], "exact": not name.endswith(".jpg") and not name.startswith("lossy")})
        print(f"{name:28} {mode:6} {len(data):5} bytes", expected[name].shape, expected[name].reshape(-1)[:6])
    meta = {"pillow": PIL.__version__, "jpeg": f"libjpeg-turbo {features.version('libjpeg_turbo')}", "webp": str(features.version("webp"))}
    write(HERE / "expected.safetensors", expected, meta)
    (HERE / "files.json").write_text("[\n" + ",\n".join(json.dumps(x) for x in listing) + "\n]\n")
    print(meta)


if __name__ == "__main__":
    main()
