//! The policies against an independent twin in Python: windows, importances, statistics, budgets, kept sets.
//! The goldens, their format and the script that makes them: tests/golden/policy/README.md.

use aircache::policy::{Budget, LayerScores, Observed, Plan, Policy, Scorer};
use aircache::{Error, Role, Roles};
use ndarray::Array3;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/policy/random")
}

fn numbers(view: &TensorView<'_>) -> Vec<f64> {
    let bytes = view.data();
    match view.dtype() {
        Dtype::U8 => bytes.iter().map(|&b| b as f64).collect(),
        Dtype::F32 => bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap()) as f64).collect(),
        Dtype::F64 => bytes.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect(),
        other => panic!("{other:?}"),
    }
}

struct Case {
    name: String,
    roles: Roles,
    q: Vec<Array3<f64>>,
    k: Vec<Array3<f64>>,
}

impl Case {
    fn read(name: &str) -> Case {
        let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let array = |name: String| {
            let view = file.tensor(&name).ok()?;
            let dim = (view.shape()[0], view.shape()[1], view.shape()[2]);
            Some(Array3::from_shape_vec(dim, numbers(&view)).unwrap())
        };
        let roles = numbers(&file.tensor("input.roles").unwrap());
        Case {
            name: name.into(),
            roles: Roles(roles.iter().map(|&r| if r == 1.0 { Role::Visual } else { Role::Text }).collect()),
            q: (0..).map_while(|l| array(format!("decoder.{l:02}.query"))).collect(),
            k: (0..).map_while(|l| array(format!("decoder.{l:02}.key"))).collect(),
        }
    }

    /// Scores the prompt with only the queries that the policy needs.
    fn observe(&self, policy: &Policy) -> Result<(Scorer, Vec<LayerScores>), Error> {
        let scorer = Scorer::new(policy, &self.roles)?;
        let rows = if policy.needs_received() { (0..self.roles.len()).collect() } else { scorer.rows().to_vec() };
        let layers = self.q.iter().zip(&self.k).enumerate().map(|(l, (q, k))| {
            let q = q.select(ndarray::Axis(1), &rows);
            scorer
                .observe(l, &Observed { q: q.view(), rows: &rows, k: k.view(), received: None, v: None, future: None })
        });
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        Ok((scorer, layers))
    }
}

struct Expected {
    bytes: Vec<u8>,
    retain: Vec<String>,
    rules: Vec<String>,
    variants: Vec<String>,
    methods: Vec<String>,
    errors: Vec<String>,
    undecided: Vec<(String, String, String)>,
}

impl Expected {
    fn read(name: &str) -> Expected {
        let bytes = std::fs::read(folder().join(format!("{name}.expected.safetensors"))).unwrap();
        let (_, head) = SafeTensors::read_metadata(&bytes).unwrap();
        let meta = head.metadata().as_ref().unwrap();
        let list = |key: &str| serde_json::from_str::<Vec<String>>(&meta[key]).unwrap();
        let errors: serde_json::Map<_, _> = serde_json::from_str(&meta["errors"]).unwrap();
        Expected {
            retain: list("retain"),
            rules: list("rules"),
            variants: list("variants"),
            methods: list("methods"),
            errors: errors.keys().cloned().collect(),
            undecided: serde_json::from_str(&meta["undecided"]).unwrap(),
            bytes,
        }
    }

    fn tensor(&self, name: &str) -> Option<(Vec<usize>, Vec<f64>)> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).ok()?;
        Some((view.shape().to_vec(), numbers(&view)))
    }

    fn decided(&self, policy: &str, rule: &str, retain: &str) -> bool {
        !self.undecided.iter().any(|(p, b, r)| p == policy && (b == "window" || (b == rule && r == retain)))
    }
}

fn close(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1e-300), "{what}: {got} for {expected}");
}

/// Checks windows, importances, strength and skewness of one policy.
fn scores_agree(case: &Case, expected: &Expected, name: &str, layers: &[LayerScores]) {
    let what = format!("{}: {name}", case.name);
    let Some((shape, window)) = expected.tensor(&format!("{name}/window")) else {
        return assert!(layers.iter().all(|l| l.window.iter().all(Vec::is_empty)), "{what}: no window expected");
    };
    let ours: Vec<f64> = layers
        .iter()
        .flat_map(|l| &l.window)
        .flat_map(|rows| (0..case.roles.len()).map(|r| f64::from(u8::from(rows.contains(&r)))))
        .collect();
    assert_eq!(ours, window, "{what}: windows {shape:?}");
    let (_, importance) = expected.tensor(&format!("{name}/importance")).unwrap();
    let ours: Vec<f64> = layers.iter().flat_map(|l| l.importance.iter().copied()).collect();
    assert_eq!(ours.len(), importance.len(), "{what}");
    ours.iter().zip(&importance).for_each(|(&o, &e)| close(o, e, &format!("{what}: importance")));
    let (_, strength) = expected.tensor(&format!("{name}/strength")).unwrap();
    let (_, skewness) = expected.tensor(&format!("{name}/skewness")).unwrap();
    for (l, layer) in layers.iter().enumerate() {
        close(layer.strength, strength[l], &format!("{what}: strength of layer {l}"));
        let error = (layer.skewness - skewness[l]).abs();
        assert!(error < 1e-9, "{what}: skewness of layer {l}: {} for {}", layer.skewness, skewness[l]);
    }
}

