//! `explain`: a page that loads nothing and says what the commands say; pictures that light what was kept.

use base64::{Engine, prelude::BASE64_STANDARD};
use std::path::Path;
use std::process::{Command, Output};

fn aircache(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aircache")).args(args).output().unwrap()
}

fn explained(dir: &Path, args: &[&str], name: &str) -> (serde_json::Value, Vec<u8>) {
    let out = dir.join(name);
    let mut all = vec!["explain", "--quiet", "--json", "--out", out.to_str().unwrap()];
    all.extend_from_slice(args);
    let done = aircache(&all);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    (serde_json::from_slice(&done.stdout).unwrap(), std::fs::read(out).unwrap())
}

/// What the page draws from.
fn data(page: &str) -> serde_json::Value {
    let from = page.split("<script type=\"application/json\" id=\"data\">").nth(1).unwrap();
    serde_json::from_str(from.split("</script>").next().unwrap()).unwrap()
}

fn bytes(text: &serde_json::Value) -> Vec<u8> {
    BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap()
}

#[test]
fn the_page_loads_nothing_and_holds_the_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (result, page) =
        explained(dir.path(), &["--policies", "aircache,snapkv,divprune", "--retain", "0.1"], "page.html");
    let page = String::from_utf8(page).unwrap();
    assert!(page.len() < 3 << 20, "{} bytes", page.len());
    for outside in ["http://", "https://", "//cdn", "@import", "src=\"/", "url("] {
        let found = page.matches(outside).count();
        assert_eq!(found, 0, "{outside} stands in the page");
    }
    let full = result["full"].as_str().unwrap();
    assert!(page.contains(&format!("<td class=\"answer\">{full}</td>")), "the full answer as plain text");
    let run = |retain: &str, policy: &str| {
        let done = aircache(&["run", "--quiet", "--precision", "fast", "--policy", policy, "--retain", retain]);
        String::from_utf8(done.stdout).unwrap().trim_end().to_string()
    };
    assert_eq!(full, run("1", "full"));
    for told in result["policies"].as_array().unwrap() {
        let answer = told["text"].as_str().unwrap();
        assert_eq!(answer, run("0.1", told["policy"].as_str().unwrap()));
        assert!(page.contains(&format!("<td class=\"answer\">{answer}</td>")));
    }
}

/// E9.35: the page has the place into which each visual row is merged.
#[test]
fn the_page_draws_merged_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (_, page) = explained(dir.path(), &["--policies", "aircache,visionzip", "--retain", "0.2"], "page.html");
    let data = data(&String::from_utf8(page).unwrap());
    assert_eq!(data["policies"][0]["into"].as_array().unwrap().len(), 0);
    let into: Vec<i64> = data["policies"][1]["into"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
    assert_eq!(into.len(), data["tokens"].as_array().unwrap().len());
    let targets = (0..into.len()).filter(|&v| into[v] == v as i64).count();
    let merged = (0..into.len()).filter(|&v| into[v] >= 0 && into[v] != v as i64).count();
    let keep = data["policies"][1]["budget"][0].as_u64().unwrap() as usize;
    assert!(targets == (5 * keep + 16) / 32 && merged > 100, "{targets} targets, {merged} merged rows");
}

