//! The two resamplers, compared with torchvision and Pillow.

use super::*;

#[test]
fn e4_3_equals_torchvision_and_pillow_value_for_value() {
    let sweep = json("resample/sweep.json");
    let outputs = [
        ("torchvision_bicubic", Filter::Bicubic, Resampler::Torchvision),
        ("torchvision_bilinear", Filter::Bilinear, Resampler::Torchvision),
        ("pillow_bicubic", Filter::Bicubic, Resampler::Pillow),
        ("pillow_bilinear", Filter::Bilinear, Resampler::Pillow),
        ("pillow_lanczos", Filter::Lanczos, Resampler::Pillow),
    ];
    let mut compared = 0;
    for case in sweep["cases"].as_array().unwrap() {
        let (from, to) = (pair(&case["from"]), pair(&case["to"]));
        let image = content(case["content"].as_str().unwrap(), from, case["seed"].as_u64().unwrap());
        assert_eq!(hash(&bytes(&image)), case["input"]["sha256"], "input {from:?}");
        for (name, filter, resampler) in outputs {
            let Some(want) = case.get(name) else { continue };
            let got = resize(image.view(), to, filter, resampler).unwrap();
            assert_eq!(hash(&bytes(&got)), want["sha256"].as_str().unwrap(), "{name} {from:?} → {to:?}");
            compared += 1;
        }
    }
    assert_eq!(compared, 72 * 5);
}

#[test]
fn e4_1_worked_example() {
    // The weights (1), (¾, ¼), (¼, ¾), (1) of 0 and 255; E4.2: (8192 + 4096 · 255) >> 14 = 64.
    let row = Array3::from_shape_vec((1, 2, 1), vec![0, 255]).unwrap();
    for resampler in Resampler::ALL {
        let wide = resize(row.view(), (1, 4), Filter::Bilinear, resampler).unwrap();
        assert_eq!(wide.into_raw_vec_and_offset().0, [0, 64, 191, 255]);
    }
}

#[test]
fn t4_1_pillow_12_differs_only_where_pillow_13_goes_vertical_first() {
    for case in json("resample/sweep.json")["cases"].as_array().unwrap() {
        let (from, to) = (pair(&case["from"]), pair(&case["to"]));
        let image = content(case["content"].as_str().unwrap(), from, case["seed"].as_u64().unwrap());
        let run = |r| resize(image.view(), to, Filter::Bicubic, r).unwrap();
        let same = run(Resampler::Pillow) == run(Resampler::Pillow12);
        assert!(same || case["pillow_vertical_first"] == true, "{from:?} → {to:?}");
    }
}

#[test]
fn t4_2_filters_at_their_worked_points() {
    assert_eq!([0.0, 0.25, 1.0].map(|x| Filter::Bilinear.at(x)), [1.0, 0.75, 0.0]);
    assert_eq!(
        [0.0, 0.5, -0.5, 1.0, 1.5, 2.0].map(|x| Filter::Bicubic.at(x)),
        [1.0, 0.5625, 0.5625, 0.0, -0.0625, 0.0]
    );
    assert_eq!([0.0, 3.0, -4.0].map(|x| Filter::Lanczos.at(x)), [1.0, 0.0, 0.0]);
}

/// The definition, with a complete intermediate image between the two passes. Spec: E4.1–E4.3
fn naive(image: &Array3<u8>, to: (usize, usize)) -> Array3<u8> {
    let pass = |image: &Array3<u8>, axis: usize, n_out: usize| {
        let n_in = image.dim_of(axis);
        if n_in == n_out {
            return image.clone();
        }
        let (scale, stretch) = (n_in as f64 / n_out as f64, (n_in as f64 / n_out as f64).max(1.0));
        let weights: Vec<(usize, Vec<f64>)> = (0..n_out)
            .map(|i| {
                let center = scale * (i as f64 + 0.5);
                let first = (center - 2.0 * stretch + 0.5).max(0.0) as usize;
                let end = ((center + 2.0 * stretch + 0.5) as usize).min(n_in);
                let w = (first..end).map(|j| Filter::Bicubic.at((j as f64 - center + 0.5) * (1.0 / stretch)));
                let w: Vec<f64> = w.collect();
                let total: f64 = w.iter().fold(0.0, |a, b| a + b);
                (first, w.iter().map(|v| v / total).collect())
            })
            .collect();
        let top = weights.iter().flat_map(|(_, w)| w).fold(0f64, |a, &b| a.max(b));
        let bits = (0..22).find(|b| (0.5 + top * 2f64.powi(b + 1)) as i64 >= 1 << 15).unwrap_or(22);
        let mut shape = image.raw_dim();
        shape[axis] = n_out;
        Array3::from_shape_fn(shape, |at| {
            let at = [at.0, at.1, at.2];
            let (first, w) = &weights[at[axis]];
            let mut sum = 1i64 << (bits - 1);
            for (j, w) in w.iter().enumerate() {
                let mut from = at;
                from[axis] = first + j;
                sum += (w * 2f64.powi(bits)).round() as i64 * i64::from(image[from]);
            }
            (sum >> bits).clamp(0, 255) as u8
        })
    };
    pass(&pass(image, 1, to.1), 0, to.0)
}

trait DimOf {
    fn dim_of(&self, axis: usize) -> usize;
}
impl DimOf for Array3<u8> {
    fn dim_of(&self, axis: usize) -> usize {
        self.shape()[axis]
    }
}

proptest! {
    #[test]
    fn e4_2_equals_its_naive_twin(h in 1usize..40, w in 1usize..40, to in (1usize..40, 1usize..40), seed: u32) {
        let image = content("noise", (h, w), seed.into());
        prop_assert_eq!(resize(image.view(), to, Filter::Bicubic, Resampler::Torchvision).unwrap(), naive(&image, to));
    }

    #[test]
    fn e4_1_a_flat_image_stays_flat(h in 1usize..30, w in 1usize..30, to in (1usize..30, 1usize..30), v: u8) {
        let image = Array3::from_elem((h, w, 3), v);
        for resampler in Resampler::ALL {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                let out = resize(image.view(), to, filter, resampler).unwrap();
                prop_assert!(out.iter().all(|&o| o.abs_diff(v) <= 1), "{:?}", resampler);
            }
        }
    }
}

#[test]
fn c4_3a_sides_and_filters_that_are_refused() {
    let image = Array3::<u8>::zeros((1, 2, 3));
    let fail = |to, f, r| resize(image.view(), to, f, r).unwrap_err().to_string();
    assert!(fail((0, 4), Filter::Bicubic, Resampler::Pillow).contains("1 × 2 to be resized to 0 × 4"));
    assert!(fail((1 << 21, 4), Filter::Bicubic, Resampler::Pillow).contains("sides of 1 to 1048576"));
    assert!(fail((3, 4), Filter::Lanczos, Resampler::Torchvision).contains("lanczos"));
}
