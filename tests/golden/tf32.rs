//! TF32 as a declared type (T10.1, R10.14): kernels of a GPU and of numpy, and a whole candidate of an H100, pass as what they
//! are, and fail as f32; with a bug they fail as tf32, too.

use crate::candidates::{golden, toy};
use aircache::golden::{Bundle, BundleWriter, Outcome, Verdict, check, kernel, replay};
use std::path::Path;

/// The arrays of a file, judged as a kernel's.
fn judged(file: &str, name: &str, inputs: &[(&str, &str)], out: &str, about: &[(&str, &str)]) -> Verdict {
    let arrays = Bundle::open(&golden("tf32").join(file)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arrays.safetensors");
    let mut writer = BundleWriter::create(&path).unwrap();
    for (to, from) in inputs.iter().copied().chain([("out", out)]) {
        let t = arrays.get(from).unwrap_or_else(|| panic!("{file} has no {from}"));
        writer.put(to, t.dtype, t.shape, t.data).unwrap();
    }
    writer.finish(about.iter().copied()).unwrap();
    kernel(name, &Bundle::open(&path).unwrap()).unwrap()
}

fn attention(file: &str, out: &str, precision: &str) -> Verdict {
    let same = ["q", "k", "v"].map(|name| (name, name));
    judged(file, "attention", &same, out, &[("precision", precision), ("causal", "true")])
}

fn linear(file: &str, out: &str, precision: &str) -> Verdict {
    let same = ["x", "weight", "bias"].map(|name| (name, name));
    judged(file, "linear", &same, out, &[("precision", precision)])
}

fn cause(v: &Verdict) -> String {
    v.told().join("; ")
}

#[test]
fn r10_14_kernels_in_tf32_pass_as_tf32_and_fail_as_f32() {
    for (file, out) in [
        ("h200.safetensors", "attention.eager"),
        ("h200.safetensors", "attention.math"),
        ("numpy.safetensors", "attention.nearest"),
        ("numpy.safetensors", "attention.truncated"),
    ] {
        let (own, wide) = (attention(file, out, "tf32"), attention(file, out, "f32"));
        assert!(own.passes(), "{file} {out}: {}", cause(&own));
        assert!(!wide.passes(), "{file} {out} passes as f32");
        if out.ends_with("eager") {
            assert!(cause(&wide).contains("attention reads numbers with 10 bits of mantissa"), "{}", cause(&wide));
        }
    }
    // PyTorch's memory-efficient kernel does not read TF32.
    for precision in ["f32", "tf32"] {
        assert!(attention("h200.safetensors", "attention.efficient_attention", precision).passes());
    }
    for (file, out) in [
        ("h200.safetensors", "linear.cublas"),
        ("numpy.safetensors", "linear.nearest"),
        ("numpy.safetensors", "linear.truncated"),
    ] {
        let (own, wide) = (linear(file, out, "tf32"), linear(file, out, "f32"));
        assert!(own.passes() && !wide.passes(), "{file} {out}: {}", cause(&own));
    }
}

#[test]
fn r10_14_a_kernel_with_a_bug_fails_as_tf32() {
    let scale = attention("numpy.safetensors", "attention.bug-scale", "tf32");
    assert!(cause(&scale).contains("scores are scaled by 0.18") && !scale.passes(), "{}", cause(&scale));
    let key = attention("numpy.safetensors", "attention.bug-key", "tf32");
    assert!(!key.passes(), "a key that later rows do not see");
    assert!(cause(&linear("numpy.safetensors", "linear.bug-bias", "tf32")).contains("the bias is left out"));
    // A norm has no product: TF32 allows it nothing.
    let weight = [("x", "x"), ("weight", "ones")];
    let of = |out: &str| {
        let arrays = Bundle::open(&golden("tf32").join("numpy.safetensors")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrays.safetensors");
        let mut writer = BundleWriter::create(&path).unwrap();
        for (to, from) in [("x", "x"), ("out", out)] {
            let t = arrays.get(from).unwrap();
            writer.put(to, t.dtype, t.shape, t.data).unwrap();
        }
        writer.put_f32(weight[1].0, &[128], &[1.0; 128]).unwrap();
        writer.finish([("precision", "tf32"), ("eps", "1e-6")]).unwrap();
        kernel("norm", &Bundle::open(&path).unwrap()).unwrap()
    };
    assert!(of("norm.honest").passes(), "{}", cause(&of("norm.honest")));
    assert!(!of("norm.bug-eps").passes());
}

/// A candidate of transformers on an H100 with TF32 on, with another declared type, and with a change.
fn candidate(folder: &Path, precision: &str, change: impl Fn(&str, &mut Vec<u8>)) -> Bundle {
    let file = Bundle::open(&golden("candidates/h100-f32-tf32-sdpa.safetensors")).unwrap();
    let path = folder.join(format!("{}.safetensors", precision.len()));
    let mut writer = BundleWriter::create(&path).unwrap();
    for name in file.names() {
        let t = file.get(name).unwrap();
        let mut data = t.data.to_vec();
        change(name, &mut data);
        writer.put(name, t.dtype, t.shape, &data).unwrap();
    }
    let about = ["family", "policy", "retain", "prompt"].map(|key| (key, file.metadata(key).unwrap().to_string()));
    writer.finish(about.into_iter().chain([("precision", precision.to_string())])).unwrap();
    Bundle::open(&path).unwrap()
}

#[test]
fn t10_1_an_honest_candidate_in_tf32_passes_by_replay() {
    let ((model, prompt), folder) = (toy(), tempfile::tempdir().unwrap());
    let scratch = || BundleWriter::create(&folder.path().join("replay")).unwrap();
    let judged = |precision: &str, change: &dyn Fn(&str, &mut Vec<u8>)| {
        replay(&model, Some(&prompt), &candidate(folder.path(), precision, change), scratch()).unwrap()
    };
    let honest = judged("tf32", &|_, _| {});
    assert!(honest.passes() && honest.precision == "tf32", "{}", cause(&honest));
    assert!(honest.stages.iter().filter(|s| s.outcome == Outcome::Pass).count() > 30);
    // By parts: the tower alone is in TF32, so the projector is the first that fails.
    let parts = judged(r#"{"vision": "tf32", "*": "f32"}"#, &|_, _| {});
    assert_eq!(parts.first_divergence().unwrap().stage, "projector.out", "{}", cause(&parts));
    let late = judged("tf32", &|name, data| {
        if name == "decoder.01.mix" {
            data.rotate_right(4 * 64);
        }
    });
    assert_eq!(late.first_divergence().unwrap().stage, "decoder.01.mix", "{}", cause(&late));
    // A golden has no noise of tf32: it says what to do.
    let path = folder.path().join("golden.safetensors");
    let mut writer = BundleWriter::create(&path).unwrap();
    writer.put_i64("input.ids", &[1], &[5]).unwrap();
    writer.finish([("precision", "f64"), ("noise", "1")]).unwrap();
    let e = check(&Bundle::open(&path).unwrap(), &candidate(folder.path(), "tf32", |_, _| {})).unwrap_err().to_string();
    assert!(e.contains("metadata precision") && e.contains("no noise of tf32") && e.contains("--model"), "{e}");
}
