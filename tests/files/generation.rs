//! `generation_config.json`: where its values come from, and what is said about bad ones.

use crate::common::raw::embedded as files;
use aircache::config::GenerationConfig;

#[test]
fn generation_settings_come_from_their_file_or_else_from_the_configuration() {
    let read = |text: &str| GenerationConfig::load(&files(&[("generation_config.json", text)]));
    let c = read(
        r#"{"eos_token_id": [3, 1], "pad_token_id": -1, "do_sample": true, "temperature": 0.7, "top_k": 20,
        "top_p": 0.8, "repetition_penalty": 1.1, "num_beams": 1, "bad_words_ids": null}"#,
    );
    let c = c.unwrap();
    assert_eq!((c.eos, c.pad, c.do_sample), (vec![3, 1], None, true));
    assert_eq!((c.temperature, c.top_k, c.top_p), (0.7, 20, 0.8));
    assert_eq!(c.not_followed, ["repetition_penalty = 1.1"]);
    let c = read(r#"{"eos_token_id": 3, "pad_token_id": 2, "temperature": 0, "top_k": null}"#).unwrap();
    assert_eq!((c.eos, c.pad, c.temperature, c.top_k), (vec![3], Some(2), 1.0, 50));
    assert!(read("{}").unwrap().eos.is_empty());

    let config = r#"{"text_config": {"eos_token_id": 5, "pad_token_id": null}}"#;
    assert_eq!(GenerationConfig::load(&files(&[("config.json", config)])).unwrap().eos, [5]);
    let config = r#"{"eos_token_id": [6], "text_config": {"eos_token_id": 5}}"#;
    assert_eq!(GenerationConfig::load(&files(&[("config.json", config)])).unwrap().eos, [6]);

    for (field, value) in [
        ("eos_token_id", "\"3\""),
        ("eos_token_id", "-3"),
        ("eos_token_id", "4294967296"),
        ("eos_token_id", "[1.5]"),
        ("eos_token_id", "[[1]]"),
        ("pad_token_id", "\"x\""),
        ("do_sample", "1"),
    ] {
        let e = read(&format!("{{\"{field}\": {value}}}")).unwrap_err();
        assert!(e.at.contains(field), "{field} = {value}: {e}");
    }
    // Greedy decoding reads none of these, so they are faults only of sampling.
    for (field, value) in [
        ("temperature", "-1"),
        ("temperature", "\"hot\""),
        ("top_k", "-1"),
        ("top_k", "2.5"),
        ("top_p", "0"),
        ("top_p", "1.5"),
    ] {
        let c = read(&format!("{{\"{field}\": {value}}}")).unwrap();
        assert_eq!((c.temperature, c.top_p), (1.0, 1.0));
        assert!(c.faults.len() == 1 && c.faults[0].0 == field && c.faults[0].1.at.contains(field), "{:?}", c.faults);
    }
    assert_eq!(read(r#"{"do_sample": true, "temperature": 0}"#).unwrap().faults.len(), 1);
}
