//! The sentences of types and of replayed layers; rivals.

use super::*;

#[test]
fn d11_8_types_are_named() {
    let key = given(Site::Key, 0, &[2, 24, 64]);
    let blocks = |size: usize, most: f64| -> Vec<f64> {
        key.truth
            .chunks(size)
            .flat_map(|block| {
                let scale = block.iter().fold(0.0f64, |m, v| m.max(v.abs())) / most;
                block.iter().map(move |v| (v / scale).round() * scale).collect::<Vec<f64>>()
            })
            .collect()
    };
    key.says("every number is one of int8, a scale for each row of a head", blocks(64, 127.0));
    key.says("every number is one of int8, a scale for 32 numbers", blocks(32, 127.0));
    key.says("every number is one of int4, a scale for 32 numbers", blocks(32, 7.0));
    key.says("every number is one of fp8 (e4m3)", key.truth.iter().map(|v| e4m3(*v)).collect());
    let out = given(Site::Out, 0, &[24, 16]);
    out.says("stored in bf16", out.truth.iter().map(|v| Grid::Bf16.round(*v)).collect());
    let narrow: Vec<f64> = out.truth.iter().zip(random(384, 4)).map(|(t, r)| t + 1e-4 * r).collect();
    for (all, words) in
        [(true, "linear layers read numbers with 10 bits"), (false, "convolutions read numbers with 10 bits")]
    {
        layer(Site::VisionOut, Change::Narrow { all }, &[], words, narrow.clone());
    }
    let other: Vec<f64> = out.truth.iter().zip(random(384, 4)).map(|(t, r)| Grid::Bf16.round(t + 0.02 * r)).collect();
    layer(Site::Out, Change::Stored(Grid::Bf16), &[], "one of bf16: computed in bf16", other);
}

/// A layer that gives these numbers with one change.
fn layer(site: Site, change: Change, tensors: &[(&str, &[usize])], words: &str, value: Vec<f64>) {
    let plain = given(site, 0, &[24, 16]);
    let tensors =
        tensors.iter().map(|(name, shape)| Tensor { name: name.to_string(), shape: shape.to_vec() }).collect();
    let fake = Fake { change, value: value.clone(), truth: plain.truth.clone(), tensors };
    Given { again: Some(fake), ..plain }.says(words, value);
}

#[test]
fn d11_9_layers_are_named() {
    let value = || {
        given(Site::Out, 0, &[24, 16]).truth.iter().zip(random(384, 21)).map(|(t, r)| t + 0.1 * r).collect::<Vec<f64>>()
    };
    layer(Site::Out, Change::Function(Activation::Relu), &[], "the activation is relu", value());
    layer(Site::Out, Change::Epsilon(1e-5), &[], "ε is 1e-5; the model's is 1e-6", value());
    layer(Site::Out, Change::Without(Branch::Mlp), &[], "what the MLP adds is left out", value());
    let bias: &[(&str, &[usize])] = &[
        ("a.bias", &[16]),
        ("norm.weight", &[16]),
        ("position_embedding.weight", &[9, 16]),
        ("patch.weight", &[16, 3, 2, 2]),
    ];
    for (i, edit, words) in [
        (0, Edit::Zero, "a.bias is left out"),
        (1, Edit::One, "norm.weight is left out"),
        (1, Edit::Plus, "norm.weight is read as 1 + w"),
        (2, Edit::Rows(1), "one row late: a patch gets the position before its own"),
        (2, Edit::Rows(-1), "one row early: a patch gets the position after its own"),
        (3, Edit::Channels, "reads the channels in the other order"),
    ] {
        layer(Site::VisionOut, Change::Weight(i, edit), bias, words, value());
    }
    // One column of what the MLP adds.
    let plain = given(Site::Out, 0, &[24, 16]);
    let without = value();
    let got = plain.truth.iter().enumerate().map(|(i, t)| if i % 16 == 3 { t + 0.02 * (t - without[i]) } else { *t });
    let got: Vec<f64> = got.collect();
    let fake = Fake {
        change: Change::Without(Branch::Mlp),
        value: without.clone(),
        truth: plain.truth.clone(),
        tensors: vec![],
    };
    Given { again: Some(fake), ..given(Site::Out, 0, &[24, 16]) }
        .says("output 3 of the MLP is 1.02000 times what it should be", got);
    // A head that the output projection does not read; logits of another row.
    let mix = random(24 * 16, 31);
    let mut without = ArrayD::from_shape_vec(vec![24, 16], mix.clone()).unwrap();
    without.indexed_iter_mut().for_each(|(i, v)| {
        if i[1] / 4 == 2 {
            *v = 0.0
        }
    });
    let change = Change::Instead(Stage::layer(Site::Mix, 0), without);
    let fake = Fake { change, value: value(), truth: plain.truth.clone(), tensors: vec![] };
    let mut out = Given { again: Some(fake), ..plain };
    out.known.insert(Stage::layer(Site::Mix, 0), ArrayD::from_shape_vec(vec![24, 16], mix).unwrap());
    out.known.insert(Stage::layer(Site::Query, 0), ArrayD::zeros(vec![4, 24, 4]));
    out.says("the output projection does not read head 2", value());
    let own = &out.known[&Stage::layer(Site::Mix, 0)];
    let woven = ArrayD::from_shape_fn(vec![24, 16], |i| own[[i[0], i[1] % 4 * 4 + i[1] / 4]]);
    let change = Change::Instead(Stage::layer(Site::Mix, 0), woven);
    out.again = Some(Fake { change, value: value(), truth: out.truth.clone(), tensors: vec![] });
    out.says("the output projection reads [n, d_h, H] in place of [n, H, d_h]", value());
    let norm = ArrayD::from_shape_vec(vec![5, 4], random(20, 32)).unwrap();
    let rolled = ArrayD::from_shape_fn(vec![5, 4], |i| norm[[(i[0] + 4) % 5, i[1]]]);
    let mut logits = Given { at: Stage::once(Site::Logits), ..given(Site::Out, 0, &[64]) };
    let other = random(64, 33);
    let fake = Fake {
        change: Change::Instead(Stage::once(Site::Norm), rolled),
        value: other.clone(),
        truth: logits.truth.clone(),
        tensors: vec![],
    };
    logits.known.insert(Stage::once(Site::Norm), norm);
    Given { again: Some(fake), ..logits }.says("these are the logits of row 3; the prompt's last row is 4", other);
}

