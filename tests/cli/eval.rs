//! `eval` as its users meet it: killed and resumed, in shards, fed with bad questions.

use crate::common::cli;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

/// A folder with a file of `count` questions on the sample images.
fn questions(count: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo");
    let text = std::fs::read_to_string(source.join("questions.jsonl")).unwrap();
    let lines: Vec<String> = text
        .lines()
        .step_by(19)
        .take(count)
        .map(|line| {
            let mut q: serde_json::Value = serde_json::from_str(line).unwrap();
            q["image"] = source.join(q["image"].as_str().unwrap()).display().to_string().into();
            q.to_string()
        })
        .collect();
    assert_eq!(lines.len(), count);
    let data = folder.path().join("questions.jsonl");
    std::fs::write(&data, lines.join("\n")).unwrap();
    (folder, data)
}

fn command(data: &Path, out: Option<&Path>, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aircache"));
    command.args(["eval", "--policies", "full,aircache,h2o,random", "--retain", "0.3,0.1", "--max-new-tokens", "16"]);
    command.arg("--data").arg(data).args(more);
    if let Some(out) = out {
        command.arg("--out").arg(out);
    }
    command
}

fn eval(data: &Path, out: Option<&Path>, more: &[&str]) -> Output {
    let done = command(data, out, more).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done
}

/// The figures and the plot.
fn written(out: &Path) -> (Vec<u8>, Vec<u8>) {
    (std::fs::read(out).unwrap(), std::fs::read(out.with_extension("svg")).unwrap())
}

#[test]
fn a_run_killed_again_and_again_ends_like_an_undisturbed_one() {
    let (folder, data) = questions(9);
    let whole = folder.path().join("whole.json");
    eval(&data, Some(&whole), &[]);
    let out = folder.path().join("killed.json");
    let kills = cli::killed_until_it_ends(|| command(&data, Some(&out), &[]), Duration::from_millis(100));
    assert_eq!(written(&whole), written(&out), "after {kills} kills");
}

#[test]
fn a_torn_line_is_cut_off() {
    let (folder, data) = questions(3);
    let out = folder.path().join("out.json");
    eval(&data, Some(&out), &[]);
    let before = written(&out);
    let journal = folder.path().join("out.journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    for torn in [text.len() - 1, text.len() - 9, text.find('\n').unwrap() + 5, 7, 0] {
        std::fs::write(&journal, &text[..torn]).unwrap();
        eval(&data, Some(&out), &[]);
        assert_eq!(written(&out), before, "torn at {torn}");
        assert_eq!(std::fs::read_to_string(&journal).unwrap(), text, "torn at {torn}");
    }
}

#[test]
fn merged_shards_give_the_bytes_of_one_run_whatever_the_threads() {
    let (folder, data) = questions(7);
    let at = |name: &str| folder.path().join(name);
    let stdout = eval(&data, Some(&at("whole.json")), &["--json", "--threads", "1"]).stdout;
    for (file, more) in [("a.json", &["--shard", "1/2", "--threads", "2"][..]), ("b.json", &["--shard", "2/2"])] {
        // Killed at any moment, a shard loses nothing.
        cli::killed_until_it_ends(|| command(&data, Some(&at(file)), more), Duration::from_millis(100));
    }
    let merge = format!("{},{}", at("b.json").display(), at("a.json").display());
    eval(&data, Some(&at("merged.json")), &["--merge", &merge]);
    assert_eq!(written(&at("whole.json")), written(&at("merged.json")));
    assert_eq!(stdout, written(&at("whole.json")).0);
    let figures: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    let cells = figures["cells"].as_array().unwrap();
    let of = |i: usize| (cells[i]["policy"].as_str().unwrap(), cells[i]["retain"].as_f64().unwrap());
    assert_eq!((cells.len(), of(0), of(1), of(6)), (7, ("full", 1.0), ("aircache", 0.3), ("random", 0.1)));
    for cell in cells {
        assert_eq!(cell["n"], 7);
        let share = cell["exact_match"].as_f64().unwrap();
        let [low, high] = [0, 1].map(|i| cell["ci95"][i].as_f64().unwrap());
        assert!((0.0..=1.0).contains(&low) && low <= share && share <= high && high <= 1.0);
    }
    // A shard alone is part of the whole.
    let shard: serde_json::Value = serde_json::from_slice(&written(&at("a.json")).0).unwrap();
    assert_eq!(shard["cells"][0]["n"], 4);
}

