//! Chapter 10, TF32 as a declared type, by replay: honest runs pass with either rounding, and mistakes fail that are as
//! small as the noise of one number. Outside programs in TF32 are judged in `tests/golden/tf32.rs`.

use crate::common::bugs;
use crate::common::lab::{Backend, Lab};
use aircache::kernel::Operands;
use aircache::pass::{Precision::Tf32, Way};

#[test]
fn r10_14_honest_runs_pass_with_either_rounding() {
    let lab = Lab::new(20);
    for operands in [Operands::Nearest, Operands::TowardZero] {
        let how = Backend { way: Way { operands, fused: true, ..Way::default() }, ..lab.backend() };
        let verdict = lab.by_replay(&lab.run(&lab.model, &lab.prompt, Tf32, &how), Tf32);
        assert!(verdict.passes() && verdict.precision == "tf32", "{operands:?}: {:?}", verdict.told());
    }
}

#[test]
fn e10_10_small_mistakes_in_tf32_fail() {
    let lab = Lab::new(20);
    let names = [
        "tower: erf for tanh in GELU",
        "projector: tanh for erf in GELU",
        "decoder: RMS norm ε 1e-3",
        "mask: a row does not see itself",
        "scale: 1/√d for 1/√d_h",
    ];
    for name in names {
        let bug = bugs::all().into_iter().find(|bug| bug.name == name).unwrap();
        let verdict = lab.by_replay(&(bug.make)(&lab, Tf32), Tf32);
        let first = verdict.first_divergence().unwrap_or_else(|| panic!("{name} passes as tf32"));
        assert!(bug.is_at(&first.stage), "{name}: {:?}", verdict.told());
    }
}
