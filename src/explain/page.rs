//! The page: words and answers as HTML that needs no script, and pictures that a script draws from embedded data.

use super::Explained;
use super::overlay::embedded;
use crate::error::Result;
use crate::report::{escape, fill};
use std::fmt::Write;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

impl Explained {
    /// The page: one HTML file that loads no other file.
    ///
    /// # Errors
    /// An image cannot be encoded.
    pub fn page(&self) -> Result<String> {
        let mut images = String::new();
        let film = self.prompt.images.iter().any(|image| image.packing.moment.is_some());
        let kind = if film { "frame" } else { "image" };
        for (i, image) in self.images.iter().enumerate() {
            let (height, width) = image.size();
            let _ = write!(
                images,
                "<figure class=\"image\" data-image=\"{i}\" style=\"aspect-ratio:{width}/{height}\"><img alt=\"{kind} {}: {}\" \
                 src=\"{}\"><canvas></canvas></figure>",
                i + 1,
                escape(image.label()),
                embedded(image)?
            );
        }
        let (rows, visual) = (self.prompt.ids.len(), self.prompt.roles.visual().len());
        let data = self.json().to_string().replace("</", "<\\/");
        let filled = [
            ("@STYLE@", STYLE.to_string()),
            ("@QUESTION@", escape(&self.question)),
            ("@MODEL@", escape(&self.model)),
            ("@ROWS@", rows.to_string()),
            ("@VISUAL@", visual.to_string()),
            ("@ANSWERS@", answers(self)),
            ("@IMAGES@", images),
            ("@DATA@", data),
            ("@SCRIPT@", SCRIPT.to_string()),
        ];
        Ok(fill(PAGE, &filled))
    }
}

/// The answers, one row for each; the answer of the full cache comes first.
fn answers(explained: &Explained) -> String {
    let full = escape(explained.full.trim());
    let mut rows =
        format!("<tr class=\"full\"><th>full cache</th><td>100 %</td><td class=\"answer\">{full}</td><td></td></tr>");
    for (i, told) in explained.told.iter().enumerate() {
        let (kept, all) = entries(explained, i);
        let share = 100.0 * kept / all.max(1.0);
        let same = if told.answer == explained.full { "same" } else { "differs" };
        let _ = write!(
            rows,
            "<tr data-policy=\"{i}\"><th>{}</th><td>{share:.1} %</td><td class=\"answer\">{}</td><td class=\"{same}\">{same}</td></tr>",
            escape(&told.cell.name),
            escape(told.answer.trim())
        );
    }
    rows
}

/// The kept visual entries and all visual entries, over all layers; an entry in one of G heads counts as 1/G.
fn entries(explained: &Explained, told: usize) -> (f64, f64) {
    let kept = explained.kept(&explained.told[told]);
    (kept.sum(), kept.len() as f64)
}