#[test]
fn without_out_nothing_is_written() {
    let (folder, data) = questions(1);
    let table = eval(&data, None, &[]).stdout;
    assert!(String::from_utf8(table).unwrap().starts_with("policy "));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn bad_input_is_one_line_and_exit_2() {
    let (folder, data) = questions(1);
    let out = folder.path().join("out.json");
    eval(&data, Some(&out), &[]);
    let line = std::fs::read_to_string(&data).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let other = file("other.jsonl", &format!("{line}\n{line}"));
    let bad = file("bad.jsonl", &format!("{line}\n{{\"question\": 1}}"));
    let gone = file("gone.jsonl", r#"{"image": "nowhere.png", "question": "?", "answer": "x"}"#);
    let none = file("none.jsonl", "\n\n");
    let unaccepted = file("unaccepted.jsonl", &line.replace("\"answer\":\"", "\"answer\":[],\"was\":\""));
    let picture = file("picture.jsonl", r#"{"image": "bad.jsonl", "question": "?", "answer": "x"}"#);
    let cases: [(&Path, Option<&Path>, &[&str], &str); 11] = [
        (&other, Some(&out), &[], "out.journal.jsonl: data: expected"),
        (&bad, None, &[], "bad.jsonl: line 2"),
        (&gone, None, &[], "gone.jsonl: line 1: image"),
        (&none, None, &[], "none.jsonl"),
        (&unaccepted, None, &[], "unaccepted.jsonl: line 1: answer"),
        (&picture, None, &[], "question 1"),
        (Path::new("nowhere.jsonl"), None, &[], "nowhere.jsonl"),
        (&data, None, &["--shard", "0/2"], "1 <= i <= n"),
        (&data, None, &["--merge", "nowhere.json"], "nowhere.journal.jsonl"),
        (&data, None, &["--precision", "f8"], "f8"),
        (&data, Some(Path::new("/nowhere/out.json")), &[], "/nowhere/out.json"),
    ];
    for (data, out, more, told) in cases {
        let done = command(data, out, more).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains(told) && said.lines().count() == 1, "{told}: {said}");
    }
    for (option, value, told) in
        [("--policies", "airache", "airache"), ("--retain", "0.5,0", "retain"), ("--retain", "2", "retain")]
    {
        let mut bad = Command::new(env!("CARGO_BIN_EXE_aircache"));
        let done = bad.args(["eval", option, value, "--data"]).arg(&data).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(2) && said.contains(told) && said.lines().count() == 1, "{said}");
    }
}

/// Stdout as JSON.
fn figures(done: &Output) -> serde_json::Value {
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn several_metrics_in_one_run_and_in_every_form() {
    let (folder, data) = questions(7);
    let out = folder.path().join("out.json");
    let metrics = ["--metric", "exact,anls-lmms,vqa,contains@vlmevalkit"];
    let told = figures(&eval(&data, Some(&out), &[&metrics[..], &["--json"]].concat()));
    let cell = &told["cells"][0];
    assert_eq!(cell["metrics"]["exact"]["mean"], cell["exact_match"]);
    assert_eq!(cell["metrics"]["exact"]["ci95"], cell["ci95"]);
    assert_eq!(cell["metrics"].as_object().unwrap().len(), 4);
    let kinds = cell["metrics"]["anls-lmms"]["kinds"].as_object().unwrap();
    assert_eq!(kinds.values().map(|kind| kind["n"].as_u64().unwrap()).sum::<u64>(), 7);
    let text = |form: &str| {
        let done = eval(&data, Some(&out), &[&metrics[..], &["--format", form]].concat());
        String::from_utf8(done.stdout).unwrap()
    };
    let csv = text("csv");
    assert!(csv.starts_with("policy,retain,metric,kind,n,mean,stderr,low,high\nfull,1,exact,,7,"), "{csv}");
    assert_eq!(csv.lines().count(), 1 + 7 * 4 * (1 + kinds.len()));
    let latex = text("latex");
    assert_eq!(latex.matches("\\begin{tabular}{lrrr}").count(), 4, "{latex}");
    assert_eq!(text("text").matches("\npolicy").count(), 3);
    // Another metric scores the same answers: the journal does not change.
    let journal = std::fs::read(folder.path().join("out.journal.jsonl")).unwrap();
    eval(&data, Some(&out), &["--metric", "relaxed"]);
    assert_eq!(std::fs::read(folder.path().join("out.journal.jsonl")).unwrap(), journal);
}

#[test]
fn a_recipe_asks_and_is_stored() {
    let (folder, data) = questions(2);
    let (plain, asked) = (folder.path().join("plain.json"), folder.path().join("asked.json"));
    eval(&data, Some(&plain), &[]);
    let recipe = ["--recipe", "lmms-eval/textvqa-val"];
    let done = eval(&data, Some(&asked), &[&recipe[..], &["--json"]].concat());
    let told = figures(&done);
    assert_eq!(told["recipe"]["name"], recipe[1]);
    assert_eq!(told["recipe"]["system"], "You are a helpful assistant.", "the demo model is a LLaVA-OneVision");
    assert_eq!(told["max_new_tokens"], 16, "an option wins");
    assert!(told["cells"][0]["metrics"]["vqa"]["n"] == 2);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("recipe    lmms-eval/textvqa-val: TextVQA") && said.contains("capitalize"), "{said}");
    // A file of the user's own, which writes the question as it is, gives the answers without a recipe.
    let own = folder.path().join("own.toml");
    std::fs::write(&own, "about = \"mine\"\nmetrics = [\"exact\"]\n[ask]\nprompt = \"{{ question }}\"\n").unwrap();
    let mine = folder.path().join("mine.json");
    eval(&data, Some(&mine), &["--recipe", own.to_str().unwrap()]);
    let answers = |out: &str| {
        let text = std::fs::read_to_string(folder.path().join(out)).unwrap();
        text.split_once('\n').unwrap().1.to_string()
    };
    assert_eq!(answers("mine.journal.jsonl"), answers("plain.journal.jsonl"));
    // The journal of a recipe is another evaluation's.
    let done = command(&data, Some(&plain), &recipe).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.code() == Some(2) && said.contains("plain.journal.jsonl: recipe: expected"), "{said}");
    for (text, told) in [
        ("about = 1", "own.toml: line 1: expected a recipe in TOML"),
        ("about = \"x\"\nmetrics = [\"exact\"]\n[ask]\nprompts = \"x\"", "own.toml: line 4"),
        ("about = \"x\"\nmetrics = [\"exat\"]\n[ask]", "own.toml: metric: expected one of exact"),
        ("about = \"x\"\nmetrics = [\"exact\"]\n[ask]\nprompt = \"{{ hints }}\"", "own.toml: prompt: question 1"),
        (
            "about = \"x\"\nmetrics = [\"exact\"]\n[ask]\nprompt = \"{% for\"",
            "own.toml: prompt: expected a Jinja template",
        ),
    ] {
        std::fs::write(&own, text).unwrap();
        let done = command(&data, None, &["--recipe", own.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        let last = said.lines().last().unwrap_or_default();
        assert!(done.status.code() == Some(2) && last.contains(told), "{told}: {said}");
    }
}

#[test]
fn cells_are_compared_on_the_same_questions() {
    let (folder, data) = questions(9);
    let (one, two) = (folder.path().join("one.json"), folder.path().join("two.json"));
    eval(&data, Some(&one), &[]);
    eval(&data, Some(&two), &["--precision", "bf16"]);
    let compare = |more: &[&str]| {
        let mut compare = Command::new(env!("CARGO_BIN_EXE_aircache"));
        compare.arg("eval").arg("--data").arg(&data).arg("--compare").arg(&one).args(more).output().unwrap()
    };
    let told = figures(&compare(&["--json", "--metric", "exact,anls"]));
    let all = told["comparisons"].as_array().unwrap();
    assert_eq!(all.len(), 12, "six cells against the full cache, two metrics");
    let random = all.iter().find(|c| c["second"] == "random@0.1" && c["metric"] == "exact").unwrap();
    let d = &random["difference"];
    let number = |key: &str| d[key].as_f64().unwrap();
    let means = d["means"].as_array().unwrap();
    assert!((number("difference") - (means[1].as_f64().unwrap() - means[0].as_f64().unwrap())).abs() < 1e-12);
    assert_eq!((&random["first"], &d["n"]), (&"full@1".into(), &9.into()));
    assert!(d["kinds"].as_object().unwrap().len() > 1);
    // The same retention of another policy, and a second file.
    let told = figures(&compare(&["--json", "--against", "h2o"]));
    let firsts: Vec<&str> =
        told["comparisons"].as_array().unwrap().iter().map(|c| c["first"].as_str().unwrap()).collect();
    assert_eq!(firsts, ["h2o@0.3", "h2o@0.1", "h2o@0.3", "h2o@0.1"]);
    let text = String::from_utf8(compare(&[two.to_str().unwrap()]).stdout).unwrap();
    assert!(text.matches("sign test p = ").count() >= 7 && text.contains("two.json: full@1 against"), "{text}");
    for (more, told) in [
        (&["--against", "h20"][..], "--against: expected one of full, aircache"),
        (&["nowhere.json"], "nowhere.journal.jsonl"),
        (&["--metric", "choice"], "question 1: expected \"options\""),
    ] {
        let done = compare(more);
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(2) && said.contains(told) && said.lines().count() == 1, "{told}: {said}");
    }
}

#[test]
fn questions_may_be_conversations_and_choices() {
    let (folder, data) = questions(1);
    let question: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&data).unwrap()).unwrap();
    let (image, text) = (&question["image"], &question["question"]);
    let said = serde_json::json!([{"role": "user", "content": [{"type": "image", "path": image}, {"type": "text", "text": text}]}]);
    let turns = serde_json::json!([
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Read the title."}]},
        {"role": "assistant", "content": "I did."},
        {"role": "user", "content": text},
    ]);
    let lines = [
        question.clone(),
        serde_json::json!({"messages": said, "answer": "x"}),
        serde_json::json!({"messages": turns, "image": image, "answer": "x"}),
        serde_json::json!({"image": [image, image], "question": "Which is which?", "answer": "A", "options": ["one", "two"], "group": 1}),
    ];
    let file = |lines: &[serde_json::Value]| {
        let path = folder.path().join("mixed.jsonl");
        std::fs::write(&path, lines.iter().map(|l| l.to_string()).collect::<Vec<_>>().join("\n")).unwrap();
        path
    };
    let out = folder.path().join("mixed.json");
    eval(&file(&lines), Some(&out), &[]);
    let journal = std::fs::read_to_string(folder.path().join("mixed.journal.jsonl")).unwrap();
    let answers: Vec<serde_json::Value> = journal
        .lines()
        .skip(1)
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["answers"].clone())
        .collect();
    assert_eq!(answers[0], answers[1], "one turn is one question");
    assert_eq!(answers.len(), 4);
    let bad = [
        (
            serde_json::json!({"messages": said, "question": "?", "answer": "x"}),
            "line 1: expected \"messages\", or \"question\"",
        ),
        (serde_json::json!({"messages": [{"role": "user"}], "answer": "x"}), "line 1: messages: message 1"),
        (serde_json::json!({"answer": "x"}), "line 1: expected an object with"),
        (
            serde_json::json!({"messages": [{"role": "user", "content": [{"type": "image", "path": "no.png"}]}], "answer": "x"}),
            "no.png",
        ),
    ];
    for (line, told) in bad {
        let done = command(&file(&[line]), None, &[]).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(2) && said.contains(told) && said.lines().count() == 1, "{told}: {said}");
    }
}

#[test]
fn two_processes_do_not_write_one_journal() {
    let (folder, data) = questions(9);
    let out = folder.path().join("out.json");
    let mut first =
        command(&data, Some(&out), &["--threads", "1"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    let journal = folder.path().join("out.journal.jsonl");
    while std::fs::read(&journal).is_ok_and(|text| text.is_empty()) || !journal.exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let second = command(&data, Some(&out), &[]).output().unwrap();
    let running = first.try_wait().unwrap().is_none();
    first.wait().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    // A first run that is already done does not keep the second from scoring again.
    assert!(second.status.success() || said.contains("one that is being written"), "{said}");
    assert!(!running || !second.status.success(), "{said}");
}
