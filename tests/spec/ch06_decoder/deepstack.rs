//! Interleaved M-RoPE and DeepStack.

use super::*;
use aircache::decoder::{Member, Sequence};
use aircache::roles::Roles;
use aircache::stage::Phase;

#[test]
fn e6_17_worked_example() {
    let c = |sections: &[usize], head_dim| DecoderConfig {
        mrope: Some(sections.to_vec()),
        interleaved: true,
        head_dim,
        ..config().clone()
    };
    assert_eq!(c(&[3, 2, 1], 12).axes(), [0, 1, 2, 0, 1, 0]);
    // The hub's sections: the last four frequencies belong to the time.
    let axes = c(&[24, 20, 20], 128).axes();
    assert_eq!([0, 1, 2].map(|axis| axes.iter().filter(|&&a| a == axis).count()), [24, 20, 20]);
    assert_eq!(axes[57..], [0, 1, 2, 0, 0, 0, 0]);
}

/// C6.17a: s_0 says nothing, and sections may reach beyond the head.
#[test]
fn c6_17a_the_sum_is_free() {
    let c = |sections: &[usize]| DecoderConfig {
        mrope: Some(sections.to_vec()),
        interleaved: true,
        head_dim: 10,
        ..config().clone()
    };
    assert_eq!(c(&[0, 20, 20]).axes(), [0, 1, 2, 0, 1]);
    assert_eq!(c(&[9, 1, 0]).axes(), [0, 1, 0, 0, 0]);
}

/// A decoder of one layer that leaves rows as they are.
fn idle(layers: usize) -> (Decoder, tempfile::TempDir) {
    let own = |layer: usize, part: &str| format!("language_model.model.layers.{layer}.{part}.weight");
    let mut tensors = vec![
        ("language_model.model.embed_tokens.weight".to_string(), vec![2, 2]),
        ("language_model.lm_head.weight".into(), vec![2, 2]),
        ("language_model.model.norm.weight".into(), vec![2]),
    ];
    for layer in 0..layers {
        for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            tensors.push((own(layer, &format!("self_attn.{part}")), vec![2, 2]));
        }
        tensors.push((own(layer, "mlp.gate_proj"), vec![1, 2]));
        tensors.push((own(layer, "mlp.up_proj"), vec![1, 2]));
        tensors.push((own(layer, "mlp.down_proj"), vec![2, 1]));
        tensors.push((own(layer, "input_layernorm"), vec![2]));
        tensors.push((own(layer, "post_attention_layernorm"), vec![2]));
    }
    let zeros = [0f32; 4];
    let tensors: Vec<_> = tensors.iter().map(|(n, s)| (n.as_str(), &s[..], &zeros[..s.iter().product()])).collect();
    let (checkpoint, folder) = by_hand::checkpoint(&tensors);
    let c = DecoderConfig {
        layers,
        hidden: 2,
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        intermediate: 1,
        vocab: 2,
        qkv_bias: false,
        tied: false,
        ..config().clone()
    };
    (Decoder::load(&Names::new(&checkpoint, names), &c).unwrap(), folder)
}

/// The rows after the last layer, from three rows of ones: a text row and two visual rows.
fn added(decoder: &Decoder, deepstack: Vec<Array2<f32>>, grid: Grid) -> Vec<Vec<f32>> {
    let roles = Roles::read([0, 1, 1]).unwrap();
    let mut sequence = Sequence { roles, deepstack, ..Sequence::new(decoder.cache()) };
    let mut members: Vec<Member<'_, f32>> = vec![(&mut sequence, 3)];
    let x = Array2::from_elem((3, 2), 1.0);
    let positions = Positions::in_order(3);
    let x = decoder.forward(&mut Pass::new(grid), Phase::Prefill, x, &positions, &mut members);
    x.outer_iter().map(|row| row.to_vec()).collect()
}

#[test]
fn e6_18_worked_example() {
    let (decoder, _folder) = idle(2);
    let d = array![[1.0, 2.0], [3.0, 4.0]];
    let want = [[1.0, 1.0], [2.0, 3.0], [4.0, 5.0]];
    assert_eq!(added(&decoder, vec![d.clone()], Grid::Native), want);
    // One after each layer; the third has no layer.
    let want = [[1.0, 1.0], [3.0, 5.0], [7.0, 9.0]];
    assert_eq!(added(&decoder, vec![d.clone(), d.clone(), d], Grid::Native), want);
}

/// R6.18: each sum is stored.
#[test]
fn r6_18_the_sum_is_stored() {
    let (decoder, _folder) = idle(2);
    let small = Array2::from_elem((2, 2), 1.0 / 512.0);
    let ones = [[1.0, 1.0]; 3];
    assert_eq!(added(&decoder, vec![small.clone(), small.clone()], Grid::Bf16), ones);
    assert_ne!(added(&decoder, vec![small.clone(), small], Grid::Native), ones);
}

/// Rows, their roles, and what is added to the visual rows.
type Deep = (Array2<f32>, Roles, Vec<Array2<f32>>);

/// C6.18a: chunks, and other prompts in the pack, change no bit; the rows are gone after the prefill.
#[test]
fn c6_18a_chunks_and_packs_change_no_bit() {
    let decoder = &DEMO.decoder;
    let (n, d, mut rng) = (45, config().hidden, Rng(11));
    let mut prompt = |text: usize| {
        let x = Array2::from_shape_fn((n, d), |_| rng.number(1.0));
        let roles = Roles::read((0..n).map(|i| i64::from(i >= text && i + text < n))).unwrap();
        let visual = roles.visual().len();
        let deepstack = vec![Array2::from_shape_fn((visual, d), |_| rng.number(1.0)); 2];
        (x, roles, deepstack)
    };
    let (first, second) = (prompt(3), prompt(9));
    let at = Positions::in_order(n);
    let run = |prompts: &[&Deep], at_once: usize| {
        let given: Vec<_> = prompts.iter().map(|(x, ..)| (x.clone(), &at)).collect();
        let sequence = |(_, roles, deepstack): &Deep| Sequence {
            roles: roles.clone(),
            deepstack: deepstack.clone(),
            ..Sequence::new(decoder.cache())
        };
        let mut sequences: Vec<_> = prompts.iter().map(|prompt| sequence(prompt)).collect();
        decoder.prefill(&mut Pass::<f32>::new(Grid::Bf16), &given, &mut sequences, at_once);
        assert!(sequences.iter().all(|sequence| sequence.deepstack.is_empty()));
        let found = |s: &Sequence<f32>| (bits(&s.logits), entries(&s.cache));
        sequences.iter().map(found).collect::<Vec<_>>()
    };
    let alone = [run(&[&first], 1024), run(&[&second], 1024)].concat();
    for at_once in [8, 24, 1024] {
        assert!(run(&[&first, &second], at_once) == alone, "{at_once}");
    }
    let without = (first.0.clone(), first.1.clone(), vec![]);
    assert!(run(&[&without], 1024) != alone[..1], "the rows are added");
}
