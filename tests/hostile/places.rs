//! Files that are none, outputs onto what is no file, streams that are closed, surroundings without a home.

use crate::cli::golden;
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

fn out(what: &str, path: &str, want: Want, make: impl Fn(&Place) + 'static) -> Case {
    case(what, &[RUN, &["--out", path]].concat(), want, make)
}

fn surroundings(what: &str, line: &str, want: Want) -> Case {
    case(what, &[RUN, &["--out", "f"]].concat(), want, |_| {}).around(line)
}

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
            Want::Runs,
            |p| {
                p.toy("llava/wide");
            },
        ),
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
