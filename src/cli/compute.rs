//! Options that say how numbers are computed: `--precision`, `--kv`, `--isa`.

use super::common::PrecisionName;
use aircache::kernel::simd::Isa;
use aircache::kernel::{has_pairs, tiles};
use aircache::model::Model;
use aircache::num::{Grid, Real};
use aircache::pass::{Pass, Precision, Way};
use aircache::{Error, Result};

/// How numbers are computed.
#[derive(Debug, Clone, clap::Args)]
pub struct Compute {
    /// How numbers are computed [default: auto in run; truth in record; fast in bench]
    #[arg(long, value_enum, value_name = "P")]
    precision: Option<PrecisionName>,
    /// The type of keys and values in the cache [default: that of the precision]
    #[arg(long, value_enum, value_name = "TYPE")]
    kv: Option<CacheType>,
    /// The instruction set of the kernels [default: the best that the CPU has]. No result depends on it, except for amx:
    /// it computes linear layers in bf16 on the matrix unit, in the unit's own order
    #[arg(long, value_name = "NAME", value_parser = ["avx512", "avx2", "portable", "amx"])]
    isa: Option<String>,
}

/// The type of a number in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CacheType {
    /// The type of the sums
    F32,
    /// bfloat16
    Bf16,
    /// IEEE half precision
    F16,
}

/// The computation that the options, the checkpoint and this processor lead to.
#[derive(Debug, Clone, Copy)]
pub struct Computing {
    /// The precision.
    pub precision: Precision,
    /// The way of the computation; it uses the matrix unit or not.
    pub way: Way,
    /// The type that the cache stores.
    pub kv: Grid,
    /// Whether `auto` chose the precision.
    pub chosen: bool,
}

impl Compute {
    /// The computation; `default`: the precision if the options name none.
    ///
    /// # Errors
    /// The options exclude each other, or the CPU does not have the instruction set.
    pub fn resolve(&self, default: PrecisionName, model: &Model) -> Result<Computing> {
        self.resolve_for(default, &model.decoder.weights())
    }

    /// Whether the options name this precision.
    pub fn is(&self, precision: PrecisionName) -> bool {
        self.precision == Some(precision)
    }

    /// As [`resolve`](Self::resolve), for weights of a type, which is spelt as in checkpoints.
    pub fn resolve_for(&self, default: PrecisionName, weights: &str) -> Result<Computing> {
        let unit = self.isa.as_deref() == Some("amx");
        if let Some(name) = self.isa.as_deref().filter(|_| !unit) {
            Isa::named(name).and_then(Isa::force).map_err(|e| Error { at: "--isa".into(), ..e })?;
        }
        if unit && !tiles::available() {
            let expected = "a CPU with the matrix unit AMX, and a system that grants it";
            return Err(Error::new("--isa amx", expected, "neither").remedy("leave --isa out"));
        }
        let wanted = self.precision.unwrap_or(default);
        let (precision, tiles) = match wanted.explicit() {
            Some(precision) => (precision, unit),
            None => match weights == "BF16" || unit {
                true if unit || (self.isa.is_none() && tiles::available()) => (Precision::Bf16, true),
                true if has_pairs() => (Precision::Bf16, false),
                _ => (Precision::Fast, false),
            },
        };
        if tiles && precision != Precision::Bf16 {
            return Err(Error::new("--isa amx", "--precision bf16", precision.bundle_name()));
        }
        let kv = match self.kv {
            None | Some(CacheType::F32) => Grid::Native,
            Some(_) if precision == Precision::Truth => {
                return Err(Error::new("--kv", "f32 with --precision truth, whose cache is in float64", "a half type"));
            }
            Some(CacheType::Bf16) => Grid::Bf16,
            Some(CacheType::F16) => Grid::F16,
        };
        Ok(Computing { precision, way: Way { tiles, ..Way::default() }, kv, chosen: wanted.explicit().is_none() })
    }
}

impl Computing {
    /// A pass that computes so.
    pub fn pass<T: Real>(self) -> Pass<'static, T> {
        Pass::new(self.precision.grid()).by(self.way).with_kv(self.kv)
    }

    /// The instruction set in use, `amx` if the matrix unit computes linear layers.
    pub fn isa(self) -> &'static str {
        if self.way.tiles { "amx" } else { Isa::current().name() }
    }

    /// The precision as a result names it, with the matrix unit and the type of the cache where they change bits.
    pub fn name(self) -> String {
        let unit = if self.way.tiles { ", amx" } else { "" };
        let kv = match self.kv {
            Grid::Native => "",
            Grid::Bf16 => ", cache bf16",
            Grid::F16 => ", cache f16",
        };
        format!("{}{unit}{kv}", self.precision.bundle_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(precision: Option<PrecisionName>, isa: Option<&str>, weights: &str) -> Result<Computing> {
        let compute = Compute { precision, kv: None, isa: isa.map(str::to_string) };
        compute.resolve_for(PrecisionName::Auto, weights)
    }

    #[test]
    fn auto_takes_bf16_where_checkpoint_and_processor_have_it() {
        let fast = resolved(None, None, "F32").unwrap();
        assert!(fast.precision == Precision::Fast && fast.chosen && !fast.way.tiles);
        let half = resolved(None, None, "BF16").unwrap();
        let expected = if tiles::available() || has_pairs() { Precision::Bf16 } else { Precision::Fast };
        assert!(half.precision == expected && half.way.tiles == tiles::available());
        let told = resolved(Some(PrecisionName::Fast), None, "BF16").unwrap();
        assert!(told.precision == Precision::Fast && !told.chosen);
    }

    #[test]
    fn the_matrix_unit_computes_bf16_alone() {
        let of = |precision| resolved(Some(precision), Some("amx"), "BF16");
        assert!(of(PrecisionName::Fast).is_err());
        assert_eq!(of(PrecisionName::Bf16).is_ok(), tiles::available());
    }
}
