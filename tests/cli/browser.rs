//! The page of `explain` in a real browser, headless: what the address asks for, what the slider, buttons and keys do, which
//! pixels are lit. AIRCACHE_BROWSER names the browser; without it chromium is tried, and where there is none, nothing is tested.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What is done to the page, and written into it for us to read.
const HAND: &str = r##"<script>
const log = [];
function note(what) {
  const canvas = document.querySelector("canvas"), pen = canvas.getContext("2d");
  const [height, width] = data.images[0];
  const veil = data.tokens.map((t) => t.length === 1 ? -1 : pen.getImageData(
    (t[2] + t[4]) / 2 * canvas.width / width, (t[1] + t[3]) / 2 * canvas.height / height, 1, 1).data[3]);
  log.push({ what, which: $("which").textContent, legend: $("legend").textContent, hash: location.hash, veil,
    row: [...document.querySelectorAll(".answers tr.on")].map((r) => r.textContent).join(),
    marked: document.querySelectorAll("#prompt .elite").length, bar: document.querySelectorAll("#budgets tr.on").length });
}
const press = (text) => [...document.querySelectorAll("button")].find((b) => b.textContent === text).click();
const slide = (at) => { $("layer").value = at; $("layer").dispatchEvent(new Event("input")); };
note("at first");
press("tiles"); slide(4); note("slider");
press("snapkv"); note("button");
document.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true })); note("key");
press("importance"); note("importance");
document.querySelector("tr[data-policy='0']").click(); slide(0); press("kept patches"); note("row");
document.querySelector("#budgets tr[data-layer='1']").click(); note("budget");
const out = document.createElement("pre");
out.id = "log";
out.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(log))));
document.body.append(out);
</script></body>"##;

fn browser() -> Option<String> {
    let named = std::env::var("AIRCACHE_BROWSER").ok();
    let name = named.clone().unwrap_or_else(|| "chromium".into());
    let there = Command::new(&name).arg("--version").output().is_ok_and(|done| done.status.success());
    assert!(there || named.is_none(), "AIRCACHE_BROWSER = {name} does not run");
    there.then_some(name)
}

/// The document after its scripts have run.
fn dom(browser: &str, page: &Path, fragment: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.args(["--window-size=1300,1200", "--virtual-time-budget=2000", "--dump-dom"]);
    let done = command.arg(format!("file://{}{fragment}", page.display())).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn the_page_does_what_it_is_asked_for() {
    let Some(browser) = browser() else {
        println!("no browser here: nothing was tested");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut explain = Command::new(env!("CARGO_BIN_EXE_aircache"));
    explain.args(["explain", "--quiet", "--json", "--policies", "aircache,snapkv,random", "--retain", "0.1", "--out"]);
    let told = explain.arg(at("page.html")).output().unwrap().stdout;
    let told: Value = serde_json::from_slice(&told).unwrap();
    let page = std::fs::read_to_string(at("page.html")).unwrap();

    // What the address asks for is what is shown.
    let shown = dom(&browser, &at("page.html"), "#policy=1&layer=3&view=importance");
    for there in
        ["<output id=\"which\">layer 3</output>", "<tr data-layer=\"3\" class=\"on\">", "Importance: the attention"]
    {
        assert!(shown.contains(there), "{there}");
    }
    let answer = format!("<td class=\"answer\">{}</td>", told["policies"][1]["text"].as_str().unwrap());
    let row = shown.split("<tr data-policy=\"1\" class=\"on\">").nth(1).expect("the row of the policy is on");
    assert!(row.split("</tr>").next().unwrap().contains(&answer));

    // A hand on the controls.
    assert_eq!(page.matches("</body>").count(), 1);
    std::fs::write(at("driven.html"), page.replace("</body>", HAND)).unwrap();
    let driven = dom(&browser, &at("driven.html"), "");
    let log = driven.split("<pre id=\"log\">").nth(1).expect("the script came to its end").split('<').next().unwrap();
    let log: Vec<Value> = serde_json::from_slice(&BASE64_STANDARD.decode(log).unwrap()).unwrap();
    let of = |what: &str| log.iter().find(|l| l["what"] == what).unwrap();
    let text = |what: &str, key: &str| of(what)[key].as_str().unwrap();
    let which: Vec<&str> = log.iter().map(|l| l["which"].as_str().unwrap()).collect();
    assert_eq!(which, ["all layers", "layer 3", "layer 3", "layer 5", "layer 5", "all layers", "layer 1"]);
    for (what, policy) in [("at first", 0), ("slider", 0), ("button", 1), ("key", 1), ("row", 0)] {
        let told = &told["policies"][policy];
        let row = text(what, "row");
        assert!(row.starts_with(told["policy"].as_str().unwrap()), "{what}: {row}");
        assert!(row.contains(told["text"].as_str().unwrap()), "{what}: {row}");
        assert!(of(what)["marked"].as_u64().unwrap() > 0, "{what}: voters are marked");
    }
    assert_eq!(text("key", "hash"), "#policy=1&layer=5&view=kept&size=fine");
    assert!(text("importance", "legend").starts_with("Importance"));
    assert_eq!((of("at first")["bar"].as_u64(), of("budget")["bar"].as_u64()), (Some(0), Some(1)));

    // The pixels: among the tiles' tokens, those and only those that stay in the layer are holes in the veil.
    let data = page.split("<script type=\"application/json\" id=\"data\">").nth(1).unwrap();
    let data: Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    let tokens = data["tokens"].as_array().unwrap();
    for (what, policy, layer) in [("slider", 0, 3), ("button", 1, 3), ("key", 1, 5), ("budget", 0, 1)] {
        let kept = BASE64_STANDARD.decode(data["policies"][policy]["kept"].as_str().unwrap()).unwrap();
        let (mut lit, mut dark) = (0, 0);
        for (v, token) in tokens.iter().enumerate().filter(|(_, t)| t[5] == 0) {
            let veil = of(what)["veil"][v].as_f64().unwrap();
            // Where KV heads differ, a token of half of them takes away half of the veil, whose alpha is 204.
            let share = f64::from(kept[layer * tokens.len() + v]) / 255.0;
            let want = 204.0 * (1.0 - share);
            assert!((veil - want).abs() < 8.0, "{what}: token {v} at {token} has veil {veil}, not {want}");
            *(if share > 0.0 { &mut lit } else { &mut dark }) += 1;
        }
        assert!(lit > 5 && dark > 100, "{what}: {lit} lit, {dark} dark");
    }
}
