//! Lossy images by other decoders: their pixels pass, and wrong pixels of lossy images fail.
//! `tests/golden/scripts/make_decoders.py` makes the files.

use aircache::files::Files;
use aircache::golden::{Bundle, BundleWriter, Outcome, StageVerdict, replay};
use aircache::input::lossy::{OTHERS, PROGRAMS};
use aircache::input::{Image, Prepared};
use aircache::kernel::resample::{Filter, Resampler, resize};
use aircache::model::Model;
use aircache::processor::Processor;
use ndarray::{Array3, ArrayD, ArrayView3, Axis, Slice};
use std::path::{Path, PathBuf};

/// A family of each kind of reader: tiles of any resolutions, patches, tiles of a grid.
const FAMILIES: [&str; 3] = ["llava/hub4-gqa-tied-bf16", "qwen2_vl/hub-bf16", "internvl2/qwen2"];

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

/// The files, and what each decoder makes of them: file, decoder, RGB [h, w, 3].
struct Decoders {
    files: Vec<(String, Image, Vec<u8>)>,
    rgb: Vec<(String, String, Array3<u8>)>,
}

impl Decoders {
    fn file(&self, name: &str) -> &Image {
        &self.files.iter().find(|(file, ..)| file == name).unwrap().1
    }
}

fn decoders() -> Decoders {
    let bytes = |path: &str| std::fs::read(golden(path)).unwrap();
    let (files, expected) = (bytes("decoders/files.safetensors"), bytes("decoders/expected.safetensors"));
    let tensors = |bytes: &'static [u8]| safetensors::SafeTensors::deserialize(bytes).unwrap();
    let (files, expected) = (tensors(files.leak()), tensors(expected.leak()));
    let open = |(name, file): (String, safetensors::tensor::TensorView<'_>)| {
        let image = Image::from_bytes(file.data(), &name).unwrap();
        (name, image, file.data().to_vec())
    };
    let files: Vec<_> = files.tensors().into_iter().map(open).collect();
    let mut rgb = vec![];
    for (name, tensor) in expected.tensors() {
        let (file, decoder) = name.split_once('/').unwrap();
        let shape = (tensor.shape()[0], tensor.shape()[1], 3);
        rgb.push((file.into(), decoder.into(), Array3::from_shape_vec(shape, tensor.data().to_vec()).unwrap()));
    }
    for (name, _, file) in files.iter().filter(|(name, ..)| name.ends_with(".jpg")) {
        let zune = image::load_from_memory(file).unwrap().into_rgb8();
        let shape = (zune.height() as usize, zune.width() as usize, 3);
        rgb.push((name.clone(), "zune".into(), Array3::from_shape_vec(shape, zune.into_raw()).unwrap()));
    }
    Decoders { files, rgb }
}

/// D4.18: the ways of whole programs are those of libjpeg-turbo, value for value.
#[test]
fn d4_18_other_ways_are_those_of_libjpeg_turbo() {
    let all = decoders();
    let mut compared = 0;
    for (file, decoder, rgb) in &all.rgb {
        let way = ["plain", "fast", "fast-plain"].iter().position(|k| *decoder == format!("simplejpeg-{k}"));
        let Some(other) = way else { continue };
        let image = all.file(file);
        assert!(image.is_lossy());
        assert_eq!(image.decoded_by(other).unwrap().unwrap().rgb(), rgb, "{file} by {decoder}");
        compared += 1;
    }
    assert_eq!(compared, 13);
}

/// How many levels an image is outside of ways: at most, and in root mean square.
fn outside(rgb: &Array3<u8>, ways: &[Image]) -> (f64, f64) {
    let of = |(at, &v): ((usize, usize, usize), &u8)| {
        let values = || ways.iter().map(|way| f64::from(way.rgb()[at]));
        let (least, most) = (values().fold(255.0, f64::min), values().fold(0.0, f64::max));
        (least - f64::from(v)).max(f64::from(v) - most).max(0.0)
    };
    let all: Vec<f64> = rgb.indexed_iter().map(of).collect();
    let squares = all.iter().map(|v| v * v).sum::<f64>() / all.len() as f64;
    (all.into_iter().fold(0.0, f64::max), squares.sqrt())
}

