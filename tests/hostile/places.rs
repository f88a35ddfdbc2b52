//! Files that are none, outputs onto what is no file, streams that are closed, surroundings without a home.

use crate::common::cli::golden;
use crate::{ASK, Case, Place, Want, case};
use std::os::unix::fs::symlink;

const RUN: &[&str] = &["run", "--quiet", "--max-new-tokens", "1"];

fn pipe(place: &Place, name: &str) {
    let _ = std::fs::remove_file(place.path(name));
    assert!(std::process::Command::new("mkfifo").arg(place.path(name)).status().unwrap().success());
}

/// A file of the toy that is a pipe, to which nobody writes.
fn piped(name: &'static str) -> Case {
    let args = [ASK, &["--model", "model"]].concat();
    case(format!("{name} is a pipe"), &args, Want::Refused(&["regular file"]), move |place| {
        place.toy("llava/wide");
        pipe(place, &format!("model/{name}"));
    })
}

fn zeros(name: &'static str) -> Case {
    let args = [ASK, &["--model", "model"]].concat();
    case(format!("{name} is a link to /dev/zero"), &args, Want::Refused(&["regular file"]), move |place| {
        place.toy("llava/wide");
        let _ = std::fs::remove_file(place.path(&format!("model/{name}")));
        symlink("/dev/zero", place.path(&format!("model/{name}"))).unwrap();
    })
}

fn out(what: &str, path: &str, want: Want, make: impl Fn(&Place) + Sync + 'static) -> Case {
    case(what, &[RUN, &["--out", path]].concat(), want, make)
}

fn surroundings(what: &str, line: &str, want: Want) -> Case {
    case(what, &[RUN, &["--out", "f"]].concat(), want, |_| {}).around(line)
}

/// A file of the model's own as the output.
fn onto_model(name: &'static str) -> Case {
    let (what, path) = (format!("--out onto the model's {name}"), format!("model/{name}"));
    let args = ["run", "--quiet", "--model", "model", "--image", "image.png", "--prompt", "x", "--out", &path];
    case(what, &args, Want::Refused(&["--out", "model/"]), |p| {
        p.toy("llava/wide");
    })
}

const QUESTION: &str = r#"{"image": ["i.png", "i.svg"], "question": "x", "answer": "y"}"#;

/// `eval` on the question file `data`, whose outputs would take the place of what it reads, or of each other: `hit`.
fn onto(what: &str, data: &'static str, out: &str, hit: &'static str) -> Case {
    let args = ["eval", "--quiet", "--data", data, "--policies", "full", "--out", out];
    let words: &'static [&'static str] = vec!["--out", hit].leak();
    case(what, &args, Want::Refused(words), move |p| {
        p.write(data, QUESTION);
        for image in ["i.png", "i.svg"] {
            std::fs::copy(golden().join("llava/wide/image0.png"), p.path(image)).unwrap();
        }
    })
}

const SAVE: &[&str] = &["run", "--save-samples", "d"];
const EXEC: &str = "\"$0\" \"$@\"";

