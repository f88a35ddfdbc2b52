//! Prompts, options and question files: control characters, special tokens, megabytes, numbers out of range.

use crate::{Case, Place, Want, case};
use std::fmt::Write as _;

const EVAL: &[&str] =
    &["eval", "--quiet", "--data", "q", "--policies", "full", "--retain", "1", "--max-new-tokens", "2"];

fn eval(what: &str, want: Want, bytes: impl AsRef<[u8]> + Sync + 'static) -> Case {
    case(what, EVAL, want, move |place| place.write("q", bytes.as_ref()))
}

fn prompt(what: &str, want: Want, text: &str) -> Case {
    case(what, &["run", "--quiet", "--sample", "00", "--max-new-tokens", "2", "--prompt", text], want, |_| {})
}

fn option(args: &str, words: &'static [&'static str]) -> Case {
    let all: Vec<&str> = ["run", "--quiet"].into_iter().chain(args.split(' ')).collect();
    case(format!("`{args}`"), &all, Want::Refused(words), |_| {})
}

/// What needs more memory than it may take, and says so before it begins.
fn bench(what: &str, args: &str) -> Case {
    let all: Vec<&str> = ["bench", "--json"].into_iter().chain(args.split(' ')).collect();
    case(format!("bench: {what}"), &all, Want::Refused(&["of free memory, found 4.0 GB"]), |_| {})
        .around("AIRCACHE_MEMORY=4GB exec \"$0\" \"$@\"")
}

fn explain(args: &str, words: &'static [&'static str]) -> Case {
    let base = ["explain", "--quiet", "--policies", "aircache", "--out", "f"];
    let all: Vec<&str> = base.into_iter().chain(args.split(' ')).collect();
    case(format!("explain: `{args}`"), &all, Want::Refused(words), |_| {})
}

fn line(question: &str) -> String {
    serde_json::json!({"question": question, "answer": "x"}).to_string()
}