/// D4.18: what other decoders make of a file is between the ways, or a few levels outside.
#[test]
fn d4_18_other_decoders_are_near_the_ways() {
    let all = decoders();
    let mut far = vec![];
    for (file, decoder, rgb) in &all.rgb {
        let image = all.file(file);
        let ways = |count: usize| -> Vec<Image> {
            let others = (0..count).filter_map(|k| image.decoded_by(k).unwrap());
            others.chain([image.clone()]).collect()
        };
        let ((most, _), (_, together)) = (outside(rgb, &ways(OTHERS)), outside(rgb, &ways(PROGRAMS)));
        let said = format!("{file} by {decoder}: {most} levels outside of any filter, {together:.2} of programs");
        println!("{said}");
        let honest = if decoder.starts_with("simplejpeg") { (0.0, 0.0) } else { (3.0, 1.1) };
        far.extend((most > honest.0 || together > honest.1).then_some(said));
    }
    assert!(far.is_empty(), "{far:#?}");
}

/// A family's model, its processor, and a folder for bundles.
struct Bench {
    model: Model,
    processor: Processor,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(family: &str) -> Bench {
        let files = Files::Folder(golden(family).join("model"));
        let model = Model::load(&files).unwrap();
        let processor = Processor::load(&files, &model.config).unwrap();
        Bench { model, processor, folder: tempfile::tempdir().unwrap() }
    }

    fn prepared(&self, image: &Image) -> Prepared {
        self.processor.prepare(std::slice::from_ref(image), "What?", None).unwrap()
    }

    /// The prompt with the lossy file.
    fn asked(&self, image: &Image) -> Prepared {
        let images = std::slice::from_ref(image);
        let prepare = |images: &[Image]| self.processor.prepare(images, "What?", None);
        self.processor.with_decoders(images, self.prepared(image), prepare).unwrap()
    }

    /// What `check` says of pixels, and its notes.
    fn said(&self, asked: &Prepared, pixels: &ArrayD<f32>) -> (StageVerdict, Vec<String>) {
        let path = self.folder.path().join("candidate.safetensors");
        let mut out = BundleWriter::create(&path).unwrap();
        let ids: Vec<i64> = asked.ids.iter().map(|&id| i64::from(id)).collect();
        out.put_i64("input.ids", &[ids.len()], &ids).unwrap();
        let all = self.model.config.profile().pixels.join(&[pixels.view()]);
        out.put_f32("input.pixels", all.shape(), all.as_slice().unwrap()).unwrap();
        out.finish([("precision", "f32")]).unwrap();
        let truth = BundleWriter::create(&self.folder.path().join("truth")).unwrap();
        let verdict = replay(&self.model, Some(asked), &Bundle::open(&path).unwrap(), truth).unwrap();
        let pixels = verdict.stages.iter().find(|s| s.stage == "input.pixels").unwrap().clone();
        (pixels, verdict.notes)
    }
}

fn image(rgb: ArrayView3<'_, u8>) -> Image {
    let (h, w, _) = rgb.dim();
    Image::from_rgb(h, w, rgb.iter().copied().collect()).unwrap()
}

/// D10.14: pixels of every decoder pass, and the verdict says that the image is lossy.
#[test]
fn d10_14_pixels_of_other_decoders_pass() {
    let all = decoders();
    for family in FAMILIES {
        let bench = Bench::new(family);
        for (file, own, _) in &all.files {
            let asked = bench.asked(own);
            let (same, notes) = bench.said(&asked, &asked.images[0].pixels);
            assert_eq!((same.outcome, &same.words[..]), (Outcome::Pass, ""), "{family}, {file}");
            let note = format!("{file} is lossy, and programs decode lossy images differently");
            assert!(notes.iter().any(|n| n.starts_with(&note)), "{notes:?}");
            for (_, decoder, rgb) in all.rgb.iter().filter(|(name, ..)| name == file) {
                let pixels = bench.prepared(&image(rgb.view())).images[0].pixels.clone();
                let (said, _) = bench.said(&asked, &pixels);
                assert_eq!(said.outcome, Outcome::Pass, "{family}, {file} by {decoder}: {}", said.words);
                let equal = pixels == asked.images[0].pixels;
                assert_eq!(said.words.contains("as decoders of lossy images differ"), !equal, "{}", said.words);
            }
        }
    }
}

