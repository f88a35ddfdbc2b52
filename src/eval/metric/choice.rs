//! Multiple choice: which option an answer names, by the rules with which the kits read answers without a judge model.

use super::kit::Kit;
use super::python::{is_space, split, strip};

/// Letter and text of each option.
pub type Options = [(char, String)];

/// The letter that an answer names. lmms-eval: MMBench's `static` evaluation; VLMEvalKit: `exact_matching`.
pub fn chosen(answer: &str, options: &Options, kit: Kit) -> Option<char> {
    match kit {
        Kit::LmmsEval => {
            let answer = strip(answer);
            // MMBench has the letters A to E; texts are compared for A to D.
            standing(answer).or_else(|| named(answer, options)).or_else(|| marked(answer, options))
        }
        Kit::VlmEvalKit => letter(answer, options).unwrap_or_else(|| {
            let length: usize = options.iter().map(|(_, text)| text.chars().count()).sum();
            if answer.to_lowercase().chars().count() > 2 * length { None } else { named(answer, options) }
        }),
    }
}

/// The only option whose text stands in the answer.
fn named(answer: &str, options: &Options) -> Option<char> {
    let answer = answer.to_lowercase();
    let mut found = options.iter().filter(|(_, text)| answer.contains(&text.to_lowercase()));
    found.next().filter(|_| found.next().is_none()).map(|(letter, _)| *letter)
}

/// The only letter of A to E that is a word, alone or with one kind of punctuation.
fn standing(answer: &str) -> Option<char> {
    let words: Vec<&str> = split(answer).collect();
    let only = |before: &str, after: &str| {
        let mut found = ('A'..='E').filter(|c| words.contains(&format!("{before}{c}{after}").as_str()));
        found.next().filter(|_| found.next().is_none())
    };
    let quantifier = words.contains(&"A") && words.len() > 3;
    let around = [
        ("", "."),
        ("", ","),
        ("", ":"),
        ("", ")"),
        ("", ")."),
        ("(", ")"),
        ("(", ")."),
        (":", ""),
        (":", ","),
        (":", "."),
        (":", ")"),
        (":", ")."),
    ];
    let alone = only("", "").filter(|_| !quantifier);
    alone.or_else(|| around.into_iter().find_map(|(before, after)| only(before, after)))
}

/// What lmms-eval takes for the start of a decision.
const PHRASES: [&str; 27] = [
    "the answer is",
    "answer is",
    "the correct answer is",
    "correct answer is",
    "the best answer is",
    "best answer is",
    "the correct option is",
    "correct option is",
    "the best option is",
    "best option is",
    "the choice is",
    "choice is",
    "the correct choice is",
    "correct choice is",
    "i choose",
    "i select",
    "i pick",
    "my answer is",
    "my choice is",
    "옵션",
    "정답은",
    "답은",
    "답:",
    "答案是",
    "答案为",
    "选",
    "答えは",
];

