//! candle's Qwen2 over a checkpoint of the language model alone: `candle-peer DIR PROMPT_LEN STEPS`, one line of JSON. Prefill is one
//! forward pass, decode the median step. f32, as candle multiplies nothing else on the CPU at speed.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::qwen2::{Config, ModelForCausalLM};
use std::time::Instant;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, folder, prompt, steps] = &args[..] else { candle_core::bail!("usage: candle-peer DIR PROMPT_LEN STEPS") };
    let number = |text: &str| text.parse::<usize>().map_err(candle_core::Error::wrap);
    let (prompt, steps) = (number(prompt)?, number(steps)?);

    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(format!("{folder}/config.json"))?).map_err(candle_core::Error::wrap)?;
    let field = |name: &str| config[name].as_u64().unwrap_or_default() as usize;
    let config = Config {
        vocab_size: field("vocab_size"),
        hidden_size: field("hidden_size"),
        intermediate_size: field("intermediate_size"),
        num_hidden_layers: field("num_hidden_layers"),
        num_attention_heads: field("num_attention_heads"),
        num_key_value_heads: field("num_key_value_heads"),
        max_position_embeddings: prompt + steps + 2,
        sliding_window: prompt + steps + 2,
        max_window_layers: field("num_hidden_layers"),
        tie_word_embeddings: config["tie_word_embeddings"].as_bool().unwrap_or(false),
        rope_theta: 1e4,
        rms_norm_eps: 1e-6,
        use_sliding_window: false,
        hidden_act: candle_nn::Activation::Silu,
    };
    let tensors = candle_core::safetensors::load(format!("{folder}/model.safetensors"), &Device::Cpu)?;
    let vocab = config.vocab_size as u32;
    let mut model = ModelForCausalLM::new(&config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))?;

    let ids: Vec<u32> = (0..prompt as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocab).collect();
    let start = Instant::now();
    model.forward(&Tensor::new(&ids[..], &Device::Cpu)?.unsqueeze(0)?, 0)?;
    let prefill = start.elapsed().as_secs_f64();
    let mut times = Vec::new();
    for step in 0..=steps {
        let start = Instant::now();
        model.forward(&Tensor::new(&ids[..1], &Device::Cpu)?.unsqueeze(0)?, prompt + step)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.remove(0);
    times.sort_by(f64::total_cmp);
    let (rate, middle) = (prompt as f64 / prefill, times[times.len() / 2]);
    println!("{}", serde_json::json!({ "prefill_tokens_s": rate, "decode_ms": middle }));
    Ok(())
}