/// D10.14: wrong pixels of a lossy image fail, whichever decoder the program has.
#[test]
fn d10_14_wrong_pixels_of_a_lossy_image_fail() {
    let all = decoders();
    for family in FAMILIES {
        let bench = Bench::new(family);
        for (file, own, _) in all.files.iter().filter(|(name, ..)| !name.starts_with("grey")) {
            let asked = bench.asked(own);
            let fails = |what: &str, pixels: &ArrayD<f32>| {
                let (said, _) = bench.said(&asked, pixels);
                assert_eq!(said.outcome, Outcome::Fail, "{family}, {file}: {what}");
                said.words
            };
            let others = all.rgb.iter().filter(|(name, decoder, _)| name == file && decoder == "ffmpeg");
            let plain = own.rgb().to_owned();
            for (decoder, rgb) in others.map(|(_, decoder, rgb)| (&decoder[..], rgb)).chain([("libjpeg", &plain)]) {
                let with = |rgb: &Array3<u8>| bench.prepared(&image(rgb.view())).images[0].pixels.clone();
                let right = with(rgb);
                let swapped = rgb.select(Axis(2), &[2, 1, 0]);
                fails(&format!("{decoder}, channels swapped"), &with(&swapped));
                let mut cropped = rgb.clone();
                let height = rgb.dim().0;
                cropped
                    .slice_axis_mut(Axis(0), Slice::from(..height - 1))
                    .assign(&rgb.slice_axis(Axis(0), Slice::from(1..)));
                fails(&format!("{decoder}, one row late"), &with(&cropped));
                let (h, w, _) = rgb.dim();
                let small = resize(rgb.view(), (h - 12, w), Filter::Bicubic, Resampler::Pillow).unwrap();
                let mut boxed = Array3::zeros((h, w, 3));
                boxed.slice_axis_mut(Axis(0), Slice::from(6..h - 6)).assign(&small);
                fails(&format!("{decoder}, letterbox"), &with(&boxed));
                fails(&format!("{decoder}, another mean"), &right.mapv(|v| v + 0.003));
                fails(&format!("{decoder}, another deviation"), &right.mapv(|v| v * 1.01));
                let brighter = rgb.mapv(|v| v.saturating_add(4));
                fails(&format!("{decoder}, brighter"), &with(&brighter));
            }
        }
    }
}

/// D10.14: bilinear in place of bicubic fails, and the words are of grey levels.
#[test]
fn d10_14_another_filter_fails_with_a_lossy_image() {
    let all = decoders();
    let bench = Bench::new(FAMILIES[1]);
    let patch = bench.model.config.profile().tower.patch;
    for (file, own, _) in all.files.iter().filter(|(name, ..)| !name.starts_with("grey")) {
        let asked = bench.asked(own);
        let [_, h, w] = asked.images[0].grid.unwrap();
        // A picture that has the size already is not resized again.
        let resized = resize(own.rgb(), (h * patch, w * patch), Filter::Bilinear, Resampler::Torchvision).unwrap();
        let pixels = bench.prepared(&image(resized.view())).images[0].pixels.clone();
        assert_eq!(pixels.shape(), asked.images[0].pixels.shape());
        let (said, _) = bench.said(&asked, &pixels);
        assert_eq!(said.outcome, Outcome::Fail, "{file}");
        assert!(said.words.contains(" grey levels, in "), "{}", said.words);
    }
}
