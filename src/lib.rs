//! A reference for large vision-language models on the CPU: the full forward pass, and AirCache, which evicts most
//! visual entries from the KV cache after prefill ([arXiv 2503.23956](https://arxiv.org/abs/2503.23956)).
//!
//! A *reference* has three properties. Every number has one definition with a label in `spec/`. The code uses the same
//! symbols as the definition and cites its label. Every sum has a fixed order, so the same inputs give the same bits
//! for any number of threads, any batch and any instruction set. A run in float64 is the truth for checks of kernels. A
//! run in float32 answers questions about pictures. A run in bf16 or f16 rounds at the places where a GPU stores, so it
//! computes the results of a correct GPU implementation.
//!
//! The library is *not* a serving engine: it has no scheduler, no paged cache, no quantisation and no GPU code. It does
//! not train. It supports a fixed set of architectures; if a checkpoint asks for something else, the library refuses it
//! and names the field.
//!
//! # The flow, one type per arrow
//!
//! ```text
//! images + prompt ─processor→ Prepared ─vision→ features ─projector→ visual rows ─merge→ embeddings
//!   ─prefill→ Sequence {cache, observer, logits} ─policy→ Plan ─compact→ Cache ─step*→ ids ─decode→ text
//! ```
//!
//! [`generate`] is this diagram as code, on one screen.
//!
//! # Reading a picture
//!
//! The demo model, a LLaVA-OneVision of 3.7 million parameters, is compiled into the library. To use a checkpoint
//! folder from the Hugging Face hub, replace the demo's files by [`files::Files::Folder`].
//!
//! ```
//! # #[cfg(feature = "input")] {
//! use aircache::generate::{self, Until};
//! use aircache::input::Image;
//! use aircache::sample::{Sampler, Sampling};
//! use aircache::{demo, model::Model, num::Grid, pass::Pass, policy::Policy, processor::Processor};
//! use std::ops::ControlFlow;
//!
//! let model = Model::load(&demo::files())?;
//! let processor = Processor::load(&demo::files(), &model.config)?;
//! let asked = &demo::questions()[0];
//! let picture = demo::sample(asked.sample()).expect("bundled");
//! let image = Image::from_bytes(picture.png, picture.name)?;
//! let prompt = processor.prepare(&[image], &asked.question, asked.system.as_deref())?;
//!
//! let mut pass = Pass::<f32>::new(Grid::Native); // f64 for truth, a grid for bf16 or f16
//! let mut sequence = generate::prefill(&model, &mut pass, &prompt, &[Policy::AIRCACHE])?;
//! let plan = sequence.plan(&Policy::AIRCACHE, "0.5".parse()?)?; // half of the visual entries
//! sequence.evict(&plan, Grid::Native); // the others' memory is given back here
//!
//! let until = Until { stop: model.generation.eos.clone(), max_new_tokens: 32 };
//! let mut greedy = Sampler::new(Sampling::Greedy)?;
//! let each = |_| ControlFlow::Continue(()); // sees every token as it comes
//! let ids = generate::decode(&model, &mut pass, &mut sequence, &mut greedy, &until, each)?;
//! println!("{}", processor.tokenizer().decode(&ids)?);
//! # }
//! # Ok::<(), aircache::Error>(())
//! ```
//!
//! # AirCache without a model
//!
//! [`policy::compress`] takes queries, keys and roles from any source and returns the rows that stay. A policy is a
//! plain value with these parts: the queries that vote, the rule that turns votes into scores, the rule that divides
//! the total among layers, and the rows that are always kept.
//!
//! ```
//! use aircache::policy::{Observed, Policy, compress};
//! use aircache::{Role, Roles};
//! use ndarray::Array3;
//!
//! // A prompt of text, two visual tokens, text; one layer, one head of size 1. The last row asks for 1.
//! let roles = Roles(vec![Role::Text, Role::Visual, Role::Visual, Role::Text]);
//! let q = Array3::from_shape_vec((1, 1, 1), vec![1.0])?; // [H, rows, d_h]
//! let k = Array3::from_shape_vec((1, 4, 1), vec![0.0, 0.0, 1.0, 0.0])?; // [G, n, d_h]
//! let seen = Observed { q: q.view(), rows: &[3], k: k.view(), received: None, v: None, future: None };
//! let plan = compress(&Policy::AIRCACHE, "0.5".parse()?, &[seen], &roles)?;
//! assert_eq!(plan.kept, [[[0, 2, 3]]]); // layer, KV head: text, and the visual token that was asked for
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A kernel by itself
//!
//! Kernels are functions of arrays, generic over `f32` and `f64` ([`num::Real`]). Each kernel has a twin in
//! [`kernel::naive`]. The twin computes one number after the other and gives the same bits as the kernel.
//!
//! ```
//! use aircache::kernel::{MatrixView, linear, naive};
//! use ndarray::array;
//!
//! let x = array![[1.0f32, 2.0], [0.0, 1.0]];
//! let y = linear(x.view(), MatrixView::f32(&[3.0, 4.0, 5.0, 6.0], 2, 2), Some(&[0.5, -1.0]));
//! assert_eq!(y, array![[11.5, 16.0], [4.5, 5.0]]);
//! let w = array![[3.0, 4.0], [5.0, 6.0]];
//! assert_eq!(y, naive::linear(x.view(), w.view(), Some(&[0.5, -1.0])));
//! ```
//!
//! # Modules, in layer order
//!
//! A module may import from the rows above its own row in this table, and from modules that stand before it in its own
//! row. It never imports from the rows below. `tests/house/layers.rs` reads the table and checks every import.
//!
//! | layer | modules | contents |
//! |---|---|---|
//! | 0 | `error` `foreign` `roles` `num` `files` `config` | numbers; sum order; files; prompt rows; configurations |
//! | 1 | `kernel` | arithmetic on arrays, independent of models |
//! | 2 | `stage` `pass` `weights` `input` | stages; rounding and watching; mapped checkpoints; pixels, ids, roles |
//! | 3 | `layer` | weights joined to kernels |
//! | 4 | `cache` `policy` `vision` `sample` | parts of the flow that are independent of each other |
//! | 5 | `decoder` `family` | the language model; model families, one folder for each |
//! | 6 | `processor` `model` | preparation of prompts; the model |
//! | 7 | `generate` | the whole flow |
//! | 8 | `demo` `golden` `report` `eval` `explain` `selftest` `analyze` | applications of the flow |
//! | 9 | `cli` | the binary |
//!
//! Symbols and their places in the code: `spec/01-symbols.md` (T1.1). Introduction to the specification:
//! `spec/00-reading.md`.

#[cfg(feature = "lapack")]
pub mod analyze;
pub mod cache;
pub mod config;
pub mod decoder;
pub mod demo;
pub mod error;
#[cfg(feature = "input")]
pub mod eval;
#[cfg(feature = "input")]
pub mod explain;
pub mod family;
pub mod files;
#[cfg(feature = "input")]
pub mod foreign;
pub mod generate;
pub mod golden;
pub mod input;
pub mod kernel;
pub mod layer;
pub mod model;
pub mod num;
pub mod pass;
pub mod policy;
pub mod processor;
pub mod report;
pub mod roles;
pub mod sample;
#[cfg(feature = "input")]
pub mod selftest;
pub mod stage;
pub mod vision;
pub mod weights;

pub use error::{Error, Result};
pub use roles::{Role, Roles};

/// The examples of the README and of the book are tests.
#[cfg(all(doctest, feature = "input"))]
mod book {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/aircache.md")]
    struct Aircache;
    #[doc = include_str!("../docs/library.md")]
    struct Library;
}