/// The near miss is another picture that is wrong.
#[test]
fn d11_14_grey_levels_are_told() {
    let shape = [1, 3, 8, 8];
    let truth: Vec<f64> = (0..192).map(|i| f64::from(i * 7 % 64)).collect();
    let off =
        |by: f64| truth.iter().enumerate().map(|(i, t)| if i % 4 == 0 { t + by } else { *t }).collect::<Vec<f64>>();
    let border = |sides: usize| {
        let inside = |i: usize| (1..9 - sides).contains(&(i % 64 / 8));
        truth.iter().enumerate().map(|(i, t)| if inside(i) { *t } else { 5.0 }).collect::<Vec<f64>>()
    };
    let says = |words: &str, mistake: &[f64], near: &[f64]| {
        let told = |got: &[f64]| super::super::levels(&shape, &truth, got).unwrap();
        assert!(told(mistake).contains(words), "{}", told(mistake));
        assert!(!told(near).contains(words), "near {words:?}: {}", told(near));
    };
    says("one grey level in 25 % of the values", &off(1.0), &off(2.0));
    says("up to 3 grey levels, in 25 % of the values", &off(3.0), &off(1.0));
    says("borders of one colour: padded in place of stretched?", &border(2), &border(1));
}

#[test]
fn e11_2_rivals_are_named_together() {
    let plain = given(Site::Out, 0, &[24, 16]);
    let value: Vec<f64> = plain.truth.iter().zip(random(384, 21)).map(|(t, r)| t + 0.1 * r).collect();
    struct Two(Vec<f64>, Vec<f64>);
    impl Again for Two {
        fn again(&self, _: Stage, change: &Change) -> Option<Vec<f64>> {
            let gelu = matches!(change, Change::Function(Activation::GeluErf | Activation::GeluTanh));
            Some(if gelu { self.0.clone() } else { self.1.clone() })
        }
        fn tensors(&self, _: Stage) -> Vec<Tensor> {
            vec![]
        }
        fn epsilon(&self, _: Stage) -> Option<f64> {
            None
        }
    }
    let two = Two(value.clone(), plain.truth.clone());
    let name = plain.at.name();
    let layout = Layout::of(&name, &plain.shape);
    let off: Vec<f64> = plain.truth.iter().zip(random(384, 3)).map(|(t, r)| t + 1e-7 * r).collect();
    let noise = Some(Errors::of(layout, &plain.truth, &off, None));
    let (shape, truth) = (&plain.shape[..], &plain.truth[..]);
    let precision = Precision::Fast;
    let numbers = Numbers {
        name: &name,
        shape,
        truth,
        got: &value,
        noise,
        rotated: false,
        precision,
        heads: 1,
        independent: true,
        drift: None,
    };
    let facts = Facts {
        at: plain.at,
        numbers: &numbers,
        slack: None,
        rotation: None,
        known: &|_| None,
        alike: vec![],
        roles: None,
        again: Some(&two),
        halves: vec![],
        honest: &|_, _| None,
        drift: None,
    };
    let told = named(&facts, |_| {}).cause.unwrap();
    assert_eq!(told, "the activation is gelu (with the error function), or the activation is gelu_pytorch_tanh");
}