#[test]
fn the_page_draws_what_record_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (_, page) = explained(dir.path(), &["--policies", "aircache", "--retain", "0.2"], "page.html");
    let data = data(&String::from_utf8(page).unwrap());
    let bundle = dir.path().join("b.safetensors");
    let stages = ["record", "--quiet", "--retain", "0.2", "--precision", "fast", "--no-noise", "--max-new-tokens", "1"];
    let written = ["--stages", "policy.*,input.roles", "--out", bundle.to_str().unwrap()];
    assert!(aircache(&[&stages[..], &written[..]].concat()).status.success());
    let file = std::fs::read(&bundle).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let whole = |name: &str| -> Vec<usize> {
        let of = tensors.tensor(name).unwrap();
        of.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as usize).collect()
    };
    let policy = &data["policies"][0];
    let count = data["tokens"].as_array().unwrap().len();
    assert_eq!(count, tensors.tensor("input.roles").unwrap().data().iter().filter(|&&r| r == 1).count());
    let kept = bytes(&policy["kept"]);
    for layer in 0..policy["layers"].as_u64().unwrap() as usize {
        let drawn: Vec<usize> = (0..count).filter(|v| kept[layer * count + v] == 255).collect();
        assert_eq!(drawn, whole(&format!("policy.{layer:02}.kept")), "layer {layer}");
        let window: Vec<usize> = serde_json::from_value(policy["window"][layer].clone()).unwrap();
        assert_eq!(window, whole(&format!("policy.{layer:02}.window")));
    }
    assert_eq!(serde_json::from_value::<Vec<usize>>(policy["budget"].clone()).unwrap(), whole("policy.budget"));
    // Every region lies in its image, and together they cover it.
    let [height, width] = [0, 1].map(|i| data["images"][0][i].as_f64().unwrap());
    let regions: Vec<Vec<f64>> = serde_json::from_value(data["tokens"].clone()).unwrap();
    let mut area = 0.0;
    for r in regions.iter().filter(|r| r.len() > 1) {
        assert!(r[1] >= 0.0 && r[1] < r[3] && r[3] <= height && r[2] >= 0.0 && r[2] < r[4] && r[4] <= width, "{r:?}");
        area += if r[5] == 0.0 { (r[3] - r[1]) * (r[4] - r[2]) } else { 0.0 };
    }
    assert!((area / (height * width) - 1.0).abs() < 1e-3, "fine tokens cover the image once: {area}");
}

#[test]
fn pictures_light_what_stays_and_dim_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let picture = |args: &[&str]| {
        let (_, png) = explained(dir.path(), &[&["--policies", "aircache", "--format", "png"], args].concat(), "o.png");
        aircache::input::Image::from_bytes(&png, "o.png").unwrap().rgb().to_owned()
    };
    let sum = |i: &ndarray::Array3<u8>| i.iter().map(|&v| u64::from(v)).sum::<u64>();
    let [little, half, all] = ["0.02", "0.5", "1"].map(|r| picture(&["--retain", r]));
    let original = aircache::input::Image::from_bytes(aircache::demo::sample("18").unwrap().png, "18").unwrap();
    assert_eq!(all, original.rgb(), "where all stays, the picture is the image");
    assert!(sum(&little) < sum(&half) && sum(&half) < sum(&all));
    let dimmed = |v: u8| (f64::from(v) * 0.22).round() as u8;
    assert!(little.iter().zip(&all).all(|(&l, &a)| l >= dimmed(a) && l <= a), "between dimmed and lit");
    assert_ne!(picture(&["--retain", "0.1", "--layer", "0"]), picture(&["--retain", "0.1", "--layer", "5"]));
    let (_, svg) = explained(dir.path(), &["--policies", "aircache", "--format", "svg"], "o.svg");
    let svg = String::from_utf8(svg).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("data:image/png;base64,") && svg.contains("<mask"));
}

#[test]
fn what_cannot_be_drawn_is_an_error_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.png");
    let bad: [(&[&str], &str); 5] = [
        (&["--format", "png", "--layer", "6"], "--layer: expected a layer from 0 to 5, found 6"),
        (&["--format", "png", "--which", "1"], "image"),
        (&["--prompt", "Hello"], "a prompt with an image"),
        (&["--retain", "0.1,0.5"], "--retain: expected one retention"),
        (&["--policies", "nonsense"], "--policies"),
    ];
    for (args, message) in bad {
        let done = aircache(&[&["explain", "--quiet", "--out", out.to_str().unwrap()], args].concat());
        let told = String::from_utf8_lossy(&done.stderr).to_string();
        assert_eq!(done.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.contains(message), "{args:?}: {told}");
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "{args:?} left a file");
    }
}
