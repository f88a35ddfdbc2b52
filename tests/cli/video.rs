//! Every command on lists of frames, and what is said about lists that are none.

use crate::common::cli::{Cli, answers_records_and_checks, edit, fails, golden, toy, toy_of};
use aircache::golden::Bundle;
use serde_json::Value;
use std::path::Path;

/// The checkpoint of a video's case at `model`, its frames in `frames`; how many.
fn film_of(cli: &Cli, case: &str) -> usize {
    let (from, to) = (golden().join("video").join(case), cli.path("model"));
    let about: Value = serde_json::from_slice(&std::fs::read(from.join("case.json")).unwrap()).unwrap();
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(|e| e.unwrap()) {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_file() && name != "case.json" && name != "expected.safetensors" {
                std::fs::copy(entry.path(), to.join(name)).unwrap();
            }
        }
    };
    copy(&from.join(about["model"].as_str().unwrap()), &to);
    copy(&from, &cli.path("frames"));
    std::fs::write(cli.path("frames/.hidden"), "not a frame").unwrap();
    about["frames"].as_array().unwrap().len()
}

const ASK: [&str; 7] = ["--model", "model", "--video", "frames", "--prompt", "What happens?", "--quiet"];

fn with<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [command, &ASK[..], more].concat()
}

/// visual: rows of the video; together: frames that a row saw.
fn every_command(cli: &Cli, family: &str, frames: usize, visual: usize, together: usize) {
    let b = answers_records_and_checks(cli, &ASK, family, visual);

    // One by one, the frames are what the folder is.
    let names: Vec<String> = (0..frames).map(|i| format!("frames/frame{i}.png")).collect();
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    let ask = ["record", "--model", "model", "--prompt", "What happens?", "--quiet", "--stages", "input.*"];
    cli.ok(&[&ask[..], &["--out", "listed", "--video"], &listed].concat());
    let c = Bundle::open(&cli.path("listed")).unwrap();
    for name in ["input.ids", "input.pixels"] {
        assert_eq!(b.stage(name).unwrap().data, c.stage(name).unwrap().data, "{name}");
    }
    assert_eq!(b.metadata("images"), c.metadata("images"));

    // Every row's rectangle is drawn in the frames that it saw.
    cli.ok(&with(&["explain", "--retain", "0.3", "--policies", "aircache"], &["--out", "page.html"]));
    let page = std::fs::read_to_string(cli.path("page.html")).unwrap();
    assert_eq!(page.matches("alt=\"frame ").count(), frames);
    let data = page.split("<script type=\"application/json\" id=\"data\">").nth(1).unwrap();
    let data: Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    let tokens = data["tokens"].as_array().unwrap();
    assert_eq!((tokens.len(), data["images"].as_array().unwrap().len()), (visual, frames));
    for (frame, size) in data["images"].as_array().unwrap().iter().enumerate() {
        let saw = |t: &&Value| {
            let first = t[0].as_u64().unwrap() as usize;
            t.get(1).is_some() && (first..first + t[6].as_u64().unwrap() as usize).contains(&frame)
        };
        let side = |t: &Value, i: usize| t[i].as_f64().unwrap();
        let area = |t: &Value| (side(t, 3) - side(t, 1)) * (side(t, 4) - side(t, 2));
        let (whole, drawn) = (size[0].as_f64().unwrap() * size[1].as_f64().unwrap(), tokens.iter().filter(saw));
        let share = drawn.map(area).sum::<f64>() / whole;
        assert!((share - 1.0).abs() < 0.01, "frame {frame}: {share} of it is drawn");
    }
    assert!(tokens.iter().filter(|t| t.get(1).is_some()).all(|t| t[6].as_u64().unwrap() as usize <= together));
    let picture = ["--format", "png", "--which", "1", "--out", "frame.png"];
    cli.ok(&with(&["explain", "--retain", "0.3", "--policies", "aircache"], &picture));
    fails(cli, &with(&["explain"], &["--format", "png", "--which", "9", "--out", "none.png"]), &["image", "9"]);

    let run = |retain: &str| cli.ok(&with(&["run", "--retain", retain, "--max-new-tokens", "3"], &[]));
    let lines = [
        serde_json::json!({"video": listed, "question": "What happens?", "answer": "x"}),
        serde_json::json!({"video": "frames", "question": "What happens?", "answer": ["y", "x"]}),
    ];
    std::fs::write(cli.path("q.jsonl"), lines.map(|l| l.to_string()).join("\n")).unwrap();
    let eval = ["eval", "--model", "model", "--data", "q.jsonl", "--policies", "full,aircache", "--retain", "0.3"];
    let cells = cli.json(&[&eval[..], &["--max-new-tokens", "3", "--json", "--quiet"]].concat());
    assert_eq!(cells["cells"].as_array().unwrap().len(), 2);
    let batch =
        ["run", "--model", "model", "--batch", "q.jsonl", "--retain", "0.3", "--max-new-tokens", "3", "--quiet"];
    let answers = cli.ok(&batch);
    let answers: Vec<Value> = answers.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(answers.len(), 2);
    for answer in answers {
        assert_eq!(answer["text"].as_str().unwrap().trim(), run("0.3").trim(), "{answer}");
    }
}

