//! The accuracy of VQA and TextVQA: answers are normalised, and each is compared with those of the other annotators.
//!
//! The kits share the rules of the VQA challenge and its slips: the periods rule reads "not followed by a digit" in lmms-eval,
//! and both remove only the first 32 periods, because the flag `re.UNICODE` stands where `re.sub` takes a count.

use super::kit::Kit;
use super::python::{digit, split, strip, without};

/// Punctuation, which is removed beside a space or in a text with a number such as `1,000`; elsewhere it becomes a space.
const PUNCTUATION: &str = ";/[]\"{}()=+\\_-><@`,?!";
/// `re.UNICODE` as a count.
const MOST_PERIODS: usize = 32;
const NUMBERS: [&str; 11] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
const ARTICLES: [&str; 3] = ["a", "an", "the"];
/// A word that lacks one apostrophe of these gets it back.
const CONTRACTIONS: &str = "'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't \
    hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't \
    mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've \
    somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've \
    something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've wasn't we'd've \
    we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've \
    why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're \
    you've";

/// The mean, over the accepted answers, of min(1, equal answers among the others / 3).
pub fn score(answer: &str, accepted: &[String], kit: Kit) -> f64 {
    let answer = normalised(answer, kit);
    let equal: Vec<bool> = accepted.iter().map(|a| normalised(a, kit) == answer).collect();
    let all = equal.iter().filter(|e| **e).count();
    let thirds: usize = equal.iter().map(|own| (all - usize::from(*own)).min(3)).sum();
    if equal.is_empty() { 0.0 } else { thirds as f64 / (3 * equal.len()) as f64 }
}

fn normalised(text: &str, kit: Kit) -> String {
    let text = match kit {
        Kit::LmmsEval => text.to_lowercase().replace([',', '?'], "").replace("'s", " 's"),
        Kit::VlmEvalKit => text.to_string(),
    };
    let text = strip(&text).replace(['\n', '\t'], " ");
    words(&punctuated(strip(&text), kit))
}

/// The text without punctuation and periods.
pub fn punctuated(text: &str, kit: Kit) -> String {
    let chars: Vec<char> = text.chars().collect();
    let thousands = |w: &[char]| digit(w[0]).is_some() && w[1] == ',' && digit(w[2]).is_some();
    let number = chars.windows(3).any(thousands);
    let beside = |p: char| chars.windows(2).any(|w| w == [p, ' '] || w == [' ', p]);
    let goes: String = PUNCTUATION.chars().filter(|&p| number || beside(p)).collect();
    let plain = |c: char| if PUNCTUATION.contains(c) { ' ' } else { c };
    let text: String = chars.iter().filter(|c| !goes.contains(**c)).map(|&c| plain(c)).collect();
    without(&text, MOST_PERIODS, |text, i| {
        let is_digit = |i: Option<usize>| i.and_then(|i| text.get(i)).is_some_and(|&c| digit(c).is_some());
        text[i] == '.' && !is_digit(Some(i + 1)) && (kit == Kit::LmmsEval || !is_digit(i.checked_sub(1)))
    })
}

/// Numbers as digits, no articles, apostrophes where contractions have them.
fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    let digits = |word: &str| match word {
        "none" => "0".into(),
        _ => NUMBERS.iter().position(|n| *n == word).map_or_else(|| word.to_string(), |n| n.to_string()),
    };
    let kept = split(&lower).map(digits).filter(|word| !ARTICLES.contains(&word.as_str()));
    kept.map(contracted).collect::<Vec<_>>().join(" ")
}

fn contracted(word: String) -> String {
    if word == "somebody'd" {
        return "somebodyd".into();
    }
    let lacks_one = |form: &&str| {
        form.len() == word.len() + 1
            && form.match_indices('\'').any(|(i, _)| word == [&form[..i], &form[i + 1..]].concat())
    };
    CONTRACTIONS.split(' ').find(lacks_one).map_or(word.clone(), str::to_string)
}
