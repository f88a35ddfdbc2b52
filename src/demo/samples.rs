//! Forty rendered documents, drawn like the demo model's training images but not among them.

/// A sample image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Its file name: `00.png` … `39.png`.
    pub name: &'static str,
    /// The PNG file.
    pub png: &'static [u8],
}

macro_rules! samples {
    ($($number:literal)*) => {
        &[$(Sample {
            name: concat!($number, ".png"),
            png: include_bytes!(concat!("samples/", $number, ".png")),
        }),*]
    };
}

static SAMPLES: &[Sample] = samples! {
    "00" "01" "02" "03" "04" "05" "06" "07" "08" "09" "10" "11" "12" "13" "14" "15" "16" "17" "18" "19"
    "20" "21" "22" "23" "24" "25" "26" "27" "28" "29" "30" "31" "32" "33" "34" "35" "36" "37" "38" "39"
};

/// All sample images, by name.
pub fn samples() -> &'static [Sample] {
    SAMPLES
}

/// The sample image with this name, with or without `.png`.
pub fn sample(name: &str) -> Option<&'static Sample> {
    SAMPLES.iter().find(|s| s.name == name || s.name.strip_suffix(".png") == Some(name))
}
