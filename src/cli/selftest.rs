//! `selftest`: compares the bits of this machine with the reference bits, which are the same on every machine.

use super::out::Stdout;
use super::{Common, Verdict};
use aircache::kernel::simd::Isa;
use aircache::kernel::tiles;
use aircache::selftest::{self, Difference, Line};
use aircache::{Error, Result};
use serde_json::json;

/// Runs the demo model and a toy of each family, and compares every bit with a table in the program
#[derive(Debug, clap::Args)]
#[command(after_help = "\
selftest uses four bundled images and a toy of each family, six policies and four precisions. It uses every instruction set of the CPU (or the one
that AIRCACHE_ISA forces), on one thread and on all threads. Then it runs bf16 in the order of a matrix unit: on the unit (amx)
if this machine has one, otherwise in plain code (tiles), with the same bits. Exit code 1 means that a run differs: this machine, its compiler
or a change to the source computes other numbers. selftest names the first stage that differs.")]
pub struct Args {
    /// Computes and prints the table, with the fastest instruction set only, and compares nothing
    #[arg(long)]
    print: bool,
    /// With --print: the table of the order of a matrix unit
    #[arg(long, requires = "print")]
    tiles: bool,
    /// Uses only these images and toys; the portable kernels take more than a minute for each image
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = samples(), value_parser = samples(), hide_possible_values = true)]
    samples: Vec<String>,
}

/// The names that `--samples` knows.
fn samples() -> Vec<&'static str> {
    selftest::samples().unwrap_or_else(|e| unreachable!("C3.1a: {e}"))
}

/// The command.
pub fn run(args: Args, common: &Common) -> Result<Verdict> {
    let mut out = Stdout::new();
    let bundled: Vec<String> =
        args.samples.iter().filter(|s| selftest::SAMPLES.contains(&s.as_str())).cloned().collect();
    if args.print {
        let lines = if args.tiles { selftest::run_in_tiles(&bundled)? } else { selftest::run(&args.samples)? };
        lines.iter().try_for_each(|line| out.line(&line.to_string()))?;
        return Ok(Verdict::Pass);
    }
    let of_samples = |table: &str| -> Result<Vec<Line>> {
        let mut table = selftest::read(table)?;
        table.retain(|line| args.samples.iter().any(|sample| line.run.split(' ').next() == Some(sample)));
        Ok(table)
    };
    let table = of_samples(selftest::TABLE)?;
    let forced = std::env::var_os("AIRCACHE_ISA").is_some();
    let before = Isa::current();
    let sets: Vec<Isa> = match forced {
        true => vec![before],
        false => [Isa::Portable, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.available()).collect(),
    };
    let threads = match rayon::current_num_threads() {
        1 => vec![1],
        all => vec![1, all],
    };
    let mut cells = Vec::new();
    let mut pass = true;
    for isa in sets {
        isa.force()?;
        for &threads in &threads {
            let busy = common.messages().busy(&format!("{}, {threads} threads", isa.name()));
            let now = on(threads, &args.samples)?;
            drop(busy);
            let differ = selftest::differences(&table, &now);
            pass &= differ.is_empty();
            if common.json {
                cells.push(cell(isa.name(), threads, table.len(), &differ));
            } else {
                tell(&mut out, isa.name(), threads, table.len(), &differ)?;
            }
        }
    }
    before.force()?;
    if !bundled.is_empty() && before != Isa::Portable {
        let (name, threads) = (if tiles::available() { "amx" } else { "tiles" }, rayon::current_num_threads());
        let busy = common.messages().busy(&format!("the order of a matrix unit, {threads} threads"));
        let (table, now) = (of_samples(selftest::TILES)?, selftest::run_in_tiles(&bundled)?);
        drop(busy);
        let differ = selftest::differences(&table, &now);
        pass &= differ.is_empty();
        match common.json {
            true => cells.push(cell(name, threads, table.len(), &differ)),
            false => tell(&mut out, name, threads, table.len(), &differ)?,
        }
    }
    if common.json {
        out.json(&json!({"verdict": if pass { "pass" } else { "fail" }, "cells": cells}))?;
    }
    Ok(if pass { Verdict::Pass } else { Verdict::Fail })
}

fn on(threads: usize, samples: &[String]) -> Result<Vec<Line>> {
    super::common::pool(threads)
        .build()
        .map_err(|e| Error::new("threads", "threads that can be started", e))?
        .install(|| selftest::run(samples))
}

fn cell(isa: &str, threads: usize, runs: usize, differ: &[Difference]) -> serde_json::Value {
    let differ: Vec<_> =
        differ.iter().map(|d| json!({"run": d.run, "stage": d.stage, "expected": d.expected, "got": d.got})).collect();
    json!({"isa": isa, "threads": threads, "runs": runs, "differ": differ})
}

fn tell(out: &mut Stdout, isa: &str, threads: usize, runs: usize, differ: &[Difference]) -> Result<()> {
    let same = runs - differ.len().min(runs);
    out.line(&format!("{:<9} {threads:>3} threads: {same} of {runs} runs have the bits of the table", isa))?;
    differ.iter().try_for_each(|d| {
        out.line(&format!(
            "    {}: the first stage that differs is {}: expected {}, got {}",
            d.run, d.stage, d.expected, d.got
        ))
    })
}
