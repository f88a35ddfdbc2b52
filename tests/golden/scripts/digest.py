"""The digest that bundles call `model`, without any library of ours: python3 digest.py FILE.safetensors ...

sha-256 over all tensors sorted by name, each as name, line feed, dtype, line feed, shape joined by commas, line feed,
raw bytes. Several files are the shards of one checkpoint. The value in tests/files/weights.rs comes from
    python3 tests/golden/scripts/digest.py src/demo/model/model.safetensors
"""

import hashlib
import json
import struct
import sys

tensors = {}
for path in sys.argv[1:]:
    with open(path, "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(length))
        data = f.read()
    header.pop("__metadata__", None)
    for name, t in header.items():
        start, end = t["data_offsets"]
        tensors[name] = (t["dtype"], t["shape"], data[start:end])

digest = hashlib.sha256()
for name in sorted(tensors):
    dtype, shape, raw = tensors[name]
    digest.update(name.encode() + b"\n" + dtype.encode() + b"\n" + ",".join(map(str, shape)).encode() + b"\n" + raw)
print(digest.hexdigest())