#[test]
fn every_command_works_on_frames_of_qwen2_vl() {
    let cli = Cli::new();
    let frames = film_of(&cli, "qwen2-vl-even");
    every_command(&cli, "qwen2_vl", frames, 16, 2);
    let text = cli.ok(&["inspect", "model"]);
    for words in ["frames are read 2 at a time, at a multiple of 8 × 8 px, of 256 to 2048 pixels", "224 × 224: 25, 25;"]
    {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    // Seven frames, four moments: the last of them has one.
    let cli = Cli::new();
    assert_eq!(film_of(&cli, "qwen2-vl-odd"), 7);
    every_command(&cli, "qwen2_vl", 7, 16, 2);
}

#[test]
fn every_command_works_on_frames_of_llava_onevision() {
    let cli = Cli::new();
    let frames = film_of(&cli, "llava-own");
    every_command(&cli, "llava_onevision", frames, 13, 1);
    let json = cli.json(&["inspect", "model", "--json"]);
    assert_eq!(json["video_tokens"][0]["one_frame"], 5);
    assert_eq!(json["video_tokens"][0]["two_frames"], 9);
    assert!(json["video"].as_str().unwrap().contains("2 × 2 tokens"), "{}", json["video"]);
}

/// The demo model was not made for videos, but reads them.
#[test]
fn the_demo_model_reads_frames() {
    let cli = Cli::new();
    film_of(&cli, "qwen2-vl-even");
    let run =
        ["run", "--video", "frames", "--prompt", "Give me the Fee.", "--json", "--quiet", "--max-new-tokens", "2"];
    assert_eq!(cli.json(&run)["visual_tokens"], 4 * 16 + 1);
}

#[test]
fn what_is_no_list_of_frames_is_named() {
    let cli = Cli::new();
    film_of(&cli, "qwen2-vl-even");
    let ask =
        |video: &[&'static str]| [&["run", "--model", "model", "--prompt", "What?", "--video"][..], video].concat();
    fails(&cli, &ask(&["frames/frame0.png", "frames/frame9.png"]), &["frame9.png"]);
    std::fs::create_dir(cli.path("empty")).unwrap();
    fails(&cli, &ask(&["empty"]), &["empty", "a folder of frames", "no file"]);
    std::fs::copy(golden().join("video/llava-own/frame0.png"), cli.path("small.png")).unwrap();
    let sizes = ["small.png", "17 × 30 pixels", "frame0.png", "20 × 20", "resize"];
    fails(&cli, &ask(&["frames/frame0.png", "small.png"]), &sizes);
    std::fs::write(cli.path("film.mp4"), b"\0\0\0\x18ftypmp42").unwrap();
    fails(&cli, &ask(&["film.mp4"]), &["film.mp4", "ffmpeg"]);
    let both = [&ask(&["frames"])[..], &["--image", "small.png"]].concat();
    let output = cli.run(&both);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--image"));
    let no_question = ["run", "--model", "model", "--video", "frames"];
    fails(&cli, &no_question, &["--prompt"]);
    let placed = ["run", "--model", "model", "--video", "frames", "--prompt", "<|video_pad|>?"];
    fails(&cli, &placed, &["prompt", "2 and 0"]);

    let question = |line: &str| std::fs::write(cli.path("q.jsonl"), line).unwrap();
    let batch = ["run", "--model", "model", "--batch", "q.jsonl"];
    question(r#"{"image": "small.png", "video": "frames", "question": "What?"}"#);
    fails(&cli, &batch, &["line 1", "both"]);
    question(r#"{"video": ["frames/frame0.png", "gone.png"], "question": "What?"}"#);
    fails(&cli, &batch, &["line 1: video", "gone.png"]);
    question(r#"{"video": ["frames/frame0.png", "small.png"], "question": "What?"}"#);
    fails(&cli, &batch, &["question 1", "small.png", "20 × 20"]);

    // As many frames as no prompt has.
    let many = vec!["frames"; 200];
    fails(&cli, &[&["run", "--model", "model", "--prompt", "What?", "--video"][..], &many].concat(), &["max_position"]);
    edit(&cli.path("model").join("config.json"), |c| c["video_token_id"] = 100_000.into());
    fails(&cli, &ask(&["frames"]), &["config.json", "video_token_id"]);
}

/// Clips of the families that take their time into positions or into the prompt, and of the family whose frames are images.
#[test]
fn clips_with_their_time_are_read_recorded_and_checked() {
    for (case, family, visual) in [
        ("video/qwen2-5-vl-slow", "qwen2_5_vl/hub-bf16", 16),
        ("video/qwen3-vl-timed", "qwen3_vl/hub-bf16", 16),
        ("video/internvl-frames", "internvl/qwen2-bf16", 12),
        ("video/internvl-frames", "internvl2/qwen2", 12),
    ] {
        let cli = Cli::new();
        toy_of(&cli, family);
        let frames: Vec<String> = (0..3).map(|i| format!("{case}/frame{i}.png")).collect();
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let frames: Vec<String> = frames.iter().map(|f| golden.join(f).display().to_string()).collect();
        let ask = ["--model", "model", "--prompt", "What?", "--fps", "2", "--quiet", "--video"];
        let ask: Vec<&str> = ask.into_iter().chain(frames.iter().map(String::as_str)).collect();
        let record = ["record", "--retain", "0.3", "--policy", "aircache", "--max-new-tokens", "3", "--out", "b"];
        cli.ok(&[&record[..], &ask].concat());
        let b = aircache::golden::Bundle::open(&cli.path("b")).unwrap();
        let roles = b.i64("input.roles").unwrap();
        assert_eq!(roles.iter().filter(|&&role| role == 1).count(), visual, "{case} by {family}");
        cli.ok(&["check", "--model", "model", "b", "--quiet"]);
    }
}

/// D4.17: a note, the JSON and the bundle name the chosen frames and their times; other frames are not opened.
#[test]
fn d4_17_chosen_frames_are_named_and_no_other_is_opened() {
    let cli = Cli::new();
    assert_eq!(film_of(&cli, "qwen3-vl-chosen"), 13);
    std::fs::write(cli.path("frames/frame1.png"), "no picture").unwrap();
    let ask = ["--model", "model", "--video", "frames", "--prompt", "What happens?", "--max-new-tokens", "2"];
    let with = |command: &[&'static str], more: &[&'static str]| [command, &ask[..], more].concat();
    let chosen = ["--fps", "10", "--frames", "5/s"];
    let words = "6 of 13 frames: 0 (0.0 s), 2 (0.2 s), 5 (0.5 s), 7 (0.7 s), 10 (1.0 s), 12 (1.2 s)";
    let output = cli.run(&with(&["run", "--json"], &chosen));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("note: the model reads {words}")), "{said}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let frames = serde_json::json!({"read": [0, 2, 5, 7, 10, 12], "seconds": [0.0, 0.2, 0.5, 0.7, 1.0, 1.2], "of": 13, "fps": 10.0});
    assert_eq!(result["frames"], frames);
    cli.ok(&with(&["record", "--quiet"], &[&chosen[..], &["--out", "b"]].concat()));
    let bundle = Bundle::open(&cli.path("b")).unwrap();
    assert!(bundle.metadata("preprocess").unwrap().contains(words), "{:?}", bundle.metadata("preprocess"));
    cli.ok(&["check", "--model", "model", "b", "--quiet"]);

    // The settings of the checkpoint: two a second, of a film that is taken to have 24; four at least.
    let said = String::from_utf8_lossy(&cli.run(&with(&["run"], &["--frames", "rule"])).stderr).into_owned();
    assert!(said.contains("4 of 13 frames: 0 (0.0 s), 4 (0.2 s), 8 (0.3 s), 12 (0.5 s)"), "{said}");
    assert!(said.contains("taken to have 24 frames a second (--fps"), "{said}");

    // A file of questions, and the journal that knows the choice.
    std::fs::write(cli.path("q.jsonl"), r#"{"video": "frames", "question": "What happens?", "answer": "x"}"#).unwrap();
    let eval =
        ["eval", "--model", "model", "--data", "q.jsonl", "--policies", "full", "--max-new-tokens", "2", "--quiet"];
    cli.ok(&[&eval[..], &["--frames", "4", "--out", "r.json"]].concat());
    fails(&cli, &[&eval[..], &["--frames", "2", "--out", "r.json"]].concat(), &["r.journal.jsonl"]);
    fails(&cli, &[&eval[..], &["--frames", "13"]].concat(), &["question 1", "frame1.png"]);
    fails(&cli, &with(&["run"], &["--frames", "0"]), &["--frames"]);
    toy_of(&cli, "llava_clip/vicuna-f16");
    fails(&cli, &with(&["run"], &["--frames", "rule"]), &["LLaVA-OneVision, Qwen2-VL"]);
}

#[test]
fn families_and_settings_without_videos_are_named() {
    let cli = Cli::new();
    toy_of(&cli, "llava_clip/vicuna-f16");
    let ask = ["run", "--model", "model", "--video", "image.png", "--prompt", "What?"];
    fails(&cli, &ask, &["LLaVA", "LLaVA-OneVision, Qwen2-VL", "--image"]);
    assert!(!cli.ok(&["inspect", "model"]).contains("frames"));
    let cli = Cli::new();
    let model = toy(&cli);
    edit(&model.join("processor_config.json"), |c| c["video_processor"]["do_center_crop"] = true.into());
    fails(&cli, &ask, &["processor_config.json: video_processor: do_center_crop"]);
    let text = cli.ok(&["inspect", "model"]);
    assert!(text.contains("videos cannot be read: ") && text.contains("do_center_crop"), "{text}");
    cli.ok(&[
        "run",
        "--model",
        "model",
        "--image",
        "image.png",
        "--prompt",
        "What?",
        "--quiet",
        "--max-new-tokens",
        "1",
    ]);
}