/// True if all layers have equal strength except for the last bits. This happens if the rows of a visual window see
/// visual keys only.
fn alike(layers: &[LayerScores]) -> bool {
    layers.iter().all(|l| (l.strength / layers[0].strength - 1.0).abs() < 1e-13)
}

/// Checks the kept sets against a mask [R][L][S][n_v].
fn kept_agrees(plan: &Plan, kept: &[f64], n_v: usize, what: &str) {
    let sets: Vec<&Vec<usize>> = plan.decisions.as_ref().unwrap().kept.iter().flatten().collect();
    assert_eq!(sets.len() * n_v, kept.len(), "{what}");
    for (set, kept) in sets.into_iter().zip(kept.chunks(n_v.max(1))) {
        let expected: Vec<usize> = (0..n_v).filter(|&i| kept[i] == 1.0).collect();
        assert_eq!(*set, expected, "{what}");
    }
}

fn case(name: &str) {
    let (case, expected) = (Case::read(name), Expected::read(name));
    let n_v = case.roles.visual().len();
    let layers = case.q.len();
    for name in &expected.errors {
        assert!(case.observe(&name.parse().unwrap()).is_err(), "{}: {name} must be an error", case.name);
    }
    for name in &expected.variants {
        let policy: Policy = name.parse().unwrap();
        let (_, budgets) = expected.tensor(&format!("{name}/budget")).unwrap();
        let (_, kept) = expected.tensor(&format!("{name}/kept")).unwrap();
        let mut budgets = budgets.chunks(layers);
        for rule in &expected.rules {
            let policy = Policy { budget: rule.parse().unwrap(), ..policy.clone() };
            let (scorer, scores) = case.observe(&policy).unwrap();
            scores_agree(&case, &expected, name, &scores);
            for (r, retain) in expected.retain.iter().enumerate() {
                let budget: Vec<usize> = budgets.next().unwrap().iter().map(|&b| b as usize).collect();
                if !expected.decided(name, rule, retain) {
                    continue;
                }
                let what = format!("{}: {name}, budget={rule}, retain {retain}", case.name);
                let plan = scorer.decide(retain.parse().unwrap(), &scores);
                if policy.budget == Budget::Strength && alike(&scores) {
                    // The strengths are equal except for rounding. Our budgets follow the tie; the twin's budgets
                    // follow its rounding.
                    let uniform = Policy { budget: Budget::Uniform, ..policy.clone() };
                    let uniform = Scorer::new(&uniform, &case.roles).unwrap().decide(retain.parse().unwrap(), &scores);
                    assert_eq!(plan.kept, uniform.kept, "{what}");
                    continue;
                }
                assert_eq!(plan.decisions.as_ref().unwrap().budget, budget, "{what}");
                if policy.budget == Budget::Both {
                    let one = kept.len() / expected.retain.len();
                    kept_agrees(&plan, &kept[r * one..(r + 1) * one], n_v, &what);
                }
            }
        }
    }
    for name in &expected.methods {
        let policy: Policy = name.parse().unwrap();
        let (scorer, scores) = case.observe(&policy).unwrap();
        scores_agree(&case, &expected, name, &scores);
        let (_, budgets) = expected.tensor(&format!("{name}/budget")).unwrap();
        let (_, kept) = expected.tensor(&format!("{name}/kept")).unwrap();
        for (r, retain) in expected.retain.iter().enumerate() {
            let rule = policy.budget.to_string();
            if !expected.decided(name, rule.split(':').next().unwrap(), retain) {
                continue;
            }
            let what = format!("{}: {name}, retain {retain}", case.name);
            let plan = scorer.decide(retain.parse().unwrap(), &scores);
            let budget: Vec<usize> = budgets[r * layers..(r + 1) * layers].iter().map(|&b| b as usize).collect();
            assert_eq!(plan.decisions.as_ref().unwrap().budget, budget, "{what}");
            let one = kept.len() / expected.retain.len();
            kept_agrees(&plan, &kept[r * one..(r + 1) * one], n_v, &what);
        }
    }
}

macro_rules! cases {
    ($($test:ident = $name:literal),+ $(,)?) => {
        $(#[test] fn $test() { case($name) })+

        #[test]
        fn every_case_is_tested() {
            let mut found: Vec<String> = std::fs::read_dir(folder())
                .unwrap()
                .map(|f| f.unwrap().file_name().into_string().unwrap())
                .filter_map(|f| f.strip_suffix(".expected.safetensors").map(String::from))
                .collect();
            let mut tested = vec![$($name.to_string()),+];
            found.sort();
            tested.sort();
            assert_eq!(found, tested);
        }
    };
}

cases! {
    plain_g2 = "plain-g2",
    grouped_g4 = "grouped-g4",
    two_images = "two-images",
    ties = "ties",
    one_kv_head = "one-kv-head",
    all_kv_heads = "all-kv-heads",
    long_text = "long-text",
    six_layers = "six-layers",
    capped = "capped",
    one_layer = "one-layer",
    equal_keys = "equal-keys",
    saturated = "saturated",
    faint = "faint",
    one_visual = "one-visual",
    two_visual = "two-visual",
    smallest = "smallest",
    no_visual = "no-visual",
    error_no_text = "error-no-text",
    error_nan = "error-nan",
}
