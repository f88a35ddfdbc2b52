"""What ONNX Runtime and OpenVINO compute on a CPU, as arrays for `aircache check --kernel`.

    pip install onnx==1.23.2 onnxruntime==1.32.0 openvino==2026.4.1 safetensors numpy
    python examples/engines/runtimes.py FOLDER
    for file in FOLDER/*.safetensors; do aircache check --kernel attention "$file"; done

One attention of 6 query heads over 2 KV heads, causal, in float32: as it comes, and for OpenVINO also with
INFERENCE_PRECISION_HINT = f32.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper
from safetensors.numpy import save_file

H, G, N, D = 6, 2, 300, 32


def model():
    """softmax(q kᵀ / √d + mask) v, with keys and values repeated for their query heads."""
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    constant = lambda name, x: helper.make_tensor(name, TensorProto.FLOAT, x.shape, x.astype(np.float32).ravel())
    mask = np.triu(np.full((N, N), -3e38, np.float32), 1)
    nodes = [
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"]),
        helper.make_node("Mul", ["s", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mask"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["out"]),
    ]
    initial = [constant("scale", np.array([D**-0.5])), constant("mask", mask)]
    io = [value(x, [H, N, D]) for x in "qkv"], [value("out", [H, N, D])]
    graph = helper.make_graph(nodes, "attention", *io, initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def short(x):
    """The nearest bf16, as float32."""
    return ((x.view(np.uint32) + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32)


def main(folder):
    rng = np.random.default_rng(0)
    # Numbers of bf16: a program that rounds them to bf16 reads the same.
    q, k, v = (short(rng.standard_normal((heads, N, D), np.float32)) for heads in (H, G, G))
    fed = {"q": q, "k": np.repeat(k, H // G, 0), "v": np.repeat(v, H // G, 0)}
    onnx_model = model()
    outs = {"onnxruntime": onnxruntime.InferenceSession(onnx_model).run(None, fed)[0]}
    core = openvino.Core()
    for name, how in (("openvino-as-it-comes", {}), ("openvino-f32", {"INFERENCE_PRECISION_HINT": "f32"})):
        compiled = core.compile_model(core.read_model(onnx_model), "CPU", how)
        print(name, "computes in", compiled.get_property("INFERENCE_PRECISION_HINT"))
        outs[name] = compiled(fed)[0]
    for name, out in outs.items():
        for precision in ("f32", "bf16"):
            meta = {"format": "aircache-bundle", "precision": precision, "causal": "true"}
            arrays = {"q": q, "k": k, "v": v, "out": np.ascontiguousarray(out)}
            save_file(arrays, Path(folder) / f"{name}.{precision}.safetensors", metadata=meta)


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    main(sys.argv[1])
