#!/usr/bin/env bash
# Builds the fuzz targets with a nightly compiler and runs each for some seconds: fuzz/run.sh SECONDS [TARGET…]
# The same as `cargo fuzz run TARGET`, for where cargo-fuzz is not to be had. A line a target: executions, coverage, features.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?seconds}
shift
targets=${*:-$(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | tail -n +2)}
passes="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
export RUSTFLAGS="--cfg fuzzing $(echo $passes) ${SANITIZE--Zsanitizer=address} -Cdebug-assertions -Coverflow-checks"
triple=x86_64-unknown-linux-gnu
cargo +nightly build --quiet --release --target $triple
bin=${CARGO_TARGET_DIR:-target}/$triple/release
for target in $targets; do
  mkdir -p corpus/$target artifacts/$target
  # A watched thread that is still ending would be told as a leak. A picture may take memory; the instrumented program is slow, and a
  # busy machine slower: no input may take two minutes. Files go where there is no disk.
  TMPDIR=/dev/shm "$bin/$target" corpus/$target seeds/$target -max_total_time="$seconds" -timeout=120 -rss_limit_mb=6000 \
    -max_len=16384 -artifact_prefix=artifacts/$target/ -print_final_stats=1 -detect_leaks=0 >"corpus/$target.log" 2>&1 || echo "$target: stopped"
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "corpus/$target.log")
  seen=$(grep -o 'cov: [0-9]* ft: [0-9]*' "corpus/$target.log" | tail -1)
  echo "$target: $runs executions, $seen, $(ls artifacts/$target | wc -l) artifacts"
done
