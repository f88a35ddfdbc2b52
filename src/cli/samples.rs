//! The bundled images: listed with their questions, or written to a folder.

use super::out::Stdout;
use super::{Common, Verdict, output};
use aircache::input::Image;
use aircache::{Result, demo};
use serde_json::json;
use std::path::Path;

/// Lists the images, their sizes and their questions.
pub fn list(common: &Common) -> Result<Verdict> {
    let mut out = Stdout::new();
    let mut all = Vec::new();
    for sample in demo::samples() {
        let (h, w) = Image::from_bytes(sample.png, sample.name)?.size();
        let asked = || demo::questions().iter().filter(|q| q.sample() == sample.name);
        let visual = asked().next().map_or(0, |q| q.visual_tokens);
        if common.json {
            let questions: Vec<_> = asked()
                .map(|q| json!({"question": q.question, "system": q.system, "answer": q.answer, "kind": q.kind}))
                .collect();
            all.push(json!({
                "name": sample.name, "height": h, "width": w, "visual_tokens": visual, "questions": questions,
            }));
            continue;
        }
        out.line(&format!("{}  {w} × {h} pixels, {visual} visual tokens", sample.name.trim_end_matches(".png")))?;
        for q in asked() {
            let line = format!("    {}   [{}]", q.question, q.answer);
            out.line(&line.replace('\n', " "))?;
        }
    }
    if common.json {
        out.json(&all.into())?;
    }
    Ok(Verdict::Pass)
}

/// Writes the images into a folder, which is made if it is missing.
pub fn save(folder: &Path, common: &Common) -> Result<Verdict> {
    output::write_folder(folder, demo::samples().iter().map(|sample| (sample.name.to_string(), sample.png.into())))?;
    common.messages().say(&format!("{} images in {}", demo::samples().len(), folder.display()));
    Ok(Verdict::Pass)
}