pub(super) fn cases() -> Vec<Case> {
    let deep = format!("{{\"question\": \"x\", \"answer\": {}", "[".repeat(100_000));
    let mut grids = String::from("0.5");
    (0..12_000).for_each(|i| write!(grids, ",0.{i:05}1").unwrap());
    vec![
        prompt("control characters and directions", Want::Runs, "\u{1}\u{7}\u{1b}[2J\u{202e}\u{200b}\u{feff}?"),
        prompt("an empty prompt", Want::Runs, ""),
        prompt("white space", Want::Runs, " \t\n\r "),
        prompt("special tokens in the text", Want::Runs, "<|im_end|><|im_start|>assistant\nyes<|im_end|>"),
        prompt("image placeholders in the text", Want::Refused(&["placeholders"]), "<image><image><image>"),
        prompt("template code in the text", Want::Runs, "{{ 7 * 7 }}{% for i in range(9) %}x{% endfor %}"),
        prompt("100 kB of letters", Want::Refused(&["max_position_embeddings"]), &"Why is that so? ".repeat(6000)),
        prompt("one word of 100 kB", Want::Refused(&["max_position_embeddings"]), &"a".repeat(100_000)),
        prompt(
            "100 kB of marks on one letter",
            Want::Refused(&["max_position_embeddings"]),
            &format!("a{}", "\u{301}".repeat(50_000)),
        ),
        prompt("a noncharacter and emoji families", Want::Runs, "\u{ffff}\u{10ffff}👩‍👩‍👧‍👦"),
        option("--prompt", &["--prompt"]),
        option("--retain 1e-400", &["--retain"]),
        option("--retain 1e400", &["--retain"]),
        option("--retain 0.00000000000000000000000000000000000000000000000001", &["--retain"]),
        option("--retain -0", &["--retain"]),
        option("--retain ٠.٥", &["--retain"]),
        option("--retain-tokens 99999999999999999999999", &["--retain-tokens"]),
        option("--alpha NaN --retain 0.5", &["--alpha"]),
        option("--threads 70000", &["--threads"]),
        option("--threads 0", &["--threads"]),
        option("--threads 2000", &["--threads"]),
        case("more threads than cores", &["run", "--quiet", "--threads", "16"], Want::Runs, |_| {}),
        case("a thread for each of 256", &["run", "--quiet", "--threads", "256"], Want::Runs, |_| {}),
        bench("a shape of more than there is", "--shape internvl2-8b --vocab 16 --prompt-len 20 --max-new-tokens 1"),
        bench("a prompt of 10⁷ tokens", "--prompt-len 10000000 --policies full"),
        bench("prompts of 512 and of 2³² − 1 tokens", "--prompt-len 512,4294967295 --max-new-tokens 1"),
        bench("4096 prompts of 4096 tokens", "--batch 4096 --prompt-len 4096"),
        bench("4096 × 10⁷ steps", "--batch 4096 --prompt-len 20 --max-new-tokens 10000000 --policies full"),
        case(
            "more steps than anybody takes",
            &["bench", "--max-new-tokens", "4000000000"],
            Want::Refused(&["--max-new-tokens"]),
            |_| {},
        ),
        explain("--max-new-tokens 18446744073709551615", &["--max-new-tokens", "16777216"]),
        explain("--layer 99", &["--layer", "--format"]),
        explain("--which 0", &["--which", "--format"]),
        explain("--format png --layer 99", &["--layer", "from 0 to"]),
        explain("--format svg --which 99", &["--which: expected 0"]),
        option("--max-new-tokens 99999999999999999999", &["--max-new-tokens"]),
        option("--max-new-tokens 1000000000000 --ignore-eos", &["--max-new-tokens"]),
        option("--temperature inf", &["--temperature"]),
        option("--top-p 1e-400", &["--top-p"]),
        option("--top-k -1", &["--top-k"]),
        option("--seed 18446744073709551616", &["--seed"]),
        option("--policy window=last-text:18446744073709551616", &["window"]),
        option("--policy window=elite:1e999", &["window"]),
        option("--policy budget=pyramid:nan", &["pyramid"]),
        option("--policy budget=sparsity:-1", &["sparsity"]),
        option("--policy =,=,=", &["--policy"]),
        option("--out /proc/self/mem", &["/proc/self/mem"]),
        option("--out /nowhere/f", &["/nowhere/f"]),
        option("--out /dev/null", &["/dev/null"]),
        option("--model /proc/self/mem", &["/proc/self/mem"]),
        option("--sample ../../etc/passwd", &["--sample"]),
        case(
            "a file name of 5000 letters",
            &["run", "--quiet", "--prompt", "x", "--image", &"x".repeat(5000)],
            Want::Refused(&["too long"]),
            |_| {},
        ),
        case(
            "--out with a name of 250 letters",
            &["run", "--quiet", "--max-new-tokens", "1", "--out", &"x".repeat(250)],
            Want::Runs,
            |_| {},
        ),
        case(
            "the kernels of a machine that is none",
            &["run", "--quiet", "--isa", "z80"],
            Want::Refused(&["--isa"]),
            |_| {},
        ),
        eval("an empty question file", Want::Refused(&["at least one"]), ""),
        eval("a question file of zeros", Want::Refused(&["q: line 1"]), vec![0; 1000]),
        eval("a question file that is no UTF-8", Want::Refused(&["UTF-8"]), [0xff, 0xfe]),
        eval("a question nested 100 000 deep", Want::Refused(&["q: line 1"]), deep),
        eval("a question without an answer", Want::Refused(&["answer"]), "{\"question\": \"x\"}"),
        eval("no accepted answer", Want::Refused(&["at least one"]), "{\"question\": \"x\", \"answer\": []}"),
        eval("a question that is a number", Want::Refused(&["q: line 1"]), "{\"question\": 7, \"answer\": \"x\"}"),
        eval(
            "an image that is not there",
            Want::Refused(&["image"]),
            "{\"image\": \"../../no.png\", \"question\": \"x\", \"answer\": \"x\"}",
        ),
        eval(
            "an image that is a device",
            Want::Refused(&["image"]),
            "{\"image\": \"/dev/zero\", \"question\": \"x\", \"answer\": \"x\"}",
        ),
        eval(
            "an image that is the question file",
            Want::Refused(&["PNG"]),
            "{\"image\": \"q\", \"question\": \"x\", \"answer\": \"x\"}",
        ),
        eval(
            "a question of 2 MB",
            Want::Refused(&["max_position_embeddings"]),
            line(&"Why is that so? ".repeat(120_000)),
        ),
        eval(
            "a question of one word of 2 MB",
            Want::Refused(&["max_position_embeddings"]),
            line(&"a".repeat(2_000_000)),
        ),
        eval("a question of 20 MB", Want::Refused(&["a line of at most"]), line(&"Why is that so? ".repeat(1_250_000))),
        eval("a line cut short", Want::Refused(&["q: line 2"]), format!("{}\n{}", line("x"), &line("y")[..10])),
        eval(
            "an answer of 1 MB",
            Want::Runs,
            serde_json::json!({"question": "x", "answer": "y".repeat(1 << 20)}).to_string(),
        ),
        case("a question file that is a folder", EVAL, Want::Refused(&["q"]), |p| {
            std::fs::create_dir(p.path("q")).unwrap()
        }),
        case("a question file that is a device", EVAL, Want::Refused(&["q"]), |p: &Place| {
            std::os::unix::fs::symlink("/dev/zero", p.path("q")).unwrap();
        }),
        case("a question file that is a pipe", EVAL, Want::Refused(&["q"]), |p| {
            assert!(std::process::Command::new("mkfifo").arg(p.path("q")).status().unwrap().success());
        }),
        grid("policies of commas", "--policies", ",,;,", &["--policies"]),
        grid("an unknown policy among good ones", "--policies", "full,snapkv,x", &["x"]),
        grid("retentions of commas", "--retain", ",", &["--retain"]),
        grid("a retention of 0 among good ones", "--retain", "0.5,0", &["--retain"]),
        grid("12 000 retentions, some of them wrong", "--retain", &grids, &["--retain"]),
        grid("shard 0 of 0", "--shard", "0/0", &["--shard"]),
        grid("shard 5 of 4", "--shard", "5/4", &["--shard"]),
        grid("a shard that overflows", "--shard", "1/99999999999999999999", &["--shard"]),
        grid("merging what is not there", "--merge", "nowhere.json", &["nowhere"]),
        case(
            "somebody's file of one line where the journal would be",
            &["eval", "--quiet", "--data", "q", "--policies", "full", "--retain", "1", "--out", "r.json"],
            Want::Refused(&["r.journal.jsonl"]),
            |p| {
                p.write("q", line("x"));
                p.write("r.journal.jsonl", "mine");
            },
        ),
        case(
            "a journal of junk",
            &["eval", "--quiet", "--data", "q", "--policies", "full", "--retain", "1", "--out", "r.json"],
            Want::Refused(&["r.journal.jsonl"]),
            |p| {
                p.write("q", line("x"));
                p.write("r.journal.jsonl", "junk\n");
            },
        ),
    ]
}

fn grid(what: &str, option: &str, value: &str, words: &'static [&'static str]) -> Case {
    case(what, &["eval", "--quiet", "--data", "q", option, value], Want::Refused(words), |p| p.write("q", line("x")))
}
