//! Short answers: relaxed accuracy (ChartQA), the accepted text within the answer (OCRBench), yes or no (MME).

use super::kit::Kit;
use super::python::{float, split, strip};
use super::vqa::punctuated;

/// ChartQA: a number within 5 % of the accepted number, or a text that is equal without case. `x%` is x / 100.
pub fn relaxed(answer: &str, accepted: &str, kit: Kit) -> bool {
    let answer = if kit == Kit::VlmEvalKit { strip(answer) } else { answer };
    let number = |text: &str| match text.ends_with('%') {
        true => float(text.trim_end_matches('%')).map(|x| x / 100.0),
        false => float(text),
    };
    match (number(answer), number(accepted)) {
        (Some(x), Some(y)) if y != 0.0 => (x - y).abs() / y.abs() <= 0.05,
        _ => answer.to_lowercase() == accepted.to_lowercase(),
    }
}

/// The kind of OCRBench whose texts are compared with case, and without spaces.
const FORMULAS: &str = "Handwritten Mathematical Expression Recognition";

/// OCRBench: the accepted text stands in the answer.
pub fn contains(answer: &str, accepted: &str, kind: Option<&str>, kit: Kit) -> bool {
    let plain = |text: &str| {
        if kind == Some(FORMULAS) {
            return strip(text).replace(['\n', ' '], "");
        }
        let text = if kit == Kit::LmmsEval { narrow(text) } else { text.to_string() };
        strip(&text.to_lowercase()).replace('\n', " ")
    };
    // lmms-eval strips an answer before it narrows its characters.
    let answer = if kit == Kit::LmmsEval { strip(answer) } else { answer };
    plain(answer).contains(&plain(accepted))
}

/// Characters of full width in the width of ASCII.
fn narrow(text: &str) -> String {
    let narrow = |c: char| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        _ => c,
    };
    text.chars().map(narrow).collect()
}

/// MME: the answer says yes or no, as the accepted answer does.
pub fn yes_no(answer: &str, accepted: &str, kit: Kit) -> bool {
    let plain = |text: &str| strip(&text.to_lowercase()).replace('.', "");
    let said = match kit {
        Kit::LmmsEval => {
            let text = plain(answer);
            let start: String = text.chars().take(4).collect();
            match start.as_str() {
                "y" => Some("yes"),
                "n" => Some("no"),
                _ if start.contains("yes") => Some("yes"),
                _ if start.contains("no") => Some("no"),
                _ => None,
            }
        }
        Kit::VlmEvalKit => {
            let text = punctuated(&answer.to_lowercase(), kit);
            let has = |word: &str| split(&text).any(|w| w == word);
            [("yes", "no"), ("no", "yes")].into_iter().find(|&(one, other)| has(one) && !has(other)).map(|(one, _)| one)
        }
    };
    said == Some(plain(accepted).as_str())
}