pub(super) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> =
        ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"]
            .into_iter()
            .flat_map(|name| [piped(name), zeros(name)])
            .collect();
    all.extend([
        piped("processor_config.json"),
        case("the index is a pipe", &[ASK, &["--model", "model"]].concat(), Want::Refused(&["regular file"]), |p| {
            std::fs::remove_file(p.toy("llava/wide").join("model.safetensors")).unwrap();
            pipe(p, "model/model.safetensors.index.json");
        }),
        case("a model that is a pipe", &[RUN, &["--model", "p"]].concat(), Want::Refused(&["p"]), |p| pipe(p, "p")),
        case("a bundle that is a pipe", &["check", "p", "p"], Want::Refused(&["p"]), |p| pipe(p, "p")),
        case("a bundle that is /dev/zero", &["check", "/dev/zero", "/dev/zero"], Want::Refused(&["/dev/zero"]), |_| {}),
        case("a bundle that is a folder", &["compress", ".", "--retain", "0.5"], Want::Refused(&["."]), |_| {}),
        case("a bundle of a sparse terabyte", &["check", "b", "b"], Want::Refused(&["b"]), |p| {
            std::fs::File::create(p.path("b")).unwrap().set_len(1 << 40).unwrap();
        }),
        case("weights of a sparse terabyte", &[ASK, &["--model", "model"]].concat(), Want::Refused(&["model"]), |p| {
            let file = p.toy("llava/wide").join("model.safetensors");
            std::fs::File::create(file).unwrap().set_len(1 << 40).unwrap();
        }),
        out("--out onto a folder", "d", Want::Refused(&["d"]), |p| std::fs::create_dir(p.path("d")).unwrap()),
        out("--out onto the folder it is in", ".", Want::Refused(&["regular file"]), |_| {}),
        out("--out onto /", "/", Want::Refused(&["/"]), |_| {}),
        out("--out onto nothing", "", Want::Refused(&["--out"]), |_| {}),
        out("--out with a slash at its end", "f/", Want::Refused(&["f/"]), |_| {}),
        out("--out into a file", "x/f", Want::Refused(&["x/f"]), |p| p.write("x", "")),
        out("--out onto a pipe", "p", Want::Refused(&["p"]), |p| pipe(p, "p")),
        out("--out onto /dev/full", "/dev/full", Want::Refused(&["/dev/full"]), |_| {}),
        out("--out onto a link to itself", "l", Want::Refused(&["l"]), |p| symlink("l", p.path("l")).unwrap()),
        out("--out onto a link to nothing", "l", Want::Runs, |p| symlink("x", p.path("l")).unwrap()),
        case(
            "--out onto the weights that are being read",
            &[
                "record",
                "--quiet",
                "--model",
                "model",
                "--image",
                "image.png",
                "--prompt",
                "x",
                "--max-new-tokens",
                "1",
                "--no-noise",
                "--out",
                "model/model.safetensors",
            ],
            // The files of a model folder are inputs: whoever names one of them has mistaken it for another.
            Want::Refused(&["--out", "model.safetensors"]),
            |p| {
                p.toy("llava/wide");
            },
        ),
        onto_model("config.json"),
        onto_model("generation_config.json"),
        onto_model("tokenizer.json"),
        onto("eval's plot onto the question file", "q.svg", "q.json", "q.svg"),
        onto("eval's journal onto the question file", "q.journal.jsonl", "q.json", "q.journal.jsonl"),
        onto("eval --out onto an image of a question", "q", "i.png", "i.png"),
        onto("eval's plot onto an image of a question", "q", "i.json", "i.svg"),
        onto("eval --out and the plot of one name", "q", "r.svg", "r.svg"),
        case(
            "eval --out onto a model's file",
            &["eval", "--quiet", "--data", "q", "--model", "model", "--out", "model/config.json"],
            Want::Refused(&["--out", "config.json"]),
            |p| {
                p.toy("llava/wide");
                p.write("q", r#"{"question": "x", "answer": "y"}"#);
            },
        ),
        case(
            "eval with a folder where the plot would go",
            &["eval", "--quiet", "--data", "q", "--policies", "full", "--out", "r.json"],
            Want::Refused(&["r.svg", "regular file"]),
            |p| {
                p.write("q", r#"{"question": "x", "answer": "y"}"#);
                std::fs::create_dir(p.path("r.svg")).unwrap();
            },
        ),
        case(
            "check --html onto a bundle",
            &["check", "--html", "./g", "b", "g"],
            Want::Refused(&["--html", "g"]),
            |p| {
                p.write("g", "");
                p.write("b", "");
            },
        ),
        case(
            "run --out onto a frame of a video",
            &["run", "--quiet", "--video", "d", "--prompt", "x", "--out", "d/0.png"],
            Want::Refused(&["--out", "0.png"]),
            |p| {
                std::fs::create_dir(p.path("d")).unwrap();
                p.write("d/0.png", "");
            },
        ),
        case("--save-samples where files end at 3 kB", SAVE, Want::Refused(&["d/"]), |_| {})
            .around(&format!("ulimit -f 3; exec {EXEC}")),
        case("--save-samples where files end at 3 kB, into a folder", SAVE, Want::Refused(&["d/"]), |p| {
            std::fs::create_dir(p.path("d")).unwrap();
        })
        .around(&format!("ulimit -f 3; exec {EXEC}")),
        case(
            "--batch onto the question file itself",
            &["run", "--quiet", "--batch", "q", "--max-new-tokens", "1", "--out", "q"],
            Want::Refused(&["--out", "q"]),
            |p| p.write("q", r#"{"question": "x"}"#),
        ),
        case(
            "eval --out onto the question file, by a link",
            &["eval", "--quiet", "--data", "q", "--policies", "full", "--out", "l"],
            Want::Refused(&["--out", "q"]),
            |p| {
                p.write("q", r#"{"question": "x", "answer": "y"}"#);
                symlink("q", p.path("l")).unwrap();
            },
        ),
        case(
            "--out onto the image",
            &["run", "--quiet", "--image", "p", "--prompt", "x", "--out", "./p"],
            Want::Refused(&["--out", "p"]),
            |p| {
                std::fs::copy(golden().join("llava/wide/image0.png"), p.path("p")).unwrap();
            },
        ),
        surroundings("no variables at all", &format!("exec env -i {EXEC}"), Want::Runs),
        surroundings("a TMPDIR that is not there", &format!("TMPDIR=/nowhere HOME= exec {EXEC}"), Want::Runs),
        surroundings(
            "a terminal that is none",
            &format!("TERM=$(printf '\\033[2J') COLUMNS=-1 LINES=0 exec {EXEC}"),
            Want::Runs,
        ),
        surroundings(
            "a language that is none",
            &format!("LC_ALL=xx_YY.nothing LANG=$(printf '\\377') exec {EXEC}"),
            Want::Runs,
        ),
        surroundings(
            "AIRCACHE_ISA of junk",
            &format!("AIRCACHE_ISA=$(printf '\\377') exec {EXEC}"),
            Want::Refused(&["AIRCACHE_ISA"]),
        ),
        surroundings(
            "AIRCACHE_MEMORY of junk",
            &format!("AIRCACHE_MEMORY=$(printf '\\377') exec {EXEC}"),
            Want::Refused(&["AIRCACHE_MEMORY"]),
        ),
        surroundings(
            "AIRCACHE_MEMORY=0",
            &format!("AIRCACHE_MEMORY=0 exec {EXEC}"),
            Want::Refused(&["AIRCACHE_MEMORY"]),
        ),
        surroundings("RUST_MIN_STACK of 10¹⁴ bytes", &format!("RUST_MIN_STACK=99999999999999 exec {EXEC}"), Want::Runs),
        surroundings(
            "RUST_MIN_STACK of 2⁶⁴ − 1",
            &format!("RUST_MIN_STACK=18446744073709551615 exec {EXEC}"),
            Want::Runs,
        ),
        surroundings("RAYON_NUM_THREADS of 10¹¹", &format!("RAYON_NUM_THREADS=99999999999 exec {EXEC}"), Want::Runs),
        surroundings("RAYON_NUM_THREADS of 65535", &format!("RAYON_NUM_THREADS=65535 exec {EXEC}"), Want::Runs),
        surroundings(
            "256 threads where there is room for fewer",
            &format!("ulimit -v 400000; exec {EXEC} --threads 256"),
            Want::Refused(&["memory", "ulimit -v"]),
        ),
        surroundings("RAYON_NUM_THREADS of junk", &format!("RAYON_NUM_THREADS=-1 exec {EXEC}"), Want::Runs),
        surroundings(
            "a folder that has been removed",
            &format!("mkdir gone; cd gone; rmdir ../gone; exec {EXEC}"),
            Want::Refused(&["f"]),
        ),
        surroundings("stdin, stdout and stderr closed", &format!("exec {EXEC} <&- >&- 2>&-"), Want::Runs),
        surroundings("a full disk behind stdout", &format!("exec {EXEC} >/dev/full"), Want::Refused(&["stdout"])),
        surroundings("room for 20 open files, 9 of them taken", &format!("ulimit -n 20; exec {EXEC}"), Want::Runs),
        surroundings("files of at most 0 bytes", &format!("ulimit -f 0; exec {EXEC}"), Want::Refused(&["f"])),
        surroundings("a stack of 64 kB", &format!("ulimit -s 64; exec {EXEC}"), Want::Runs),
        case("a prompt that is no UTF-8", RUN, Want::Refused(&["UTF-8"]), |_| {})
            .around(&format!("exec {EXEC} --prompt \"$(printf 'a\\377')\"")),
        case("an image whose name is no UTF-8", RUN, Want::Runs, |p| {
            std::fs::copy(golden().join("llava/wide/image0.png"), p.path("p")).unwrap();
        })
        .around(&format!("n=$(printf 'a\\377\\nb'); mv p \"$n\"; exec {EXEC} --prompt x --image \"$n\"")),
        case("a missing image whose name is no UTF-8", RUN, Want::Refused(&["no"]), |_| {})
            .around(&format!("exec {EXEC} --prompt x --image \"$(printf 'no\\377\\n\\033[2J')\"")),
    ]);
    all
}
