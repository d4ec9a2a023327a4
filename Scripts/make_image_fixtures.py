"""Writes Tests/VisionTests/Fixtures: small image files of every kind, what Pillow decodes them to, and what Keras resizes to.

Run with a Python that has Pillow, NumPy and Keras on TensorFlow. The results are committed; this is for changing them.

<name>.rgb beside <name>.<ending> holds Pillow's pixels: width and height as little-endian uint16, then RGB bytes.
squash.bin holds cases for `squash`, one after the other: source height and width, target height and width as
little-endian uint16, the source's bytes, keras.ops.image.resize's bytes.
"""

import io
import os
import struct
import zlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
import keras
import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "Tests", "VisionTests", "Fixtures")
os.makedirs(folder, exist_ok=True)
random = np.random.default_rng(7)


def smooth(height, width, channels=3):
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = [127 + 60 * np.sin(x / (5 + c) + c) + 55 * np.cos(y / (4 + c) - c) for c in range(channels)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def path(name):
    return os.path.join(folder, name)


def expect(name, upright=True):
    """Stores what Pillow makes of the file beside it."""
    image = Image.open(path(name))
    if upright:
        image = ImageOps.exif_transpose(image)
    write_expected(name, np.asarray(image.convert("RGB")))


def write_expected(name, pixels):
    with open(path(name.rsplit(".", 1)[0] + ".rgb"), "wb") as file:
        file.write(struct.pack("<HH", pixels.shape[1], pixels.shape[0]) + pixels.tobytes())


def save(name, image, **options):
    image.save(path(name), **options)
    expect(name)


color = Image.fromarray(smooth(21, 30))
save("jpeg_color.jpg", color, quality=90)
save("jpeg_444.jpg", color, quality=90, subsampling=0)
save("jpeg_grey.jpg", color.convert("L"), quality=90)
save("jpeg_cmyk.jpg", Image.fromarray(smooth(21, 30, 4), "CMYK"), quality=95)
save("jpeg_progressive.jpg", color, quality=90, progressive=True)
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(f"jpeg_orientation{orientation}.jpg", color, quality=90, exif=exif, subsampling=0)
exif = Image.Exif()
exif[0x0112] = 6
save("png_orientation6.png", color, exif=exif)
save("webp_orientation6.webp", color, exif=exif, lossless=True)

save("png_rgb.png", color)
save("png_grey.png", color.convert("L"))
save("png_bit.png", color.convert("1"))
save("png_palette.png", color.quantize(16))
save("png_palette_transparent.png", color.quantize(16), transparency=3)
alpha = np.concatenate([smooth(21, 30), smooth(21, 30)[:, :, :1]], -1)
save("png_alpha.png", Image.fromarray(alpha))
save("png_grey_alpha.png", Image.fromarray(alpha).convert("LA"))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, color_type, rows, interlace=0):
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlace)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


wide = random.integers(0, 65536, (9, 11, 3), dtype=np.uint16)
rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
open(path("png_16bit.png"), "wb").write(png(11, 9, 16, 2, rows))
write_expected("png_16bit.png", (wide >> 8).astype(np.uint8))
interlaced = smooth(13, 10)
passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
rows = b"".join(
    b"\0" + row.tobytes() for y, x, dy, dx in passes for row in interlaced[y::dy, x::dx] if row.size
)
open(path("png_interlaced.png"), "wb").write(png(10, 13, 8, 2, rows, interlace=1))
write_expected("png_interlaced.png", interlaced)

save("bmp_24.bmp", color)
save("bmp_8.bmp", color.quantize(32))
save("bmp_1.bmp", color.convert("1"))
save("bmp_32.bmp", Image.fromarray(alpha).convert("RGBA"))


def bmp(width, height, bits, compression, data, palette=b"", masks=b""):
    offset = 54 + len(masks) + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + header + masks + palette + data


high = random.integers(0, 65536, (5, 6), dtype=np.uint16)
open(path("bmp_565.bmp"), "wb").write(
    bmp(6, -5, 16, 3, high.astype("<u2").tobytes(), masks=struct.pack("<III", 0xF800, 0x07E0, 0x001F)))
write_expected("bmp_565.bmp", np.stack(
    [(high >> 11) * 255 // 31, (high >> 5 & 63) * 255 // 63, (high & 31) * 255 // 31], -1).astype(np.uint8))
palette = bytes(random.integers(0, 256, 64, dtype=np.uint8))
runs = bytes([3, 1, 0, 3, 2, 5, 7, 0, 0, 0, 6, 4, 0, 0, 0, 2, 2, 1, 1, 9, 0, 1])
open(path("bmp_rle8.bmp"), "wb").write(bmp(6, 4, 8, 1, runs, palette=palette))
stored = np.zeros((4, 6), np.uint8)
stored[0] = [1, 1, 1, 2, 5, 7]
stored[1] = 4
stored[3, 2] = 9
colors = np.frombuffer(palette, np.uint8).reshape(-1, 4)[:, 2::-1]
write_expected("bmp_rle8.bmp", colors[stored[::-1]])

save("gif_color.gif", color.quantize(64))
save("gif_interlaced.gif", color.quantize(64), interlace=1)
save("gif_grey.gif", color.convert("L"))
noise = Image.fromarray(random.integers(0, 256, (70, 90), dtype=np.uint8))
save("gif_noise.gif", noise)  # long enough to fill the code table
save("gif_animated.gif", color.quantize(8), save_all=True, append_images=[color.rotate(90).quantize(8)], transparency=2)
save("webp_lossy.webp", color, quality=80)
save("webp_lossless.webp", color, lossless=True)
save("webp_alpha.webp", Image.fromarray(alpha), lossless=True, exact=True)
save("webp_animated.webp", color, save_all=True, append_images=[color.rotate(90)], lossless=True)

whole = io.BytesIO()
Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(whole, "JPEG", quality=75)
whole = whole.getvalue()
open(path("truncated.jpg"), "wb").write(whole[: len(whole) * 2 // 3])
open(path("extraneous.jpg"), "wb").write(whole[:-2] + b"\x12\x34\x56" + whole[-2:])
expect("extraneous.jpg")
open(path("no_end_marker.jpg"), "wb").write(whole[:-2])
write_expected("no_end_marker.jpg", np.asarray(Image.open(path("extraneous.jpg")).convert("RGB")))
open(path("zero.jpg"), "wb").close()

cases = [
    ((5, 7), (9, 4)), ((1, 1), (3, 5)), ((8, 12), (4, 6)), ((13, 31), (30, 30)), ((33, 20), (7, 7)), ((60, 39), (30, 30)),
    ((2, 3), (2, 3)), ((50, 41), (31, 33)), ((24, 24), (23, 25)), ((64, 48), (16, 16)),
]
with open(path("squash.bin"), "wb") as file:
    for (height, width), target in cases:
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        resized = keras.ops.convert_to_numpy(keras.ops.image.resize(image, target, interpolation="bilinear"))
        assert resized.dtype == np.uint8, resized.dtype
        file.write(struct.pack("<HHHH", height, width, *target) + image.tobytes() + resized.tobytes())