/// The letter with the best mark around it: at the start, at the end, after a phrase, in parentheses, before a period, a
/// colon, a parenthesis or a space, anywhere; of equals, the last.
fn marked(answer: &str, options: &Options) -> Option<char> {
    let mut bare = strip(answer);
    for c in [',', '.', '!', '?', ';', ':', '\'', '"'] {
        bare = bare.trim_matches(c);
    }
    let text: Vec<char> = format!(" {bare} ").chars().collect();
    let lower: Vec<char> = format!(" {bare} ").to_lowercase().chars().collect();
    let find = |what: &str, from: usize| first(&text, what, from);
    let last = |what: &str| {
        let length = what.chars().count();
        (0..(text.len() + 1).saturating_sub(length))
            .rev()
            .find(|&i| text[i..i + length].iter().copied().eq(what.chars()))
    };
    let stripped: Vec<char> = strip(bare).chars().collect();
    let is_letter = |c: Option<&char>| c.is_some_and(|c| c.is_alphabetic());
    // (priority, place, letter)
    let mut best: Option<(u8, usize, char)> = None;
    let mut offer = |priority: u8, place: Option<usize>, c: char| {
        if let Some(place) = place.filter(|place| best.is_none_or(|(p, at, _)| (priority, *place) > (p, at))) {
            best = Some((priority, place, c));
        }
    };
    let marks: [(u8, &str, &str); 5] = [(6, "(", ")"), (5, "", "."), (4, "", ":"), (3, "", ")"), (2, "", " ")];
    for (priority, before, after) in marks {
        options.iter().for_each(|&(c, _)| offer(priority, last(&format!("{before}{c}{after}")), c));
    }
    for phrase in PHRASES {
        if let Some(at) = first(&lower, phrase, 0) {
            options.iter().for_each(|&(c, _)| offer(7, find(&c.to_string(), at + phrase.chars().count()), c));
        }
    }
    for &(c, _) in options {
        let (starts, ends) = (stripped.first() == Some(&c), stripped.last() == Some(&c));
        let before = stripped.len().checked_sub(2).and_then(|i| stripped.get(i));
        offer(10, (starts && !is_letter(stripped.get(1))).then_some(0), c);
        offer(9, (ends && !is_letter(before)).then_some(text.len() - 1), c);
    }
    if best.is_none() {
        let anywhere = options.iter().filter_map(|&(c, _)| last(&c.to_string()).map(|place| (place, c)));
        return anywhere.max_by_key(|(place, _)| *place).map(|(_, c)| c);
    }
    best.map(|(_, _, c)| c)
}

/// The first place of a text, from a place on.
fn first(text: &[char], what: &str, from: usize) -> Option<usize> {
    let what: Vec<char> = what.chars().collect();
    (from..(text.len() + 1).saturating_sub(what.len())).find(|&i| text[i..].starts_with(&what))
}

/// Sentences with which models of an API refuse.
const REFUSALS: [&str; 4] = [
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
];

/// VLMEvalKit's search for a letter: none if texts decide, some(none) if the answer names no option at all.
fn letter(answer: &str, options: &Options) -> Option<Option<char>> {
    if answer.contains("Failed to obtain answer via API") {
        return None;
    }
    if REFUSALS.iter().any(|refusal| answer.contains(refusal)) {
        return Some(None);
    }
    let plain = answer.replace(|c| ".()[],:;!*#{}".contains(c), " ");
    let words: Vec<&str> = split(&plain).collect();
    let place = |c: char| words.iter().position(|w| w.chars().eq([c]));
    let found: Vec<(char, usize)> = options.iter().filter_map(|&(c, _)| Some((c, place(c)?))).collect();
    match found[..] {
        // A letter near the end.
        [(c, at)] if at + 5 > words.len() => return Some(Some(c)),
        [] if place('Z').is_some() => return Some(None),
        _ => {}
    }
    let c = after_answer_is(answer)?;
    options.iter().any(|(letter, _)| *letter == c).then_some(Some(c))
}

/// The letter of the first `answer is X`, X one of A to D in any case, asterisks before it allowed.
fn after_answer_is(answer: &str) -> Option<char> {
    let text: Vec<char> = answer.chars().collect();
    let word = |at: usize, word: &str| {
        let same = |(i, want): (usize, char)| {
            text.get(at + i).is_some_and(|&c| {
                c.eq_ignore_ascii_case(&want) || (c == 'ſ' && want == 's') || ("İı".contains(c) && want == 'i')
            })
        };
        word.chars().enumerate().all(same).then(|| at + word.len())
    };
    let spaces = |at: usize| {
        let end = at + text[at..].iter().take_while(|c| is_space(**c)).count();
        (end > at).then_some(end)
    };
    (0..text.len()).find_map(|at| {
        let at = spaces(word(spaces(word(at, "answer")?)?, "is")?)?;
        let at = at + text[at..].iter().take_while(|c| **c == '*').count();
        text.get(at).map(char::to_ascii_uppercase).filter(|c| ('A'..='D').contains(c))
    })
}
